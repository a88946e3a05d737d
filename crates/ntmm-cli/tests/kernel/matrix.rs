//! Every number of processors, amount of memory and kind of paging: contents and kinds of faults.

use std::fs;

use ntmm_pte::PAGE_SIZE;
use serde_json::Value;

use crate::common::{boot, kernel, number, qemu_is_here};

/// Pages in a mebibyte.
const PAGES: u64 = (1 << 20) / PAGE_SIZE;

/// Where pages go that have no room in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paging {
    /// Nowhere.
    None,
    /// To a file of 64 MiB.
    File,
}

/// How much memory all programs touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// Less than half of the machine's.
    Fits,
    /// More than the machine has.
    Exceeds,
}

/// Boots a machine with programs that are as large as that; the result.
fn figures(cpus: u32, mebibytes: u64, paging: Paging, demand: Demand) -> Value {
    let pages = match demand {
        Demand::Fits => mebibytes * PAGES * 3 / 8,
        Demand::Exceeds => mebibytes * PAGES,
    };
    let (large, small) = (format!("verify pages={pages} rounds=1"), pages / 8);
    let small = format!("verify pages={small} rounds=2 seed=2");
    let (cpus, ram) = (cpus.to_string(), format!("{mebibytes}M"));
    let mut arguments = vec!["--json", "--cpus", &cpus, "--ram", &ram];
    for program in [large.as_str(), small.as_str(), "guard", "reuse"] {
        arguments.extend(["--program", program]);
    }
    if paging == Paging::None {
        arguments.push("--no-pagefile");
    }
    boot(kernel(), &arguments).json(0)
}

/// Checks what must be so of every good run.
fn check(figures: &Value, paging: Paging, demand: Demand) {
    let get = |path: &str| number(figures, path);
    for (index, name) in ["verify", "verify", "guard", "reuse"].into_iter().enumerate() {
        assert_eq!(figures["processes"][index]["name"], name, "{figures}");
        for path in ["verified", "references", "pages", "working_set_peak"] {
            assert!(get(&format!("/processes/{index}/{path}")) > 0, "{path}: {figures}");
        }
        assert_eq!(get(&format!("/processes/{index}/status")), 0);
        assert!(get(&format!("/processes/{index}/faults/demand_zero")) > 0, "{figures}");
    }
    let of_processes =
        |path: &str| -> u64 { (0..4).map(|index| get(&format!("/processes/{index}{path}"))).sum() };
    assert_eq!(of_processes("/verified"), get("/verified"));
    assert_eq!(of_processes("/references"), get("/references"));
    for kind in ["/faults/demand_zero", "/faults/transition", "/faults/page_file"] {
        assert!(of_processes(kind) <= get(kind), "{kind}: {figures}");
    }
    let exceeds = demand == Demand::Exceeds;
    for count in ["/faults/page_file", "/paging_file/pages_read"] {
        assert_eq!(get(count) > 0, exceeds, "{count}: {figures}");
    }
    // What programs ask to have written is written, even when there is memory.
    let written = get("/paging_file/pages_written");
    assert!(if paging == Paging::None { written == 0 } else { !exceeds || written > 0 });
    assert_eq!(get("/paging_file/slots") > 0, paging == Paging::File, "{figures}");
    assert!(get("/paging_file/peak_slots") <= get("/paging_file/slots"), "{figures}");
    assert!(get("/machine/committed") <= get("/machine/commit_limit"), "{figures}");
    let lists = [
        "zeroed",
        "free",
        "standby",
        "modified",
        "modified_no_write",
        "bad",
        "active",
        "transition",
        "kernel",
    ];
    let located: u64 = lists.iter().map(|list| get(&format!("/machine/{list}"))).sum();
    // The zeroing engine may have a frame in its hands.
    let frames = get("/machine/frames");
    assert!((frames - 1..=frames).contains(&located), "every frame is in one place: {figures}");
}

/// Boots machines with so many processors.
fn machines(cpus: u32) {
    if !qemu_is_here() {
        return;
    }
    for mebibytes in [24, 64, 256] {
        for (paging, demand) in [(Paging::None, Demand::Fits), (Paging::File, Demand::Exceeds)] {
            println!("{cpus} processors, {mebibytes} MiB, {paging:?}");
            let figures = figures(cpus, mebibytes, paging, demand);
            assert_eq!(number(&figures, "/machine/cpus"), u64::from(cpus));
            // All but what the firmware has.
            let frames = number(&figures, "/machine/frames");
            assert!((mebibytes * PAGES - PAGES..=mebibytes * PAGES).contains(&frames), "{frames}");
            check(&figures, paging, demand);
        }
    }
}

#[test]
fn one_processor() {
    machines(1);
}

#[test]
fn two_processors() {
    machines(2);
}

#[test]
fn four_processors() {
    machines(4);
}

#[test]
fn a_paging_file_is_left_alone_while_there_is_memory() {
    if !qemu_is_here() {
        return;
    }
    check(&figures(2, 64, Paging::File, Demand::Fits), Paging::File, Demand::Fits);
}

#[test]
fn a_paging_file_holds_what_it_held_for_nobody() {
    if !qemu_is_here() {
        return;
    }
    let file = crate::common::directory("reused").join("page.img");
    let path = crate::common::argument(&file);
    let arguments = ["--ram", "24M", "--pagefile", path, "--pagefile-size", "32M"];
    let program = ["--program", "verify pages=7000 rounds=1"];
    for _ in 0..2 {
        let run = boot(kernel(), &[&arguments[..], &program[..]].concat());
        assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
        assert_eq!(fs::metadata(&file).expect("it stays").len(), 32 << 20);
    }
    let bytes = fs::read(&file).expect("it stays");
    assert!(bytes.iter().any(|byte| *byte != 0), "pages were written to it");
}
