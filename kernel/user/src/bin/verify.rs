//! Writes a stamp into several words of each of more pages than there are frames, and checks it
//! again and again, in several orders.
//!
//! Arguments: `pages=N` (default 256), `rounds=R` (default 3), `seed=S` (default 1). Each round
//! checks the stamps of the round before and writes new ones; at the end every page is read
//! whole. Ends with success only when every word was right.
#![no_std]
#![no_main]

use ntmm_user::findings::Findings;
use ntmm_user::memory::Block;
use ntmm_user::random::{Permutation, mix};
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, println};

ntmm_user::entry!(main);

/// Words of a page that carry stamps.
const STAMPED: [u64; 4] = [0, 1, 0x7F, 0x1FF];

/// Bytes in a word.
const WORD: u64 = 8;

/// The order in which a round visits the pages.
#[derive(Clone, Copy)]
enum Order {
    Ascending,
    Descending,
    Random { seed: u64 },
}

impl Order {
    const fn of_round(round: u64, seed: u64) -> Self {
        match round % 3 {
            0 => Self::Ascending,
            1 => Self::Descending,
            _ => Self::Random { seed: mix(seed ^ round) },
        }
    }

    fn visit(self, pages: u64, mut page: impl FnMut(u64)) {
        match self {
            Self::Ascending => (0..pages).for_each(&mut page),
            Self::Descending => (0..pages).rev().for_each(&mut page),
            Self::Random { seed } => Permutation::new(pages, seed).for_each(&mut page),
        }
    }
}

/// What a word holds after `round` rounds; memory is zero before the first.
const fn stamp(seed: u64, round: u64, page: u64, word: u64) -> u64 {
    match round {
        0 => 0,
        _ => mix(mix(seed ^ (round << 48)) ^ (page << 9) ^ word),
    }
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("verify");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["pages", "rounds", "seed"])?;
    let pages = arguments.number_in("pages", 256, 1..)?;
    let rounds = arguments.number("rounds", 3)?;
    let seed = arguments.number("seed", 1)?;
    println!("verify: {pages} pages, {rounds} rounds, seed {seed}");
    let block = Block::commit_new(pages)?;
    for round in 0..rounds {
        Order::of_round(round, seed).visit(pages, |page| {
            for word in STAMPED {
                let offset = page * PAGE_SIZE + word * WORD;
                let expected = stamp(seed, round, page, word);
                findings.word(block.base() + offset, expected, block.load(offset));
                block.store(offset, stamp(seed, round + 1, page, word));
            }
        });
    }
    for page in 0..pages {
        for word in 0..PAGE_SIZE / WORD {
            let offset = page * PAGE_SIZE + word * WORD;
            let round = if STAMPED.contains(&word) { rounds } else { 0 };
            let expected = stamp(seed, round, page, word);
            findings.word(block.base() + offset, expected, block.load(offset));
        }
    }
    block.release()
}
