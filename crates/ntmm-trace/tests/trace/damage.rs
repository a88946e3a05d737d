//! Damaged input gives an error that says where, or (where the damage touches nothing) the same trace; never a panic.

use std::io::Write;

use crate::common::{compact, read, trace};
use flate2::Compression;
use flate2::write::GzEncoder;
use ntmm_trace::{AccessKind, Place, Problem, Reference};
use proptest::prelude::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn sample() -> Vec<Reference> {
    (0..3000)
        .map(|step: u64| Reference {
            va: (0x400 + step * 7 % 90) * 4096 + step % 4000,
            size: 8,
            count: 1,
            kind: AccessKind::ALL[(step % 4) as usize],
        })
        .collect()
}

/// Whether the header's checksum, recomputed, would be right again: damage behind it must be found by other means.
fn with_header_checksum(mut bytes: Vec<u8>, header_length: usize) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[..header_length - 4]);
    bytes[header_length - 4..header_length].copy_from_slice(&crc.sum().to_le_bytes());
    bytes
}

/// Length of the header of a file that `compact` made.
fn header_length(bytes: &[u8]) -> usize {
    let gzip_magic = [0x1f, 0x8b, 8, 0];
    bytes.windows(4).position(|window| window == gzip_magic).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = read(&bytes);
    }

    #[test]
    fn random_bytes_behind_the_magic_number_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut file = b"\x89NTT\r\n\x1a\n\x01\x00".to_vec();
        file.extend(bytes);
        prop_assert!(read(&file).is_err());
    }

    #[test]
    fn lines_that_resemble_lackeys_never_panic(text in "([ ISLMX=-]{0,4}[0-9a-fA-F]{0,18},?[0-9]{0,6}\r?\n?){0,12}") {
        let _ = read(text.as_bytes());
        let _ = read(&gzip(text.as_bytes()));
    }

    #[test]
    fn a_changed_byte_is_found_or_changes_nothing(trace in trace(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let good = compact(&trace, 8);
        let mut bad = good.clone();
        let at = at.index(bad.len());
        bad[at] ^= 1 << bit;
        if let Ok(references) = read(&bad) {
            prop_assert_eq!(references, read(&good).unwrap());
        }
    }

    #[test]
    fn every_truncation_is_found(trace in trace(), at in any::<prop::sample::Index>()) {
        let good = compact(&trace, 8);
        prop_assert!(read(&good[..at.index(good.len())]).is_err());
    }

    #[test]
    fn a_forged_header_never_panics(at in 8..120usize, value in any::<u8>()) {
        let mut bytes = compact(&sample(), 8);
        let length = header_length(&bytes);
        bytes[at.min(length - 5)] = value;
        let _ = read(&with_header_checksum(bytes, length));
    }

    #[test]
    fn forged_records_never_panic_and_stay_inside_the_regions(records in prop::collection::vec(any::<u8>(), 0..400)) {
        let good = compact(&sample(), 8);
        let mut bytes = good[..header_length(&good)].to_vec();
        bytes.extend(gzip(&records));
        let mut reader = ntmm_trace::TraceReader::from_reader("forged", std::io::Cursor::new(bytes)).unwrap();
        let regions = reader.header().unwrap().regions.clone();
        let mut batch = Vec::new();
        prop_assert!(reader.read_batch(&mut batch).is_err());
        for reference in batch {
            prop_assert!(regions.find(reference.first_page()).is_some());
            prop_assert!(regions.find(reference.last_page()).is_some());
        }
    }
}

#[test]
fn a_region_count_beyond_the_file_does_not_allocate() {
    let mut bytes = compact(&sample(), 8);
    bytes[16..24].copy_from_slice(&(u64::MAX / 64).to_le_bytes());
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error.problem, Problem::HeaderTruncated), "{error}");
}

#[test]
fn a_newer_version_is_named() {
    let mut bytes = compact(&sample(), 8);
    bytes[8] = 9;
    let error = read(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bytes at byte 8: trace format version 9 is not supported (this program reads version 1)"
    );
}

#[test]
fn a_header_checksum_mismatch_is_named() {
    let mut bytes = compact(&sample(), 8);
    bytes[30] ^= 1;
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error.problem, Problem::HeaderChecksum), "{error}");
}

#[test]
fn totals_that_do_not_add_up_are_named() {
    let mut bytes = compact(&sample(), 8);
    let length = header_length(&bytes);
    bytes[32] ^= 1;
    let error = read(&with_header_checksum(bytes, length)).unwrap_err();
    assert!(matches!(error.problem, Problem::Totals("number of references")), "{error}");
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut bytes = compact(&sample(), 8);
    bytes.push(0);
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error.problem, Problem::TrailingBytes), "{error}");
}

#[test]
fn a_payload_checksum_mismatch_is_found_before_the_last_batch() {
    let mut bytes = compact(&sample(), 8);
    let sum = bytes.len() - 8;
    bytes[sum] ^= 1;
    let mut reader =
        ntmm_trace::TraceReader::from_reader("bytes", std::io::Cursor::new(bytes)).unwrap();
    let error = reader.read_batch(&mut Vec::new()).unwrap_err();
    assert!(matches!(error.problem, Problem::Damaged(_)), "{error}");
    assert_eq!(reader.read_batch(&mut Vec::new()).unwrap(), 0, "nothing follows an error");
}

#[test]
fn truncated_gzipped_text_is_named_with_its_line() {
    let text: String = (0..5000).map(|line| format!(" L {:x},8\n", 0x1000 + line * 8)).collect();
    let bytes = gzip(text.as_bytes());
    let error = read(&bytes[..bytes.len() - 20]).unwrap_err();
    assert!(matches!(error.problem, Problem::Truncated), "{error}");
    assert!(matches!(error.place, Place::Line(1..=5001)), "{error}");
}
