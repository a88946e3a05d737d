//! Allocates, fills and frees blocks of many sizes, and checks that fresh memory is zero however
//! often its frames have been used before, by this process or another.
//!
//! Arguments: `rounds=N` (default 16), `pages=M` the largest block (default 64), `seed=S`
//! (default 1). A few blocks live at a time; each round replaces one of them. Between rounds the
//! working set is emptied now and then, so that what is checked comes back from every list.
//! Ends with success only when every word and every state was right.
#![no_std]
#![no_main]

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_COMMIT, MEM_FREE, MEM_RESERVE, PAGE_READWRITE};
use ntmm_user::memory::{Block, query};
use ntmm_user::random::{Random, mix};
use ntmm_user::structures::AccessKind;
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, exceptions, println, system};

ntmm_user::entry!(main);

/// Blocks that live at a time.
const BLOCKS: usize = 6;
/// Bytes in a word.
const WORD: u64 = 8;

/// A block whose words all hold stamps.
struct Stamped {
    block: Block,
    seed: u64,
    /// Offset of its first word from the block the stamps were made for.
    shift: u64,
}

impl Stamped {
    fn expected(&self, offset: u64) -> u64 {
        mix(self.seed ^ (offset + self.shift))
    }

    fn fill(&self, from: u64, to: u64) {
        for offset in (from..to).step_by(WORD as usize) {
            self.block.store(offset, self.expected(offset));
        }
    }

    fn check(&self, findings: &mut Findings, from: u64, to: u64) {
        for offset in (from..to).step_by(WORD as usize) {
            let found = self.block.load(offset);
            findings.word(self.block.base() + offset, self.expected(offset), found);
        }
    }

    fn check_zero(&self, findings: &mut Findings, from: u64, to: u64) {
        for offset in (from..to).step_by(WORD as usize) {
            findings.word(self.block.base() + offset, 0, self.block.load(offset));
        }
    }
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("reuse");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["rounds", "pages", "seed"])?;
    let rounds = arguments.number("rounds", 16)?;
    let largest = arguments.number_in("pages", 64, 1..)?;
    let mut random = Random::new(arguments.number("seed", 1)?);
    println!("reuse: {rounds} rounds, blocks of up to {largest} pages");
    exceptions::install()?;
    let mut blocks: [Option<Stamped>; BLOCKS] = [const { None }; BLOCKS];
    for round in 0..rounds {
        let pages = 1 + random.below(largest);
        let fresh = allocate(findings, pages, random.next())?;
        decommit_some(findings, &fresh, &mut random)?;
        if round % 4 == 3 {
            system::empty_working_set()?;
        }
        if round % 16 == 15 {
            system::command(system::Command::FlushModifiedList)?;
        }
        let place = random.below(BLOCKS as u64) as usize;
        if let Some(old) = blocks.get_mut(place).and_then(|place| place.replace(fresh)) {
            free(findings, old, &mut random)?;
        }
    }
    for old in blocks.into_iter().flatten() {
        free(findings, old, &mut random)?;
    }
    Ok(())
}

/// A block of `pages` pages that was zero and is stamped now.
fn allocate(findings: &mut Findings, pages: u64, seed: u64) -> Result<Stamped, NtStatus> {
    let stamped = Stamped { block: Block::commit_new(pages)?, seed, shift: 0 };
    let size = stamped.block.size();
    findings.equal("size of a block", pages * PAGE_SIZE, size);
    stamped.check_zero(findings, 0, size);
    stamped.fill(0, size);
    let information = stamped.block.query(0)?;
    findings.equal("state of a block", MEM_COMMIT, information.state);
    findings.equal("protection of a block", PAGE_READWRITE, information.protect);
    findings.equal("base of a block", stamped.block.base(), information.allocation_base);
    findings.equal("region of a block", size, information.region_size);
    Ok(stamped)
}

/// Decommits some pages in the middle, which refuse, and commits them again, when they are zero.
fn decommit_some(
    findings: &mut Findings,
    stamped: &Stamped,
    random: &mut Random,
) -> Result<(), NtStatus> {
    let (from, to) = some_pages(&stamped.block, random);
    stamped.block.decommit(from, to - from)?;
    let offset = from + random.below((to - from) / WORD) * WORD;
    let address = stamped.block.base() + offset;
    let refused =
        stamped.block.try_load(offset).map_err(|raised| (raised.code, raised.kind, raised.address));
    let violation = (NtStatus::ACCESS_VIOLATION, AccessKind::Read as u64, address);
    findings.equal("decommitted page", Err(violation), refused);
    findings.equal("state of decommitted", MEM_RESERVE, stamped.block.query(from)?.state);
    stamped.block.commit(from, to - from, PAGE_READWRITE)?;
    stamped.check_zero(findings, from, to);
    stamped.fill(from, to);
    Ok(())
}

/// Checks a block and frees it: at once, or first some pages in its middle.
fn free(findings: &mut Findings, old: Stamped, random: &mut Random) -> Result<(), NtStatus> {
    old.check(findings, 0, old.block.size());
    if random.below(2) == 0 {
        return old.block.release();
    }
    let (from, to) = some_pages(&old.block, random);
    let (base, seed) = (old.block.base(), old.seed);
    let [front, behind] = old.block.release_part(from, to - from)?;
    findings.equal("state of released", MEM_FREE, query(base + from)?.state);
    for (part, shift) in [(front, 0), (behind, to)] {
        let Some(block) = part else { continue };
        let part = Stamped { block, seed, shift };
        part.check(findings, 0, part.block.size());
        let allocation = part.block.query(0)?.allocation_base;
        findings.equal("base of what is left", part.block.base(), allocation);
        part.block.release()?;
    }
    Ok(())
}

/// Some pages of a block, at least one, as first offset and end.
fn some_pages(block: &Block, random: &mut Random) -> (u64, u64) {
    let from = random.below(block.pages());
    let count = 1 + random.below(block.pages() - from);
    (from * PAGE_SIZE, (from + count) * PAGE_SIZE)
}
