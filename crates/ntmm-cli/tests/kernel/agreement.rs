//! The same seeded programs on the simulated machine and in the kernel: what they see is the same,
//! whatever memory and however many processors there are.

use ntmm_check::workload::{Job, expected};
use ntmm_cli::boot::qemu::Ending;
use ntmm_pte::Bytes;

use crate::common::qemu_is_here;
use crate::guest::Guest;

/// Steps of each program.
const STEPS: u32 = 3000;

/// What programs of these seeds see in the kernel, in the order of the seeds.
fn seen(name: &str, seeds: &[u64], ram: u64, cpus: u32, disk: u64, others: &[&str]) -> Vec<String> {
    let random = seeds.iter().map(|seed| format!("random seed={seed} steps={STEPS}"));
    let guest = Guest {
        ram: Bytes::new(ram << 20),
        cpus,
        disk: disk << 20,
        words: Vec::new(),
        programs: random.chain(others.iter().map(|&line| line.to_owned())).collect(),
    };
    let (lines, ending) = guest.boot(name);
    assert_eq!(ending, Ending::Good, "{lines:#?}");
    let outcomes = || lines.iter().filter_map(|line| line.strip_prefix("@outcome "));
    let of_seed = |seed: &u64| {
        let beginning = format!("{{\"seed\":\"{seed}\",");
        outcomes().find(|outcome| outcome.starts_with(&beginning)).expect("an outcome").to_owned()
    };
    seeds.iter().map(of_seed).collect()
}

fn due(seeds: &[u64]) -> Vec<String> {
    let expect = |&seed: &u64| expected(Job { seed, steps: STEPS }).expect("the simulation runs");
    seeds.iter().map(|seed| expect(seed).to_string()).collect()
}

#[test]
fn programs_see_the_same_with_plenty_of_memory() {
    if qemu_is_here() {
        let seeds = [1, 2, 3, 4, 5, 6];
        assert_eq!(seen("plenty", &seeds, 64, 1, 0, &[]), due(&seeds));
    }
}

#[test]
fn programs_see_the_same_while_pages_come_and_go() {
    if qemu_is_here() {
        let seeds = [7, 8, 9, 10, 11, 12];
        let others = ["verify pages=4000 rounds=2"];
        assert_eq!(seen("paging", &seeds, 16, 2, 64, &others), due(&seeds));
    }
}
