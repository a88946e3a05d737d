//! NtAllocateVirtualMemoryEx, and the placeholders it makes.

use ntmm_user::findings::Findings;
use ntmm_user::flags::{
    MEM_COMMIT, MEM_PRESERVE_PLACEHOLDER, MEM_RELEASE, MEM_REPLACE_PLACEHOLDER, MEM_RESERVE,
    MEM_RESERVE_PLACEHOLDER, MemoryFlags, PAGE_NOACCESS, PAGE_READWRITE, Protection,
};
use ntmm_user::memory::Block;
use ntmm_user::services::{NtAllocateVirtualMemoryEx, NtFreeVirtualMemory};
use ntmm_user::structures::{AddressRequirements, ExtendedParameter, Handle};
use ntmm_user::{NtStatus, PAGE_SIZE};

use crate::Profile;

const OWN: Handle = Handle::CURRENT_PROCESS;
const RW: Protection = PAGE_READWRITE;
const PAGES: u64 = 4;

/// Makes the call: status, base, size.
fn allocate(
    base: u64,
    size: u64,
    kind: MemoryFlags,
    protection: Protection,
    parameters: &[ExtendedParameter],
) -> (NtStatus, u64, u64) {
    let (mut at, mut length) = (base, size);
    let count = parameters.len() as u32;
    // SAFETY: the pointers are to locals and to the slice; memory in use is not changed.
    let status = unsafe {
        let (base, size) = (&raw mut at, &raw mut length);
        let parameters = parameters.as_ptr();
        NtAllocateVirtualMemoryEx(OWN, base, size, kind.0, protection.0, parameters, count)
    };
    (status, at, length)
}

/// Frees: its status.
fn free(base: u64, size: u64, kind: MemoryFlags) -> NtStatus {
    let (mut base, mut size) = (base, size);
    // SAFETY: the pointers are to locals; the range was allocated by this module.
    unsafe { NtFreeVirtualMemory(OWN, &raw mut base, &raw mut size, kind.0) }
}

/// Everything.
pub fn check(findings: &mut Findings, profile: Profile) -> Result<(), NtStatus> {
    if profile == Profile::Legacy {
        let found = allocate(0, PAGE_SIZE, MEM_RESERVE, RW, &[]);
        findings.equal("no such call", (NtStatus::NOT_IMPLEMENTED, 0, PAGE_SIZE), found);
        return Ok(());
    }
    requirements(findings);
    placeholders(findings);
    Ok(())
}

fn requirements(findings: &mut Findings) {
    let between = AddressRequirements {
        lowest: 0x200_0000_0000,
        highest: 0x200_00FF_FFFF,
        alignment: 0x20_0000,
    };
    let parameter = ExtendedParameter::address_requirements(&between);
    let (status, base, size) = allocate(0, 5, MEM_RESERVE, RW, &[parameter]);
    findings.equal("requirements", (NtStatus::SUCCESS, PAGE_SIZE), (status, size));
    let fits = (between.lowest..=between.highest).contains(&base) && base % 0x20_0000 == 0;
    findings.equal("they are met", true, fits);
    findings.equal("release", NtStatus::SUCCESS, free(base, 0, MEM_RELEASE));

    let odd = AddressRequirements { alignment: 0x3_0000, ..AddressRequirements::default() };
    let odd = ExtendedParameter::address_requirements(&odd);
    let invalid = (NtStatus::INVALID_PARAMETER, 0, PAGE_SIZE);
    let wrong = ExtendedParameter { kind: 9, value: 0 };
    let nowhere = ExtendedParameter { kind: 1, value: 8 };
    for (what, parameters) in [
        ("an odd alignment", &[odd][..]),
        ("a type that is none", &[wrong]),
        ("the same twice", &[parameter, parameter]),
        ("too many", &[parameter; 20]),
    ] {
        let found = allocate(0, PAGE_SIZE, MEM_RESERVE, RW, parameters);
        findings.equal(format_args!("requirements, {what}"), invalid, found);
    }
    let found = allocate(0, PAGE_SIZE, MEM_RESERVE, RW, &[nowhere]);
    findings.equal("requirements nowhere", (NtStatus::ACCESS_VIOLATION, 0, PAGE_SIZE), found);
}

fn placeholders(findings: &mut Findings) {
    let reserve = MEM_RESERVE | MEM_RESERVE_PLACEHOLDER;
    let replace = MEM_RESERVE | MEM_COMMIT | MEM_REPLACE_PLACEHOLDER;
    let leave = MEM_RELEASE | MEM_PRESERVE_PLACEHOLDER;
    let all = PAGES * PAGE_SIZE;
    let found = allocate(0, all, reserve, RW, &[]);
    findings.equal("a placeholder one may touch", NtStatus::INVALID_PARAMETER, found.0);
    let (status, base, size) = allocate(0, all, reserve, PAGE_NOACCESS, &[]);
    findings.equal("placeholder", (NtStatus::SUCCESS, all), (status, size));
    let second = base + PAGE_SIZE;
    let conflict = NtStatus::CONFLICTING_ADDRESSES;
    findings.equal("a part", conflict, allocate(second, PAGE_SIZE, replace, RW, &[]).0);
    findings.equal("split", NtStatus::SUCCESS, free(second, PAGE_SIZE, leave));
    let found = allocate(second, PAGE_SIZE, replace, RW, &[]);
    findings.equal("replace", (NtStatus::SUCCESS, second, PAGE_SIZE), found);
    // SAFETY: the page was allocated by the call before, and is nobody else's.
    let page = unsafe { Block::from_base(second, PAGE_SIZE) };
    page.store(0, 7);
    findings.word(second, 7, page.load(0));
    let _ = page.into_base();
    findings.equal("again a placeholder", NtStatus::SUCCESS, free(second, PAGE_SIZE, leave));
    let found = allocate(second, PAGE_SIZE, replace, RW, &[]);
    findings.equal("replace again", NtStatus::SUCCESS, found.0);
    // SAFETY: as above.
    let page = unsafe { Block::from_base(second, PAGE_SIZE) };
    findings.word(second, 0, page.load(0));
    for part in [page.into_base(), base, base + 2 * PAGE_SIZE] {
        findings.equal("release", NtStatus::SUCCESS, free(part, 0, MEM_RELEASE));
    }
}
