//! NtGetWriteWatch and NtResetWriteWatch.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{MEM_COMMIT, MEM_WRITE_WATCH, PAGE_READWRITE, WRITE_WATCH_FLAG_RESET};
use ntmm_user::memory::Block;
use ntmm_user::services::{NtGetWriteWatch, NtResetWriteWatch};
use ntmm_user::structures::Handle;
use ntmm_user::{NtStatus, PAGE_SIZE};

const OWN: Handle = Handle::CURRENT_PROCESS;

/// The pages of a range that were written, as many as fit: status and count.
pub fn written(base: u64, size: u64, flags: u32, pages: &mut [u64]) -> (NtStatus, u64) {
    let (mut count, mut granularity) = (pages.len() as u64, 0);
    // SAFETY: the array is as long as the count says, the rest are locals.
    let status = unsafe {
        let (count, granularity) = (&raw mut count, &raw mut granularity);
        NtGetWriteWatch(OWN, flags, base, size, pages.as_mut_ptr(), count, granularity)
    };
    if status.is_success() && granularity != PAGE_SIZE as u32 {
        return (NtStatus::DATA_ERROR, count);
    }
    (status, count)
}

/// Everything.
pub fn check(findings: &mut Findings) -> Result<(), NtStatus> {
    const RESET: u32 = WRITE_WATCH_FLAG_RESET.0;
    let kind = MEM_COMMIT | MEM_WRITE_WATCH;
    let block = Block::allocate(600 * PAGE_SIZE, kind, PAGE_READWRITE)?;
    let (base, size) = (block.base(), block.size());
    let page = |number: u64| base + number * PAGE_SIZE;
    let mut pages = [0; 8];
    findings.equal("nothing written", (NtStatus::SUCCESS, 0), written(base, size, 0, &mut pages));
    let _ = block.load(PAGE_SIZE);
    // Across a boundary; the same value again; and another page far away.
    block.store(4 * PAGE_SIZE - 4, u64::MAX);
    block.store(7 * PAGE_SIZE, 0);
    block.store(599 * PAGE_SIZE, 1);
    let all = [page(3), page(4), page(7), page(599)];
    findings.equal("written", (NtStatus::SUCCESS, 4), written(base, size, 0, &mut pages));
    findings.equal("the pages", &all[..], &pages[..4]);
    let found = written(base, size, RESET, &mut pages[..2]);
    findings.equal("the first two", (NtStatus::SUCCESS, 2), found);
    findings.equal("the rest", (NtStatus::SUCCESS, 2), written(base, size, 0, &mut pages));
    findings.equal("the pages", &all[2..], &pages[..2]);
    findings.equal(
        "a part",
        (NtStatus::SUCCESS, 1),
        written(page(8), 592 * PAGE_SIZE, 0, &mut pages),
    );
    findings.equal("reset", NtStatus::SUCCESS, NtResetWriteWatch(OWN, base, size));
    findings.equal("nothing left", (NtStatus::SUCCESS, 0), written(base, size, 0, &mut pages));

    let plain = Block::commit_new(1)?;
    for (what, base, size, flags, room, expected) in [
        ("a high base", u64::MAX, 1, 0, 8, NtStatus::INVALID_PARAMETER_2),
        ("a long range", base, 1 << 48, 0, 8, NtStatus::INVALID_PARAMETER_3),
        ("no room", base, size, 0, 0, NtStatus::INVALID_PARAMETER_5),
        ("no size", base, 0, 0, 8, NtStatus::INVALID_PARAMETER_4),
        ("unknown flags", base, size, 2, 8, NtStatus::INVALID_PARAMETER_2),
        ("plain memory", plain.base(), 1, 0, 8, NtStatus::INVALID_PARAMETER_1),
        ("more than there is", base, size + 1, 0, 8, NtStatus::INVALID_PARAMETER_1),
    ] {
        let found = written(base, size, flags, &mut pages[..room]);
        findings.equal(format_args!("watch, {what}"), (expected, room as u64), found);
    }
    for (what, base, size, expected) in [
        ("no size", base, 0, NtStatus::INVALID_PARAMETER_3),
        ("plain memory", plain.base(), 1, NtStatus::INVALID_PARAMETER_1),
    ] {
        let found = NtResetWriteWatch(OWN, base, size);
        findings.equal(format_args!("reset, {what}"), expected, found);
    }
    // No list is as long as that, however large the array that is named.
    let null = core::ptr::null_mut();
    let (mut count, mut granularity) = (1 << 36, 0);
    // SAFETY: the array is no memory of the program's.
    let status =
        unsafe { NtGetWriteWatch(OWN, 0, base, size, null, &raw mut count, &raw mut granularity) };
    findings.equal("an array that is not there", NtStatus::ACCESS_VIOLATION, status);
    plain.release()?;
    block.release()
}
