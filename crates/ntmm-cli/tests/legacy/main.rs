//! Page tables that the manager made for i386 and PAE, walked by a processor that is not ours.
//!
//! The kernel takes QEMU's processor out of long mode, makes every probe of an image of
//! `ntmm_probe` with the image's page tables, and reports what came of it. The simulated walker
//! must have said the same: access or fault, error code, CR2, the value read, and each word of
//! memory that is different afterwards, so also the Accessed and Dirty bits.
//!
//! QEMU departs from the manual in two ways that come up here, see [`as_the_manual_has_it`].
//!
//! These tests need QEMU. Without it they say that they are skipped, unless NTMM_REQUIRE_QEMU is
//! set: then they fail.

#[path = "../kernel/common.rs"]
#[allow(dead_code, reason = "the tests of `ntmm boot` use all of it")]
mod common;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::time::Duration;

use ntmm_cli::boot::qemu::{self, Board, Counting, Ending, Machine};
use ntmm_probe::expectation::{Expected, Legacy, Observation, Outcome, Script};
use ntmm_probe::image::{Image, Structure};
use ntmm_probe::scene::Scene;
use ntmm_pte::{Bytes, I386, Pae};
use serde_json::Value;

/// Longer than a batch of probes takes on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// Memory that reaches over that of a scene.
const RAM: Bytes = Bytes::new(128 << 20);

/// Bits of an error code.
const PRESENT: u32 = 1 << 0;
const RESERVED: u32 = 1 << 3;
/// The Accessed bit of an entry.
const ACCESSED: u64 = 1 << 5;

/// Boots the kernel on a probe image: the lines of its console, and its end.
fn probe(name: &str, image: &[u8], ram: Bytes) -> (Vec<String>, Ending) {
    let file = common::directory(&format!("legacy-{name}")).join("image");
    fs::write(&file, image).expect("the directory for temporary files can be written");
    let machine = Machine {
        board: Board::Microvm,
        ram,
        cpus: 1,
        paging_file: None,
        disk_errors: None,
        counting: Counting::HostTime,
        kernel: common::kernel().to_owned(),
        initrd: Some(file),
        words: vec!["probe".to_owned()],
    };
    let mut lines = Vec::new();
    let ending = qemu::run(&machine, &mut |line| lines.push(line.to_owned()), PATIENCE);
    let ending = ending.unwrap_or_else(|error| panic!("{error} after {:?}", lines.last()));
    (lines, ending)
}

/// What a line of the console says of a probe.
fn observation(line: &str) -> Option<(u64, Observation)> {
    let report: Value = serde_json::from_str(line.strip_prefix("@probe ")?).ok()?;
    let number = |field: &str| report[field].as_u64();
    let small = |field| u32::try_from(number(field)?).ok();
    let outcome = match report["outcome"].as_str()? {
        "access" => Outcome::Access { value: small("value")? },
        "fault" => Outcome::Fault { error: small("error")?, cr2: small("cr2")? },
        "exception" => Outcome::Exception { vector: small("value")? },
        _ => return None,
    };
    let changed = report["changed"].as_array()?.iter();
    let changed: Option<BTreeMap<u64, u64>> =
        changed.map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?))).collect();
    Some((number("number")?, Observation { outcome, changed: changed? }))
}

/// What QEMU's processor should have done where it does not follow Intel's manual (volume 3,
/// chapter "Paging"):
///
/// * It sets Accessed in the four entries of PAE's top table, where the bit is reserved.
/// * The error code of a fault over a reserved bit lacks the bit that says that the entry was
///   present, without which the reserved bit would not have been looked at.
fn as_the_manual_has_it(image: &Image<'_>, mut seen: Observation) -> Observation {
    let header = image.header();
    if header.structure == Structure::Pae {
        let top = u64::from(header.root)..u64::from(header.root) + 32;
        let number = header.root / 4096;
        let frame = image.frames().find(|(frame, _)| *frame == number);
        let (_, frame) = frame.expect("the root is not empty");
        seen.changed.retain(|address, word| {
            let offset = (*address % 4096) as usize;
            !top.contains(address)
                || frame[offset..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes) | ACCESSED)
                    != Some(*word)
        });
    }
    if let Outcome::Fault { error, .. } = &mut seen.outcome
        && *error & RESERVED != 0
    {
        *error |= PRESENT;
    }
    seen
}

/// Both walkers on a scene of a mode.
fn check<M: Legacy>() {
    if !common::qemu_is_here() {
        return;
    }
    let script = Script::new(&Scene::<M>::new());
    let image = Image::parse(&script.image).expect("the image is in order");
    let (lines, ending) = probe(M::NAME, &script.image, RAM);
    assert_eq!(ending, Ending::Good, "{lines:#?}");
    let seen: Vec<_> = lines.iter().filter_map(|line| observation(line)).collect();
    assert_eq!(seen.len(), script.expected.len(), "answers to the probes");
    let mut differences = String::new();
    for ((at, expected), (number, seen)) in (0..).zip(&script.expected).zip(seen) {
        assert_eq!(number, at, "the answers are in order");
        let Expected { place, probe, observation } = expected;
        let seen = as_the_manual_has_it(&image, seen);
        if seen != *observation {
            let _ = writeln!(
                differences,
                "{}: {:?} at {:#x} in ring {:?}\n  simulated {observation:?}\n  QEMU      {seen:?}",
                place.name, probe.access, probe.address, probe.ring
            );
        }
    }
    assert!(differences.is_empty(), "{}:\n{differences}", M::NAME);
    println!("{}: {} probes agree", M::NAME, script.expected.len());
}

#[test]
fn processors_agree_on_i386_page_tables() {
    check::<I386>();
}

#[test]
fn processors_agree_on_pae_page_tables() {
    check::<Pae>();
}

#[test]
fn images_that_cannot_be_probed_are_refused() {
    if !common::qemu_is_here() {
        return;
    }
    let script = Script::new(&Scene::<I386>::new());
    let half = &script.image[..script.image.len() / 2];
    let (lines, ending) = probe("half", half, RAM);
    assert_eq!(
        (ending, lines),
        (Ending::CouldNotBoot, vec!["the archive is no probe image".into()])
    );
    let (lines, ending) = probe("small", &script.image, Bytes::new(32 << 20));
    let complaint = "there is no free memory where the probe image belongs";
    assert_eq!((ending, lines), (Ending::CouldNotBoot, vec![complaint.into()]));
}
