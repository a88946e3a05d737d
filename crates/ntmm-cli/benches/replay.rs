//! How fast traces are replayed on a machine that holds all their pages, with the data check.
//!
//! `cargo bench -p ntmm-cli --bench replay`
//!
//! * `compact`: bundled traces as `ntmm run` replays them, in references of the program.
//! * `record`: records in memory already, each one reference of eight bytes that hits the
//!   translation buffer.
//! * `text`: lackey text, which is read twice, once for its regions.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ntmm_check::setup::Paging;
use ntmm_cli::run::feed::{Feed, Step};
use ntmm_cli::run::observer::Observer;
use ntmm_cli::run::paging_file::{FileSize, PagingDisk};
use ntmm_cli::run::playback::{Playback, Setup};
use ntmm_cli::run::source::Source;
use ntmm_machine::{Clock, MemoryDisk};
use ntmm_pte::{Amd64, Bytes, Pages, Va};
use ntmm_trace::{AccessKind, CompactWriter, PAGE_SIZE, Program, Reference, WindowPages};

/// A machine with so many MiB of memory.
fn playback(mebibytes: u64) -> Playback<Amd64> {
    let size = Pages::new(32_768);
    let setup = Setup {
        ram: Bytes::new(mebibytes << 20).to_pages_rounded_down(),
        cpus: 1,
        threads: 1,
        paging: Paging::Amd64,
        file: FileSize { minimum: size, maximum: size },
        seed: 0,
    };
    let clock = Clock::new();
    let observer = Observer::new(clock.clone(), None, None).expect("no file");
    let disk = PagingDisk { disk: Box::new(MemoryDisk::new(size)), name: "memory".to_owned() };
    Playback::boot(setup, clock, observer, disk).expect("boots")
}

/// Host time of a replay, as the program reports it.
fn replay(mut playback: Playback<Amd64>) -> Duration {
    let figures = playback.replay(&mut |_| Ok(())).expect("replays");
    Duration::from_secs_f64(figures.seconds)
}

fn replay_source(source: &Source) -> Duration {
    let mut playback = playback(64);
    playback.load(source).expect("loads");
    replay(playback)
}

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces")
}

fn compact(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compact");
    group.sample_size(10);
    for name in ["sqlite", "python", "sort", "cc1"] {
        let source = Source::file(&traces().join(format!("{name}.ntt"))).expect("bundled trace");
        group.throughput(Throughput::Elements(source.references().expect("compact")));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| replay_source(&source)).sum());
        });
    }
    group.finish();
}

fn record(criterion: &mut Criterion) {
    const RECORDS: u64 = 1_000_000;
    const PAGES: u64 = 16;
    let mut writer = CompactWriter::new(WindowPages::DEFAULT);
    for page in 0..PAGES {
        let va = (page + 16) * PAGE_SIZE;
        let reference = Reference { va, size: 8, count: 1, kind: AccessKind::Store };
        writer.push(&reference).expect("in range");
    }
    let (header, _) = writer.finish(Program::default()).expect("not empty");
    let mut group = criterion.benchmark_group("record");
    group.throughput(Throughput::Elements(RECORDS));
    for (name, access) in [("load", AccessKind::Load), ("store", AccessKind::Store)] {
        let step = |number: u64| {
            let page = number * 7 % PAGES;
            let va = (page + 16) * PAGE_SIZE + number * 8 % 4096;
            // The first round brings the pages in.
            let kind = if number < PAGES { AccessKind::Store } else { access };
            Step { va: Va::new(va), page: page as u32, count: 1, size: 8, kind }
        };
        let steps: Vec<Step> = (0..RECORDS).map(step).collect();
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let run = |_| {
                    let mut playback = playback(2);
                    let feed = Feed::ready(steps.clone());
                    playback
                        .add_process("bench", "bench", &header.regions, |_| Ok(feed))
                        .expect("loads");
                    replay(playback)
                };
                (0..times).map(run).sum()
            });
        });
    }
    group.finish();
}

fn text(criterion: &mut Criterion) {
    const LINES: u64 = 2_000_000;
    let mut text = String::new();
    for line in 0..LINES {
        let mark = ["I ", "I ", " L", "I ", " S", " M"][line as usize % 6];
        let va = 0x1ff_f000_0000 + line * 0x9e37 % 0x10_0000;
        writeln!(text, "{mark} {va:08x},{}", 1 << (line % 4)).expect("writing to a string");
    }
    let path = std::env::temp_dir().join(format!("ntmm-bench-{}.lk", std::process::id()));
    std::fs::write(&path, text).expect("temporary file");
    let source = Source::file(&path).expect("a good trace");
    let mut group = criterion.benchmark_group("text");
    group.sample_size(10).throughput(Throughput::Elements(LINES));
    group.bench_function("lackey", |bencher| {
        bencher.iter_custom(|times| (0..times).map(|_| replay_source(&source)).sum());
    });
    group.finish();
    std::fs::remove_file(&path).expect("temporary file");
}

criterion_group!(benches, compact, record, text);
criterion_main!(benches);
