//! Whatever is in a file, it comes to a layout that holds together, or to a status.

use std::collections::BTreeSet;

use ntmm_image::build::hostile;
use proptest::prelude::*;

use crate::examine::examine;

/// Files of the normal run; `examples/fuzz.rs` takes as many as one likes.
const FILES: u64 = 40_000;

#[test]
fn hostile_files() {
    let mut layouts = 0;
    let mut tables = 0;
    let mut statuses = BTreeSet::new();
    for seed in 0..FILES {
        let outcome = examine(&hostile(seed), seed.wrapping_mul(0x1_0000));
        layouts += u64::from(outcome.layouts > 0);
        tables += u64::from(outcome.tables);
        statuses.extend(outcome.statuses.into_iter().flatten());
    }
    // The files are worth their time only while many of them get far.
    assert!(layouts > FILES / 5 && layouts < FILES * 4 / 5, "{layouts} images");
    assert!(tables > FILES / 20, "{tables} relocation tables");
    let all = [0xC000_0130_u32, 0xC000_012F, 0xC000_007B, 0xC000_035A];
    assert!(all.iter().all(|status| statuses.contains(status)), "only {statuses:x?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bytes that are nothing but a beginning.
    #[test]
    fn random_files(tail in proptest::collection::vec(any::<u8>(), 0..0x400), new_header in 0_u32..0x200) {
        let mut file = b"MZ".to_vec();
        file.resize(0x3C, 0);
        file.extend(new_header.to_le_bytes());
        file.extend(&tail);
        examine(&file, 0x1_0000);
        if let Some(at) = file.get_mut(new_header as usize..new_header as usize + 4) {
            at.copy_from_slice(b"PE\0\0");
        }
        examine(&file, 0x1_0000);
        examine(&tail, 0x1_0000);
    }
}
