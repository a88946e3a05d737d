//! Services with random arguments.
//!
//! Each argument is drawn from numbers that mean something to some service: flag words, sizes,
//! handles, pointers into a scratch block, addresses in an arena that only this module uses, and
//! bad pointers. Services that would end the program or write to the console are left out. What
//! comes back is not judged: the kernel must survive, and the program with all it owns.

use ntmm_user::NtStatus;
use ntmm_user::PAGE_SIZE;
use ntmm_user::findings::Findings;
use ntmm_user::memory::Block;
use ntmm_user::random::Random;
use ntmm_user::services::Service;
use ntmm_user::{attempt, gate, println};

/// Where the calls allocate: nothing of the program's is near.
const ARENA: u64 = 0x100_0000_0000;
/// Bytes of it.
const ARENA_SIZE: u64 = 1 << 22;

const SERVICES: [Service; 9] = [
    Service::YieldExecution,
    Service::AllocateVirtualMemory,
    Service::FreeVirtualMemory,
    Service::ProtectVirtualMemory,
    Service::QueryVirtualMemory,
    Service::QuerySystemInformation,
    Service::SetInformationProcess,
    Service::ReadArchive,
    Service::WaitForThread,
];

/// Numbers that mean something to some service.
const NUMBERS: [u64; 32] = [
    0,
    1,
    2,
    3,
    4,
    8,
    16,
    48,
    80,
    96,
    0x10,
    0x20,
    0x40,
    0x104,
    0x102,
    0x1000,
    0x2000,
    0x3000,
    0x4000,
    0x8000,
    0x1_0000,
    0x8_0000,
    0x10_1000,
    0x10_3000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x0000_07FF_FFFE_0000,
    0x0000_8000_0000_0000,
    0xFFFF_8000_0000_0000,
    0xFFFF_FFFF_8010_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// Words of the scratch block that calls read bases and sizes from.
const CELLS: u64 = 32;

/// Offset of a word that no call may write to.
const CANARY: u64 = 0x800;

/// Makes `steps` calls.
pub fn run(findings: &mut Findings, seed: u64, steps: u64) -> Result<(), NtStatus> {
    println!("wild: {steps} random calls, seed {seed}");
    let mut random = Random::new(seed);
    let scratch = Block::commit_new(2)?;
    scratch.store(CANARY, seed);
    let mut successes = 0_u64;
    for _ in 0..steps {
        for cell in 0..CELLS {
            scratch.store(cell * 8, word(&mut random));
        }
        let service = match SERVICES.get(random.below(SERVICES.len() as u64) as usize) {
            Some(service) => *service as u32,
            None => continue,
        };
        let mut arguments = [(); 6].map(|()| argument(&mut random, &scratch));
        // Mostly the calling process, or little else would be reached.
        if random.below(8) != 0 && service != Service::QuerySystemInformation as u32 {
            arguments[0] = u64::MAX;
        }
        // SAFETY: what a call may write to or free lies in the scratch block or the arena.
        let status = unsafe {
            match random.below(2) {
                0 => gate::system_call(service, arguments),
                _ => gate::interrupt(service, arguments),
            }
        };
        successes += u64::from(status.is_success());
        let address = arena_address(&mut random);
        // SAFETY: as above.
        let _ = unsafe { attempt::store(address, successes) };
        findings.word(scratch.base() + CANARY, seed, scratch.load(CANARY));
    }
    println!("wild: {successes} of {steps} random calls succeeded");
    scratch.release()
}

fn arena_address(random: &mut Random) -> u64 {
    ARENA + random.below(ARENA_SIZE)
}

/// What a base or a size may be. As a base it is in the arena or nobody's: the program's own
/// memory lies between the two limits.
fn word(random: &mut Random) -> u64 {
    const OWN: core::ops::RangeInclusive<u64> = 0x1_0000..=0xFFFF_FFFF;
    let word = match random.below(4) {
        0 | 1 => arena_address(random) & !(PAGE_SIZE - 1),
        2 => random.below(*OWN.start()),
        _ => number(random),
    };
    if OWN.contains(&word) { PAGE_SIZE } else { word }
}

fn argument(random: &mut Random, scratch: &Block) -> u64 {
    match random.below(8) {
        0..=3 => scratch.base() + random.below(CELLS) * 8,
        4 => arena_address(random),
        5 => scratch.base() + scratch.size() - random.below(64),
        _ => number(random),
    }
}

fn number(random: &mut Random) -> u64 {
    NUMBERS.get(random.below(NUMBERS.len() as u64) as usize).copied().unwrap_or(0)
}
