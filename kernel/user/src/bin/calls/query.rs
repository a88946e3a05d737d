//! NtQueryVirtualMemory, the classes beside the basic one.

use ntmm_user::findings::Findings;
use ntmm_user::flags::PAGE_READWRITE;
use ntmm_user::memory::Block;
use ntmm_user::services::NtQueryVirtualMemory;
use ntmm_user::structures::{Handle, PageAttributes, RegionInformation};
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::Profile;

const BASIC: u32 = 0;
const WORKING_SET: u32 = 1;
const MAPPED_FILENAME: u32 = 2;
const REGION: u32 = 3;
const WORKING_SET_EX: u32 = 4;
const IMAGE: u32 = 6;
const REGION_EX: u32 = 7;
const NO_CLASS: u32 = 99;

/// What a length holds that a call leaves alone.
const UNTOUCHED: u64 = 0x7777;

/// Bits of a page's attributes: valid, locked.
const VALID: u64 = 1;
const LOCKED: u64 = 1 << 22;

/// Asks: status and length of what came.
fn ask<T>(process: Handle, address: u64, class: u32, answer: &mut [T]) -> (NtStatus, u64) {
    let mut returned = UNTOUCHED;
    let length = size_of_val(answer) as u64;
    let buffer = answer.as_mut_ptr().cast();
    // SAFETY: the buffer is as long as it is said to be, and holds integers.
    let status =
        unsafe { NtQueryVirtualMemory(process, address, class, buffer, length, &raw mut returned) };
    (status, returned)
}

/// Whether the page at `address` is locked.
pub fn is_locked(address: u64) -> Result<bool, NtStatus> {
    let mut page = [PageAttributes { address, attributes: 0 }];
    let (status, _) = ask(Handle::CURRENT_PROCESS, 0, WORKING_SET_EX, &mut page);
    status.into_result()?;
    Ok(page[0].attributes & LOCKED != 0)
}

/// Everything.
pub fn check(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    refusals(findings, profile)?;
    region(findings, profile)?;
    attributes(findings)?;
    working_set(findings)
}

fn refusals(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    let own = Handle::CURRENT_PROCESS;
    let nobody = Handle(0x1234);
    let block = Block::commit_new(1)?;
    let at = block.base();
    let mut buffer = [UNTOUCHED; 8];
    let newer = |status| profile.choose(NtStatus::INVALID_INFO_CLASS, status);
    for (what, process, address, class, words, expected) in [
        ("a high address", own, u64::MAX, BASIC, 6, NtStatus::INVALID_PARAMETER),
        ("short", own, at, BASIC, 5, NtStatus::INFO_LENGTH_MISMATCH),
        ("nobody", nobody, at, BASIC, 6, NtStatus::INVALID_HANDLE),
        ("no class", own, at, NO_CLASS, 6, NtStatus::INVALID_INFO_CLASS),
        ("a name", own, at, MAPPED_FILENAME, 8, NtStatus::INVALID_ADDRESS),
        ("a short region", own, at, REGION, 2, NtStatus::INFO_LENGTH_MISMATCH),
        ("region of nothing", own, 0x1000, REGION, 6, NtStatus::INVALID_ADDRESS),
        ("image of nothing", own, 0x1000, IMAGE, 3, newer(NtStatus::INVALID_ADDRESS)),
        ("no attributes", own, 0, WORKING_SET_EX, 0, NtStatus::INFO_LENGTH_MISMATCH),
        ("no list", own, 0, WORKING_SET, 1, NtStatus::INFO_LENGTH_MISMATCH),
    ] {
        let found = ask(process, address, class, &mut buffer[..words]);
        findings.equal(format_args!("query, {what}"), (expected, UNTOUCHED), found);
    }
    findings.equal("the buffer", [UNTOUCHED; 8], buffer);
    block.release()
}

fn region(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    let own = Handle::CURRENT_PROCESS;
    let block = Block::reserve(5)?;
    block.commit(PAGE_SIZE, 2 * PAGE_SIZE, PAGE_READWRITE)?;
    let at = block.base() + 3 * PAGE_SIZE;
    let expected = RegionInformation {
        allocation_base: block.base(),
        allocation_protect: PAGE_READWRITE.0,
        size: 5 * PAGE_SIZE,
        committed: 2 * PAGE_SIZE,
        ..RegionInformation::default()
    };
    let mut found = [RegionInformation::default()];
    findings.equal("region", (NtStatus::SUCCESS, 48), ask(own, at, REGION, &mut found));
    findings.equal("the region", expected, found[0]);
    let mut words = [UNTOUCHED; 4];
    findings.equal("its beginning", (NtStatus::SUCCESS, 24), ask(own, at, REGION, &mut words[..3]));
    findings.equal("no more than that", (5 * PAGE_SIZE, UNTOUCHED), (words[2], words[3]));
    if profile == Profile::Modern {
        let private = RegionInformation { kind: 1, ..expected };
        findings.equal(
            "region, more",
            (NtStatus::SUCCESS, 48),
            ask(own, at, REGION_EX, &mut found),
        );
        findings.equal("the region", private, found[0]);
        let mut image = [UNTOUCHED; 3];
        findings.equal("no image", (NtStatus::SUCCESS, 24), ask(own, at, IMAGE, &mut image));
        findings.equal("nothing of it", [0; 3], image);
    }
    block.release()
}

fn attributes(findings: &mut Findings) -> Result<(), NtStatus> {
    const PAGES: u64 = 700;
    let own = Handle::CURRENT_PROCESS;
    let block = Block::commit_new(PAGES)?;
    let list = Block::commit_new(PAGES * 16 / PAGE_SIZE + 1)?;
    for page in (0..PAGES).rev() {
        list.store(page * 16, block.base() + page * PAGE_SIZE + 7);
        if page % 3 == 0 {
            block.store(page * PAGE_SIZE, page);
        }
    }
    let mut returned = 0;
    let buffer = core::ptr::with_exposed_provenance_mut(list.base() as usize);
    // A trailing part of an entry is left alone.
    let length = PAGES * 16 + 9;
    // SAFETY: the buffer is a block of this function's.
    let status =
        unsafe { NtQueryVirtualMemory(own, 0, WORKING_SET_EX, buffer, length, &raw mut returned) };
    findings.equal("attributes", (NtStatus::SUCCESS, length), (status, returned));
    // The last pages that were touched are still there.
    for page in 0..64 {
        let touched = page % 3 == 0;
        let expected = if touched { VALID | u64::from(PAGE_READWRITE.0) << 4 } else { 0 };
        findings.word(block.base() + page * PAGE_SIZE, expected, list.load(page * 16 + 8));
    }
    for page in (64..PAGES).filter(|page| page % 3 != 0) {
        findings.word(block.base() + page * PAGE_SIZE, 0, list.load(page * 16 + 8));
    }
    list.release()?;
    block.release()
}

fn working_set(findings: &mut Findings) -> Result<(), NtStatus> {
    const WORDS: u64 = 4096;
    let own = Handle::CURRENT_PROCESS;
    let block = Block::commit_new(2)?;
    let list = Block::commit_new(WORDS * 8 / PAGE_SIZE)?;
    let ask_list = |words: u64| {
        let buffer = core::ptr::with_exposed_provenance_mut(list.base() as usize);
        let mut returned = UNTOUCHED;
        // SAFETY: the buffer is a block of this function's.
        let status = unsafe {
            NtQueryVirtualMemory(own, 0, WORKING_SET, buffer, words * 8, &raw mut returned)
        };
        (status, returned)
    };
    block.store(PAGE_SIZE, 1);
    let (status, returned) = ask_list(WORDS);
    let count = list.load(0);
    findings.equal("working set", (NtStatus::SUCCESS, (1 + count) * 8), (status, returned));
    let entry =
        |page: u64| (1..=count).map(|word| list.load(word * 8)).find(|word| word >> 12 == page);
    let first = block.base() / PAGE_SIZE;
    // Its protection is the code for reading and writing.
    findings.equal("a page in it", Some((first + 1) << 12 | 4), entry(first + 1));
    findings.equal("a page not in it", None, entry(first));
    let few = (NtStatus::INFO_LENGTH_MISMATCH, UNTOUCHED);
    findings.equal("too little room", few, ask_list(3));
    findings.equal("what would be needed", true, list.load(0) > 2);
    list.release()?;
    block.release()
}
