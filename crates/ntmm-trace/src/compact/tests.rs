//! The record coding by itself: what the merger hands out is what the reader yields.

use proptest::prelude::*;

use super::*;
use crate::merge::{Merger, Run, Visit};
use crate::{AccessKind, Reference, TraceReader};

/// Coarse choices, so that every guess of the model holds now and then.
fn reference() -> impl Strategy<Value = Reference> {
    let page = prop_oneof![0..20u64, 0x7_ffff_fff0..0x8_0000_0000u64, Just((1 << 52) - 2)];
    let size = prop_oneof![Just(8u32), 1..4097u32];
    let offset = prop_oneof![Just(0u64), Just(4095), 0..4096u64];
    let count = prop_oneof![Just(1u32), Just(7), Just(u32::MAX), any::<u32>()];
    (page, offset, size, count, 0..4usize).prop_map(|(page, offset, size, count, kind)| {
        // The last page of the address space has no successor to cross into.
        let room = if page == (1 << 52) - 2 { 4096 - offset as u32 } else { 4096 };
        Reference {
            va: page * 4096 + offset,
            size: size.min(room),
            count,
            kind: AccessKind::ALL[kind],
        }
    })
}

fn merged(trace: &[Reference], window: WindowPages) -> Vec<Reference> {
    let mut records = Vec::new();
    let mut emit = |visit: &Visit| {
        for run in visit.runs() {
            records.push(Reference {
                va: visit.page * 4096 + u64::from(run.low),
                size: u32::from(run.high - run.low),
                count: run.count,
                kind: run.kind,
            });
        }
    };
    let mut merger = Merger::new(window);
    for reference in trace {
        let mut rest = *reference;
        loop {
            let low = rest.va % 4096;
            let here = u64::from(rest.size).min(4096 - low);
            let run = Run {
                kind: rest.kind,
                low: low as u16,
                high: (low + here) as u16,
                count: rest.count,
            };
            merger.push(rest.va / 4096, run, &mut emit);
            rest.va += here;
            rest.size -= here as u32;
            rest.count = 0;
            if rest.size == 0 {
                break;
            }
        }
    }
    merger.finish(&mut emit);
    records
}

proptest! {
    #[test]
    fn records_survive_the_round_trip(trace in prop::collection::vec(reference(), 1..400), window in 2..40u16) {
        let window = WindowPages::new(window).unwrap();
        let mut writer = CompactWriter::new(window);
        for reference in &trace {
            writer.push(reference).unwrap();
        }
        let (header, bytes) = writer.finish(Program::from_command("/bin/p q")).unwrap();
        let mut reader = TraceReader::from_reader("t", std::io::Cursor::new(bytes)).unwrap();
        prop_assert_eq!(reader.header(), Some(&header));
        let records: Vec<_> = reader.by_ref().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(records.len() as u64, header.totals.records);
        prop_assert_eq!(records, merged(&trace, window));
    }

    #[test]
    fn numbers_survive_the_round_trip(distance in any::<i64>()) {
        prop_assert_eq!(codec::unzigzag(codec::zigzag(distance)), distance);
    }
}

#[test]
fn a_program_name_too_long_is_refused() {
    let mut writer = CompactWriter::new(WindowPages::DEFAULT);
    let reference = Reference { va: 0, size: 1, count: 1, kind: AccessKind::Load };
    writer.push(&reference).unwrap();
    let program = Program::from_command(&"x".repeat(70_000));
    assert!(matches!(writer.finish(program), Err(crate::Problem::NameTooLong)));
}

#[test]
fn references_out_of_range_are_refused() {
    let mut writer = CompactWriter::new(WindowPages::DEFAULT);
    for (va, size) in [(0, 0), (0, 4097), (u64::MAX, 1), (crate::MAX_ADDRESS, 2)] {
        let reference = Reference { va, size, count: 1, kind: AccessKind::Load };
        assert!(writer.push(&reference).is_err(), "{size} bytes at {va:#x}");
    }
}
