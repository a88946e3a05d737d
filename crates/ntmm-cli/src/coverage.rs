//! `ntmm coverage`: how much of Windows NT's memory manager is here.
//!
//! The table is `docs/coverage.toml`, which is part of the program; a test of the repository
//! checks it against the sources.

use serde::{Deserialize, Serialize};

use crate::arguments::CoverageArguments;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::table::Table;

const TABLE: &str = include_str!("../../../docs/coverage.toml");

/// The table and its sums.
#[derive(Debug, Serialize)]
struct Coverage {
    done: usize,
    partial: usize,
    todo: usize,
    rows: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    row: Vec<Row>,
}

/// Something that NT has.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Row {
    id: String,
    name: String,
    status: Status,
    module: String,
    tests: Vec<String>,
}

/// Whether it is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Done,
    Partial,
    Todo,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial => "partial",
            Self::Todo => "todo",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// Standard output cannot be written.
pub fn coverage(arguments: &CoverageArguments) -> Result<(), Failure> {
    let coverage = read()?;
    if arguments.json { print_json(&coverage) } else { print(&text(&coverage)) }
}

fn read() -> Result<Coverage, Failure> {
    let file: File = toml::from_str(TABLE).map_err(|error| Failure::Input {
        file: "docs/coverage.toml".into(),
        problem: error.message().to_owned(),
    })?;
    let count = |status| file.row.iter().filter(|row| row.status == status).count();
    Ok(Coverage {
        done: count(Status::Done),
        partial: count(Status::Partial),
        todo: count(Status::Todo),
        rows: file.row,
    })
}

fn text(coverage: &Coverage) -> String {
    let mut table = Table::with_words(3, ["id", "status", "what", "tests"]);
    for row in &coverage.rows {
        table.row([
            row.id.clone(),
            row.status.name().to_owned(),
            row.name.clone(),
            row.tests.len().to_string(),
        ]);
    }
    let Coverage { done, partial, todo, rows } = coverage;
    format!("{table}\n{} rows: {done} done, {partial} partial, {todo} todo\n", rows.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_can_be_read_and_adds_up() {
        let coverage = read().expect("docs/coverage.toml is well formed");
        assert_eq!(coverage.rows.len(), 222);
        assert_eq!(coverage.done + coverage.partial + coverage.todo, 222);
    }
}
