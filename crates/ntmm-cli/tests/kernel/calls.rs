//! The Nt calls of ring 3, to the status code, and stacks that grow.

use ntmm_cli::boot::qemu::Ending;
use ntmm_pte::Bytes;

use crate::common::qemu_is_here;
use crate::guest::Guest;

/// STATUS_STACK_OVERFLOW, in decimal as the console has it.
const STACK_OVERFLOW: u32 = 0xC000_00FD;

/// Boots a machine of this profile with these programs: the console, and the end.
fn run(test: &str, profile: &str, programs: &[&str]) -> (Vec<String>, Ending) {
    let guest = Guest {
        ram: Bytes::new(32 << 20),
        cpus: 2,
        disk: 64 << 20,
        words: vec![format!("profile={profile}")],
        programs: programs.iter().map(|&line| line.to_owned()).collect(),
    };
    guest.boot(test)
}

#[test]
fn calls_answer_as_windows_does() {
    if !qemu_is_here() {
        return;
    }
    for profile in ["legacy", "modern"] {
        let program = format!("calls profile={profile}");
        // The second program takes memory away from the first.
        let programs = [program.as_str(), "verify pages=8000 rounds=1"];
        let (lines, ending) = run(&format!("calls_{profile}"), profile, &programs);
        assert_eq!(ending, Ending::Good, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("calls: right")), "{lines:#?}");
    }
}

#[test]
fn a_profile_that_does_not_exist_is_refused() {
    if !qemu_is_here() {
        return;
    }
    let (lines, ending) = run("no_profile", "vista", &["stack"]);
    assert_eq!(ending, Ending::BadWord, "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("vista")), "{lines:#?}");
}

#[test]
fn stacks_grow_by_recursion_through_their_guard_pages() {
    if !qemu_is_here() {
        return;
    }
    for profile in ["legacy", "modern"] {
        let (lines, ending) = run(&format!("stacks_{profile}"), profile, &["stack", "stack"]);
        assert_eq!(ending, Ending::Good, "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("stack: right")), "{lines:#?}");
    }
}

#[test]
fn recursion_without_end_is_a_stack_overflow() {
    if !qemu_is_here() {
        return;
    }
    let programs = ["stack kind=endless", "stack kind=told", "stack"];
    let (lines, ending) = run("overflow", "legacy", &programs);
    assert_eq!(ending, Ending::ProgramFailed, "{lines:#?}");
    let ended = format!("\"status\":{STACK_OVERFLOW},");
    assert_eq!(lines.iter().filter(|line| line.contains(&ended)).count(), 2, "{lines:#?}");
    // The handler ran on the pages that are kept for it.
    assert!(lines.iter().any(|line| line.contains("told of STATUS_STACK_OVERFLOW")), "{lines:#?}");
    // Nobody else suffers.
    assert!(lines.iter().any(|line| line.starts_with("stack: right")), "{lines:#?}");
}
