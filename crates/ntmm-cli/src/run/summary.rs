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
    let processes = plural(figures.processes.len() as u64, "process", "processes");
    let threads = machine.threads.map(|threads| plural(threads.into(), "thread", "threads"));
    let file = match figures.paging_file.slots {
        0 => "no paging file".to_owned(),
        slots => format!("paging file of {} KiB", grouped(slots * 4 + 4)),
    };
    format!(
        "{processes}{} on {}, {} with {} KiB of memory, {file}{}",
        threads.map(|threads| format!(" of {threads}")).unwrap_or_default(),
        machine.paging,
        plural(machine.cpus.into(), "processor", "processors"),
        grouped(machine.frames * 4),
        machine.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default(),
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
    let counts =
        [lists.zeroed, lists.free, lists.standby, lists.modified, lists.active, lists.transition];
    let [a, b, c, d, e, f] = counts.map(grouped);
    let frames = grouped(machine.frames);
    // The simulated machine has no kernel beside the manager.
    if machine.kernel == 0 {
        let mut table = Table::new([
            "frames",
            "zeroed",
            "free",
            "standby",
            "modified",
            "active",
            "in transition",
        ]);
        table.row([frames, a, b, c, d, e, f]);
        return table;
    }
    let mut table = Table::new([
        "frames",
        "zeroed",
        "free",
        "standby",
        "modified",
        "active",
        "in transition",
        "kernel",
    ]);
    table.row([frames, a, b, c, d, e, f, grouped(machine.kernel)]);
    table
}

/// What was proved, and how fast.
#[must_use]
pub fn verification(figures: &Figures) -> String {
    let rate = figures.references as f64 / figures.seconds.max(1e-9) / 1e6;
    let time = figures.virtual_seconds.map(|seconds| format!("; {seconds:.3} s of virtual time"));
    let compared = match &figures.sweep {
        Some(sweep) => format!(
            "every byte right: {} bytes compared, at the end all {} pages once more ({} of them \
             read back)",
            grouped(figures.verified),
            grouped(sweep.pages),
            grouped(sweep.pages_read),
        ),
        None => format!("{} bytes compared and found right", grouped(figures.verified)),
    };
    format!(
        "{} references in {:.2} s, {rate:.1} million a second{}\n\
         {} faults met another thread's read; at most {} of {} paging-file slots in use\n\
         {compared}",
        grouped(figures.references),
        figures.seconds,
        time.unwrap_or_default(),
        grouped(figures.faults.collided),
        grouped(figures.paging_file.peak_slots),
        grouped(figures.paging_file.slots),
    )
}
