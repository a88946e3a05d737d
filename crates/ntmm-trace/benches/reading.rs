//! How fast traces are read: lackey text in references a second, the compact form in records a second.

use std::fmt::Write;
use std::fs;
use std::hint::black_box;
use std::io::Cursor;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ntmm_trace::{AddressWindow, Relocation, TraceReader};

/// Reads a whole trace in batches and returns the number of records.
fn read(bytes: &'static [u8]) -> u64 {
    let mut reader = TraceReader::from_reader("bench", Cursor::new(bytes)).expect("trace opens");
    let mut batch = Vec::new();
    let mut records = 0;
    loop {
        match reader.read_batch(&mut batch).expect("trace is good") {
            0 => return records,
            more => records += more as u64,
        }
        black_box(&batch);
    }
}

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces");
    for name in ["cc1", "python", "sort", "sqlite"] {
        let bytes = fs::read(traces.join(format!("{name}.ntt"))).expect("bundled trace");
        let bytes: &'static [u8] = bytes.leak();
        group.throughput(Throughput::Elements(read(bytes)));
        group.bench_function(name, |bencher| bencher.iter(|| read(bytes)));
    }
    group.finish();
}

fn text(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    let mut text = String::new();
    let mut state: u64 = 1;
    for _ in 0..1_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mark = ["I ", "I ", "I ", " L", " L", " S", "I ", " M"][(state >> 60) as usize % 8];
        let va = 0x1ff_f000_0000 + (state >> 40);
        writeln!(text, "{mark} {va:08x},{}", 1 << (state >> 50 & 3)).expect("writing to a string");
    }
    let bytes: &'static [u8] = text.into_bytes().leak();
    group.throughput(Throughput::Elements(1_000_000));
    group.bench_function("lackey", |bencher| bencher.iter(|| read(bytes)));
    group.finish();
}

fn relocation(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces/cc1.ntt");
    let reader = TraceReader::open(&path).expect("bundled trace");
    let regions = reader.header().expect("compact trace").regions.clone();
    let relocation = Relocation::new(&regions, AddressWindow::X86).expect("trace fits");
    let addresses: Vec<u64> =
        reader.take(100_000).map(|reference| reference.expect("trace is good").va).collect();
    let mut group = criterion.benchmark_group("relocation");
    group.throughput(Throughput::Elements(addresses.len() as u64));
    group.bench_function("map", |bencher| {
        let mut relocator = relocation.relocator();
        bencher.iter(|| {
            for &va in &addresses {
                black_box(relocator.map(va));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, compact, text, relocation);
criterion_main!(benches);
