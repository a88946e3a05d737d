//! Figures of operations, side by side.

use serde::Serialize;

use crate::boot::report::Bench;
use crate::table::{Table, grouped};

/// An operation in both kernels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Operation {
    /// Its name.
    pub name: String,
    /// Instructions it takes in ntmm's kernel; none when only Linux has it.
    pub ntmm: Option<u64>,
    /// Instructions it takes in Linux; none when it has no counterpart there, or Linux was not
    /// measured.
    pub linux: Option<u64>,
    /// The first divided by the second, to three places.
    pub ratio: Option<f64>,
}

/// All operations.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// In the order ntmm's kernel reports them, then those that only Linux has.
    pub operations: Vec<Operation>,
}

impl Comparison {
    /// Puts the figures of both side by side, by name.
    #[must_use]
    pub fn new(ntmm: &[Bench], linux: &[Bench]) -> Self {
        let only_linux = linux.iter().filter(|figure| find(ntmm, &figure.name).is_none());
        let names = ntmm.iter().chain(only_linux).map(|figure| figure.name.clone());
        let operation = |name: String| {
            let (ntmm, linux) = (find(ntmm, &name), find(linux, &name));
            Operation { name, ntmm, linux, ratio: ntmm.zip(linux).and_then(ratio) }
        };
        Self { operations: names.map(operation).collect() }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = Table::new(["operation", "ntmm", "linux", "ratio"]);
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), grouped);
        for Operation { name, ntmm, linux, ratio } in &self.operations {
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            table.row([name.replace('_', " "), number(*ntmm), number(*linux), ratio]);
        }
        table
    }
}

fn find(figures: &[Bench], name: &str) -> Option<u64> {
    let figure = figures.iter().find(|figure| figure.name == name);
    figure.map(|figure| figure.instructions)
}

fn ratio((ntmm, linux): (u64, u64)) -> Option<f64> {
    (linux != 0).then(|| (ntmm as f64 / linux as f64 * 1000.0).round() / 1000.0)
}

/// Says where two measurements of the same kernel differ; they must not.
#[must_use]
pub fn differences(first: &[Bench], second: &[Bench]) -> Vec<String> {
    let only_second = second.iter().filter(|figure| find(first, &figure.name).is_none());
    let names = first.iter().chain(only_second).map(|figure| figure.name.as_str());
    let figures = names.map(|name| (name, find(first, name), find(second, name)));
    let text = |figure: Option<u64>| figure.map_or_else(|| "nothing".to_owned(), grouped);
    let differing = figures.filter(|(_, first, second)| first != second);
    differing
        .map(|(name, first, second)| format!("{name} {} and then {}", text(first), text(second)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(figures: &[(&str, u64)]) -> Vec<Bench> {
        let figure =
            |&(name, instructions): &(&str, u64)| Bench { name: name.to_owned(), instructions };
        figures.iter().map(figure).collect()
    }

    #[test]
    fn counterparts_meet_by_name() {
        let ntmm = figures(&[("fault", 1000), ("write", 7), ("empty", 3)]);
        let linux = figures(&[("empty", 0), ("other", 5), ("fault", 3000)]);
        let comparison = Comparison::new(&ntmm, &linux);
        let json = serde_json::to_value(&comparison).expect("plain data");
        let expected = serde_json::json!({ "operations": [
            { "name": "fault", "ntmm": 1000, "linux": 3000, "ratio": 0.333 },
            { "name": "write", "ntmm": 7, "linux": null, "ratio": null },
            { "name": "empty", "ntmm": 3, "linux": 0, "ratio": null },
            { "name": "other", "ntmm": null, "linux": 5, "ratio": null },
        ]});
        assert_eq!(json, expected);
        assert_eq!(
            comparison.table().to_string(),
            "operation   ntmm  linux  ratio\n\
             ---------  -----  -----  -----\n\
             fault      1,000  3,000   0.33\n\
             write          7      -      -\n\
             empty          3      0      -\n\
             other          -      5      -\n"
        );
    }

    #[test]
    fn every_difference_is_named() {
        let first = figures(&[("fault", 1000), ("write", 7), ("call", 40)]);
        let mut second = figures(&[("call", 40), ("fault", 1001), ("late", 1)]);
        assert_eq!(
            differences(&first, &second),
            ["fault 1,000 and then 1,001", "write 7 and then nothing", "late nothing and then 1"]
        );
        second.clone_from(&first);
        second.reverse();
        assert_eq!(differences(&first, &second), [""; 0]);
    }
}
