//! Examines as many hostile files as one likes: `fuzz [FILES] [FIRST_SEED]`.
//!
//! Run it with `cargo run --release -p ntmm-image --example fuzz -- 5000000`. A seed that breaks a
//! promise panics and is printed.

use std::collections::BTreeMap;
use std::time::Instant;

use ntmm_image::build::hostile;

#[path = "../tests/image/examine.rs"]
mod examine;
#[path = "../tests/image/map.rs"]
mod mapping;

use mapping::map;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let files: u64 = numbers.next().unwrap_or(1_000_000);
    let first: u64 = numbers.next().unwrap_or(1 << 32);
    let (mut layouts, mut tables, mut places) = (0_u64, 0_u64, 0_u64);
    let mut statuses = BTreeMap::new();
    let start = Instant::now();
    for seed in first..first + files {
        let examined = std::panic::catch_unwind(|| {
            examine::examine(&hostile(seed), seed.wrapping_mul(0x1_0000))
        });
        let outcome = examined.unwrap_or_else(|_| panic!("seed {seed}"));
        layouts += u64::from(outcome.layouts > 0);
        tables += u64::from(outcome.tables);
        places += outcome.places;
        for status in outcome.statuses.into_iter().flatten() {
            *statuses.entry(status).or_insert(0_u64) += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("{files} files in {seconds:.1} s, {:.0} a second", files as f64 / seconds);
    println!("{layouts} images, {tables} relocation tables, {places} places relocated");
    for (status, count) in statuses {
        println!("{status:#010X} {count}");
    }
}
