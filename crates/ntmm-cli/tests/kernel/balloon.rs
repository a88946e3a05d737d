//! Memory that the kernel lends at run time and takes back, while programs need it.

use ntmm_cli::boot::qemu::Ending;
use ntmm_pte::Bytes;
use serde_json::Value;

use crate::common::{number, qemu_is_here};
use crate::guest::Guest;

/// The JSON of the line that begins with `@word`.
fn report(lines: &[String], word: &str) -> Value {
    let prefix = format!("@{word} ");
    let line = lines.iter().find_map(|line| line.strip_prefix(&prefix));
    let line = line.unwrap_or_else(|| panic!("no line {prefix}in {lines:#?}"));
    serde_json::from_str(line).expect("a report is JSON")
}

/// A machine with so many processors; two programs together touch more than it has.
fn guest(cpus: u32, words: &[&str]) -> Guest {
    Guest {
        ram: Bytes::new(24 << 20),
        cpus,
        disk: 64 << 20,
        words: words.iter().map(|&word| word.to_owned()).collect(),
        programs: vec![
            "verify pages=4000 rounds=3".to_owned(),
            "verify pages=2500 rounds=4 seed=2".to_owned(),
        ],
    }
}

/// What the kernel says at the start, at the end, and of the memory it lent.
fn reports(guest: &Guest, test: &str) -> [Value; 3] {
    let (lines, ending) = guest.boot(test);
    assert_eq!(ending, Ending::Good, "{lines:#?}");
    let reports = ["ready", "result", "balloon"].map(|word| report(&lines, word));
    println!("{} processors: {}", guest.cpus, reports[2]);
    reports
}

fn balloons(cpus: u32) {
    if !qemu_is_here() {
        return;
    }
    let guest = guest(cpus, &["balloon=2000"]);
    let [ready, result, balloon] = reports(&guest, &format!("balloon-{cpus}"));
    assert_eq!(number(&balloon, "/pages"), 2000);
    assert!(number(&balloon, "/lent") >= 1, "{balloon}");
    assert_eq!(number(&balloon, "/taken"), number(&balloon, "/lent"), "all of it came back");
    assert_eq!(number(&balloon, "/kept"), 0, "{balloon}");
    // What is left is what there was at boot, and nothing lies aside.
    let frames = number(&ready, "/manager_frames");
    assert!(number(&ready, "/frames") >= frames + 2000, "{ready}");
    assert_eq!(number(&result, "/machine/frames"), frames, "{result}");
    assert_eq!(number(&result, "/machine/bad"), 0, "{result}");
    assert!(number(&result, "/paging_file/pages_written") > 0, "{result}");
}

#[test]
fn memory_comes_and_goes_on_one_processor() {
    balloons(1);
}

#[test]
fn memory_comes_and_goes_on_four_processors() {
    balloons(4);
}

/// The kernel asks five times, then leaves the memory lent; nothing is lost with it.
#[test]
fn memory_that_is_never_given_back_stays_lent() {
    if !qemu_is_here() {
        return;
    }
    let guest = guest(2, &["balloon=2000", "squatter"]);
    let [ready, result, balloon] = reports(&guest, "balloon-squatter");
    assert_eq!(number(&balloon, "/lent"), 1, "{balloon}");
    assert_eq!(number(&balloon, "/taken"), 0, "{balloon}");
    assert!(number(&balloon, "/refused") >= 5, "{balloon}");
    assert_eq!(number(&balloon, "/kept"), 2000, "{balloon}");
    let frames = number(&ready, "/manager_frames") + 2000;
    assert_eq!(number(&result, "/machine/frames"), frames, "{result}");
    assert_eq!(number(&result, "/machine/bad"), 0, "{result}");
}
