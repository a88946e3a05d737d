//! Commits memory until the limit is reached, survives, and finds everything in order.
//!
//! Arguments: `pages=N` per block (default 256), `sparse=P` touches every P-th page (default 16).
//! What could be committed holds what is written to it; what could not changes nothing; after all
//! is freed there is room again. Before that, calls with parameters out of all bounds get the
//! statuses the specification names (API 3.1, 4.1, 5.1) and leave their arguments alone.
#![no_std]
#![no_main]

mod parameters;

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_RESERVE, PAGE_READWRITE};
use ntmm_user::memory::Block;
use ntmm_user::random::mix;
use ntmm_user::system::performance;
use ntmm_user::{Arguments, NtStatus, PAGE_SIZE, println};

ntmm_user::entry!(main);

/// Pages of the ledger.
const LEDGER_PAGES: u64 = 128;
/// Bytes of an entry: base and size of a block.
const ENTRY: u64 = 16;

/// The blocks committed so far, in a block of its own.
struct Ledger {
    block: Block,
    entries: u64,
}

impl Ledger {
    fn new() -> Result<Self, NtStatus> {
        Ok(Self { block: Block::commit_new(LEDGER_PAGES)?, entries: 0 })
    }

    fn is_full(&self) -> bool {
        self.entries * ENTRY == self.block.size()
    }

    fn push(&mut self, block: Block) {
        let offset = self.entries * ENTRY;
        self.block.store(offset + 8, block.size());
        self.block.store(offset, block.into_base());
        self.entries += 1;
    }

    fn pop(&mut self) -> Option<Block> {
        self.entries = self.entries.checked_sub(1)?;
        let offset = self.entries * ENTRY;
        let (base, size) = (self.block.load(offset), self.block.load(offset + 8));
        // SAFETY: the entry was a block's that `push` took, and is gone from the ledger now.
        Some(unsafe { Block::from_base(base, size) })
    }
}

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("overrun");
    let ended = run(arguments, &mut findings);
    findings.conclude(ended)
}

fn run(arguments: Arguments<'_>, findings: &mut Findings) -> Result<(), NtStatus> {
    arguments.only(&["pages", "sparse"])?;
    let pages = arguments.number_in("pages", 256, 1..)?;
    let sparse = arguments.number_in("sparse", 16, 1..)?;
    parameters::check(findings)?;
    let before = performance()?;
    println!("overrun: {} of {} pages are committed", before.committed, before.commit_limit);
    let mut ledger = Ledger::new()?;
    let committed = commit_all(findings, &mut ledger, pages, sparse)?;
    let at_limit = performance()?;
    println!("overrun: {committed} pages in {} blocks, then no more", ledger.entries);
    findings.equal(
        format_args!("{} committed of {}", at_limit.committed, at_limit.commit_limit),
        true,
        at_limit.committed <= at_limit.commit_limit,
    );
    refused_commit_changes_nothing(findings, at_limit.commit_limit)?;
    while let Some(block) = ledger.pop() {
        check(findings, &block, sparse);
        block.release()?;
    }
    // Half of what there was is there again, whatever others have taken meanwhile.
    let again = Block::commit_new((committed / 2).max(1))?;
    touch(&again, sparse);
    check(findings, &again, sparse);
    again.release()
}

/// Commits blocks of `pages` pages, then smaller ones, until not a page is left; yields how many
/// pages that were.
fn commit_all(
    findings: &mut Findings,
    ledger: &mut Ledger,
    pages: u64,
    sparse: u64,
) -> Result<u64, NtStatus> {
    let mut pages = pages;
    let mut committed = 0;
    while pages > 0 && !ledger.is_full() {
        match Block::commit_new(pages) {
            Ok(block) => {
                touch(&block, sparse);
                ledger.push(block);
                committed += pages;
            }
            Err(status) => {
                findings.equal("commit beyond the limit", NtStatus::COMMITMENT_LIMIT, status);
                pages /= 2;
            }
        }
    }
    Ok(committed)
}

/// Where a page carries its stamp.
const fn stamped(page: u64) -> u64 {
    page * PAGE_SIZE + (page % 512) * 8
}

fn touch(block: &Block, sparse: u64) {
    for page in (0..block.pages()).step_by(sparse as usize) {
        block.store(stamped(page), mix(block.base() ^ page));
    }
}

fn check(findings: &mut Findings, block: &Block, sparse: u64) {
    for page in (0..block.pages()).step_by(sparse as usize) {
        let offset = stamped(page);
        findings.word(block.base() + offset, mix(block.base() ^ page), block.load(offset));
        let untouched = page * PAGE_SIZE + ((page + 1) % 512) * 8;
        findings.word(block.base() + untouched, 0, block.load(untouched));
    }
}

/// Committing more than the limit inside a reserved range fails as a whole.
fn refused_commit_changes_nothing(findings: &mut Findings, limit: u64) -> Result<(), NtStatus> {
    // The range's own page tables are charged, so there may be no room even to reserve it.
    let block = match Block::reserve(limit + 1) {
        Ok(block) => block,
        Err(status) => {
            findings.equal("reserve at the limit", NtStatus::COMMITMENT_LIMIT, status);
            return Ok(());
        }
    };
    let refused = block.commit(0, block.size(), PAGE_READWRITE);
    findings.equal("commit of too much", Err(NtStatus::COMMITMENT_LIMIT), refused);
    let information = block.query(0)?;
    findings.equal("state after a refused commit", MEM_RESERVE, information.state);
    findings.equal("region after a refused commit", block.size(), information.region_size);
    block.release()
}
