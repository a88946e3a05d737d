//! The result of a run as text: tables for the terminal and the report.

use super::figures::Figures;
use crate::table::{Table, grouped};

/// The whole result.
#[must_use]
pub fn text(figures: &Figures) -> String {
    format!(
        "{}\n\n{}\n{}\n{}\n{}\n",
        heading(figures),
        processes(figures),
        paging(figures),
        lists(figures),
        verification(figures)
    )
}

/// What ran on what.
#[must_use]
pub fn heading(figures: &Figures) -> String {
    let machine = &figures.machine;
    let plural = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    };
    format!(
        "{} of {} on {}, {} with {} KiB of memory, paging file of {} KiB, seed {}",
        plural(figures.processes.len() as u64, "process", "processes"),
        plural(machine.threads.into(), "thread", "threads"),
        machine.paging,
        plural(machine.cpus.into(), "processor", "processors"),
        grouped(machine.frames * 4),
        grouped(figures.paging_file.slots * 4 + 4),
        machine.seed,
    )
}

/// Each process and their sum.
#[must_use]
pub fn processes(figures: &Figures) -> Table {
    let mut table = Table::new([
        "process",
        "references",
        "pages",
        "demand zero",
        "transition",
        "page file",
        "peak set",
        "bytes verified",
    ]);
    for (number, process) in (1..).zip(&figures.processes) {
        let faults = process.faults;
        let row = [
            process.references,
            process.pages,
            faults.demand_zero,
            faults.transition,
            faults.page_file,
            process.working_set_peak,
            process.verified,
        ];
        let [a, b, c, d, e, f, g] = row.map(grouped);
        table.row([format!("{number} {}", process.name), a, b, c, d, e, f, g]);
    }
    let faults = figures.faults.kinds;
    let row = [
        figures.references,
        figures.processes.iter().map(|process| process.pages).sum(),
        faults.demand_zero,
        faults.transition,
        faults.page_file,
        figures.verified,
    ];
    let [a, b, c, d, e, f] = row.map(grouped);
    // The sets are not at their peaks at the same time.
    table.row(["machine".to_owned(), a, b, c, d, e, String::new(), f]);
    table
}

/// Transfers to and from the paging file.
#[must_use]
pub fn paging(figures: &Figures) -> Table {
    let file = figures.paging_file;
    let mut table = Table::new(["paging file", "transfers", "pages", "pages per transfer"]);
    for (name, transfers, pages) in
        [("read", file.reads, file.pages_read), ("written", file.writes, file.pages_written)]
    {
        let each = pages as f64 / transfers.max(1) as f64;
        table.row([name.to_owned(), grouped(transfers), grouped(pages), format!("{each:.1}")]);
    }
    table
}

/// The page lists.
#[must_use]
pub fn lists(figures: &Figures) -> Table {
    let machine = &figures.machine;
    let lists = machine.lists;
    let mut table =
        Table::new(["frames", "zeroed", "free", "standby", "modified", "active", "in transition"]);
    let counts =
        [lists.zeroed, lists.free, lists.standby, lists.modified, lists.active, lists.transition];
    let [a, b, c, d, e, f] = counts.map(grouped);
    table.row([grouped(machine.frames), a, b, c, d, e, f]);
    table
}

/// What was proved, and how fast.
#[must_use]
pub fn verification(figures: &Figures) -> String {
    let rate = figures.references as f64 / figures.seconds.max(1e-9) / 1e6;
    format!(
        "{} references in {:.2} s, {rate:.1} million a second; {:.3} s of virtual time\n\
         {} faults met another thread's read; at most {} of {} paging-file slots in use\n\
         every byte right: {} bytes compared, at the end all {} pages once more ({} of them read back)",
        grouped(figures.references),
        figures.seconds,
        figures.virtual_seconds,
        grouped(figures.faults.collided),
        grouped(figures.paging_file.peak_slots),
        grouped(figures.paging_file.slots),
        grouped(figures.verified),
        grouped(figures.sweep.pages),
        grouped(figures.sweep.pages_read),
    )
}
