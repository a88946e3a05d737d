//! `--report`: one HTML page about a run that needs nothing else.
//!
//! | File | Holds |
//! |---|---|
//! | [`svg`] | elements of a drawing |
//! | [`plot`] | lines and stacked areas over time |
//! | [`frames`] | maps of all frames |
//!
//! Colours are named by classes and defined in one place, once for light and once for dark
//! screens.

pub mod frames;
pub mod plot;
pub mod svg;

use std::fmt::Write;

use ntmm_machine::Nanoseconds;

use crate::run::figures::{Faults, Figures};
use crate::run::samples::{Sample, Samples};
use crate::run::summary;
use crate::table::{Table, grouped};
use plot::{Form, Line, Plot};
use svg::escaped;

const STYLE: &str = include_str!("report/style.css");

/// Rows of the table of samples at most.
const SAMPLE_ROWS: usize = 32;

/// The page.
#[must_use]
pub fn page(figures: &Figures, samples: &Samples) -> String {
    let heading = escaped(&summary::heading(figures));
    let programs: Vec<&str> =
        figures.processes.iter().map(|process| process.name.as_str()).collect();
    let programs = escaped(&programs.join(", "));
    let verification = escaped(&summary::verification(figures)).replace('\n', "<br>\n");
    let series = samples.figures.samples();
    format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <head>\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>ntmm run: {programs}</title>\n\
         <style>\n{STYLE}</style>\n\
         </head>\n\
         <body>\n\
         <h1>{programs}</h1>\n\
         <p>{heading}</p>\n\
         <p>{verification}</p>\n\
         {processes}{paging}{lists}\
         <h2>Faults over time</h2>\n\
         <p>Faults in each millisecond of virtual time, by what resolved them.</p>\n\
         {faults}\
         <h2>Frames over time</h2>\n\
         <p>How many frames are on each list; the rest is in use.</p>\n\
         {frames}\
         <h2>Every frame</h2>\n\
         <p>The frames of the machine by number, in rows from left to right, at several moments.</p>\n\
         {maps}\
         <details>\n<summary>The same in numbers</summary>\n{table}</details>\n\
         </body>\n\
         </html>\n",
        processes = html(&summary::processes(figures)),
        paging = html(&summary::paging(figures)),
        lists = html(&summary::lists(figures)),
        faults = faults(series).draw(),
        frames = lists(series, figures.machine.frames).draw(),
        maps = frames::maps(samples.maps.samples()),
        table = html(&numbers(series)),
    )
}

/// A table as HTML.
fn html(table: &Table) -> String {
    let row = |tag: &str, cells: &[String]| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", escaped(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let rows: String = table.rows().iter().map(|cells| row("td", cells)).collect();
    format!("<div class=\"wide\"><table>\n{}{rows}</table></div>\n", row("th", table.heading()))
}

fn milliseconds(time: Nanoseconds) -> f64 {
    time.0 as f64 / 1e6
}

type Series<'a> = &'a [(Nanoseconds, Sample)];

/// Faults in each millisecond, by kind.
fn faults(series: Series<'_>) -> Plot {
    let rate = |of: fn(&Faults) -> u64| {
        let rate = |pair: &[(Nanoseconds, Sample)]| {
            let [(from, before), (to, after)] = pair else { return 0.0 };
            let faults = of(&after.faults) - of(&before.faults);
            faults as f64 / (milliseconds(*to) - milliseconds(*from)).max(1e-6)
        };
        series.windows(2).map(rate).collect()
    };
    Plot {
        form: Form::Lines,
        unit: "faults per ms",
        times: series.iter().skip(1).map(|(time, _)| milliseconds(*time)).collect(),
        lines: vec![
            Line { name: "demand zero", class: "zero", values: rate(|faults| faults.demand_zero) },
            Line { name: "transition", class: "standby", values: rate(|faults| faults.transition) },
            Line { name: "page file", class: "disk", values: rate(|faults| faults.page_file) },
        ],
    }
}

/// Frames on each list.
fn lists(series: Series<'_>, frames: u64) -> Plot {
    let count = |of: fn(&Sample) -> u32| -> Vec<f64> {
        series.iter().map(|(_, sample)| f64::from(of(sample))).collect()
    };
    let in_use = series.iter().map(|(_, sample)| frames.saturating_sub(listed(sample)) as f64);
    Plot {
        form: Form::Stacked,
        unit: "frames",
        times: series.iter().map(|(time, _)| milliseconds(*time)).collect(),
        lines: vec![
            Line { name: "in use", class: "program", values: in_use.collect() },
            Line {
                name: "modified",
                class: "modified",
                values: count(|sample| sample.memory.modified),
            },
            Line {
                name: "standby",
                class: "standby",
                values: count(|sample| sample.memory.standby),
            },
            Line { name: "free", class: "free", values: count(|sample| sample.memory.free) },
            Line { name: "zeroed", class: "zeroed", values: count(|sample| sample.memory.zeroed) },
        ],
    }
}

/// Frames on any list.
fn listed(sample: &Sample) -> u64 {
    let memory = sample.memory;
    [memory.zeroed, memory.free, memory.standby, memory.modified].into_iter().map(u64::from).sum()
}

/// Some of the samples in numbers.
fn numbers(series: Series<'_>) -> Table {
    let mut table = Table::new([
        "virtual time, ms",
        "demand zero",
        "transition",
        "page file",
        "zeroed",
        "free",
        "standby",
        "modified",
    ]);
    let every = series.len().div_ceil(SAMPLE_ROWS).max(1);
    for (time, Sample { faults, memory }) in series.iter().step_by(every) {
        let lists = [memory.zeroed, memory.free, memory.standby, memory.modified];
        let [e, f, g, h] = lists.map(|count| grouped(count.into()));
        let [b, c, d] = [faults.demand_zero, faults.transition, faults.page_file].map(grouped);
        table.row([format!("{:.2}", milliseconds(*time)), b, c, d, e, f, g, h]);
    }
    table
}

/// A legend: names beside patches of colour.
fn legend(entries: &[(&str, &str)]) -> String {
    let mut text = String::from("<p class=\"legend\">");
    for (class, name) in entries {
        // Writing to a string does not fail.
        let _ = write!(text, "<span><i class=\"{class}\"></i>{}</span> ", escaped(name));
    }
    text.push_str("</p>\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_are_called_does_not_become_markup() {
        let mut table = Table::new(["a"]);
        table.row(["<script>\"&".to_owned()]);
        assert!(html(&table).contains("<td>&lt;script&gt;&quot;&amp;</td>"));
    }
}
