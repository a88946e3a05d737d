//! Random traces, and readers over bytes.

use ntmm_trace::{
    AccessKind, CompactWriter, Program, Reference, TraceError, TraceReader, WindowPages,
};
use proptest::prelude::*;

/// One stretch of a random program.
#[derive(Debug, Clone)]
enum Stretch {
    /// References to a few pages around a place, in any order.
    Scatter(u64, Vec<(u8, u16, u16, u8)>),
    /// A loop over neighbouring pages.
    Loop { first: u64, pages: u64, rounds: u64 },
    /// Back and forth between two pages.
    Alternate(u64, u64, u8),
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let place = prop_oneof![Just(0x400), Just(0x7f_ffff_f000), 0x400..0x440u64];
    let touches = prop::collection::vec((0..12u8, 0..4096u16, 1..64u16, 0..4u8), 1..60);
    prop_oneof![
        (place.clone(), touches).prop_map(|(place, touches)| Stretch::Scatter(place, touches)),
        (place.clone(), 1..20u64, 1..5u64).prop_map(|(first, pages, rounds)| Stretch::Loop {
            first,
            pages,
            rounds
        }),
        (place.clone(), place, 1..9u8)
            .prop_map(|(one, other, times)| Stretch::Alternate(one, other, times)),
    ]
}

fn reference(page: u64, offset: u64, size: u32, kind: AccessKind) -> Reference {
    Reference { va: page * 4096 + offset, size, count: 1, kind }
}

/// A random trace; some references cross pages.
pub fn trace() -> impl Strategy<Value = Vec<Reference>> {
    prop::collection::vec(stretch(), 1..25).prop_map(|stretches| {
        let mut trace = Vec::new();
        for stretch in stretches {
            match stretch {
                Stretch::Scatter(place, touches) => {
                    for (page, offset, size, kind) in touches {
                        let kind = AccessKind::ALL[kind as usize];
                        trace.push(reference(
                            place + u64::from(page),
                            offset.into(),
                            size.into(),
                            kind,
                        ));
                    }
                }
                Stretch::Loop { first, pages, rounds } => {
                    for step in 0..pages * rounds {
                        trace.push(reference(first + step % pages, step * 8, 8, AccessKind::Load));
                    }
                }
                Stretch::Alternate(one, other, times) => {
                    for time in 0..u64::from(times) {
                        trace.push(reference(one, 4 * time, 4, AccessKind::Fetch));
                        trace.push(reference(other, 2000 - 8 * time, 8, AccessKind::Store));
                    }
                }
            }
        }
        trace
    })
}

/// The compact form of a trace.
pub fn compact(trace: &[Reference], window: u16) -> Vec<u8> {
    let mut writer = CompactWriter::new(WindowPages::new(window).expect("window in range"));
    for reference in trace {
        writer.push(reference).expect("reference in range");
    }
    let program = Program { name: "random".to_owned(), command: "random --trace".to_owned() };
    writer.finish(program).expect("trace is not empty").1
}

/// All references in the bytes of a trace file.
pub fn read(bytes: &[u8]) -> Result<Vec<Reference>, TraceError> {
    TraceReader::from_reader("bytes", std::io::Cursor::new(bytes.to_vec()))?.collect()
}

/// The references of a trace cut at page ends, as pages in order.
pub fn pages(trace: &[Reference]) -> Vec<u64> {
    trace.iter().flat_map(|reference| reference.first_page()..=reference.last_page()).collect()
}
