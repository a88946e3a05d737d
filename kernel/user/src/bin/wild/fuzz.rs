//! Services with random arguments.
//!
//! Each argument is mostly of the kind the service expects: its own handle, a pointer to a cell
//! of a scratch block, flags, an address in an arena that only this module uses; and now and then
//! anything else, bad pointers among it. Services that would end the program or write to the
//! console are left out. What comes back is not judged: the kernel must survive, and the program
//! with all it owns.

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

/// Kinds of arguments.
#[derive(Clone, Copy)]
enum Draw {
    /// The calling process.
    Own,
    /// A cell that holds an address of the arena.
    Base,
    /// A cell that holds a size.
    Size,
    /// An address of the arena.
    Address,
    /// The name of a file.
    Name,
    /// Two cells that hold pointers to a count and to room for a number.
    Rest,
    /// One of these.
    OneOf(&'static [u64]),
    /// Whatever.
    Any,
}

/// The services, with the arguments they expect.
const SERVICES: [(Service, [Draw; 6]); 17] = {
    use Draw::{Address, Any, Base, Name, OneOf, Own, Rest, Size};
    const ZERO: Draw = OneOf(&[0]);
    const KINDS: Draw = OneOf(&[0x1000, 0x2000, 0x3000, 0x10_2000, 0x10_3000, 0x8_0000, 0x20_3000]);
    const CLASSES: Draw = OneOf(&[0, 1, 3, 4]);
    const LENGTHS: Draw = OneOf(&[24, 48, 64, 0x400, 0x1_0000]);
    const MAPS: Draw = OneOf(&[1, 2, 3]);
    const SIZES: Draw = OneOf(&[1, 8, 0x1000, 0x1_2345]);
    const PROTECTIONS: Draw = OneOf(&[0x01, 0x02, 0x04, 0x10, 0x20, 0x40, 0x102, 0x104, 0x204]);
    [
        (Service::YieldExecution, [Any; 6]),
        (Service::AllocateVirtualMemory, [Own, Base, ZERO, Size, KINDS, PROTECTIONS]),
        (Service::FreeVirtualMemory, [Own, Base, Size, OneOf(&[0x4000, 0x8000]), Any, Any]),
        (Service::ProtectVirtualMemory, [Own, Base, Size, PROTECTIONS, Size, Any]),
        (Service::QueryVirtualMemory, [Own, Address, CLASSES, Address, LENGTHS, Size]),
        (Service::AllocateVirtualMemoryEx, [Own, Base, Size, KINDS, PROTECTIONS, Rest]),
        (Service::LockVirtualMemory, [Own, Base, Size, MAPS, Any, Any]),
        (Service::UnlockVirtualMemory, [Own, Base, Size, MAPS, Any, Any]),
        (Service::FlushVirtualMemory, [Own, Base, Size, Address, Any, Any]),
        (Service::ReadVirtualMemory, [Own, Address, Address, SIZES, Size, Any]),
        (Service::WriteVirtualMemory, [Own, Address, Address, SIZES, Size, Any]),
        (Service::GetWriteWatch, [Own, OneOf(&[0, 1]), Address, SIZES, Address, Rest]),
        (Service::ResetWriteWatch, [Own, Address, SIZES, Any, Any, Any]),
        (Service::QuerySystemInformation, [OneOf(&[2]), Base, OneOf(&[96]), Size, Any, Any]),
        (Service::SetInformationProcess, [Own, OneOf(&[1]), Size, OneOf(&[16]), Any, Any]),
        (Service::ReadArchive, [Name, OneOf(&[NAME_LENGTH]), Base, OneOf(&[64]), Size, Any]),
        (Service::WaitForThread, [Any; 6]),
    ]
};

/// Numbers that mean something to some service.
const NUMBERS: [u64; 24] = [
    0,
    1,
    2,
    3,
    8,
    16,
    47,
    48,
    96,
    0x100,
    0xFFF,
    0x1000,
    0x1001,
    0xFFFF,
    0x1_0000,
    0x8_0000,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x0000_07FF_FFFE_0000,
    0x0000_8000_0000_0000,
    0xFFFF_8000_0000_0000,
    0xFFFF_FFFF_8010_0000,
    u64::MAX - 1,
    u64::MAX,
];

/// Cells of the scratch block: an address in each even one, a size in each odd one.
const CELLS: u64 = 32;
/// Bytes of a cell.
const CELL: u64 = 8;
/// Offset of a word that no call may write to.
const CANARY: u64 = 0x800;
/// Offset of the name of a file that is there, and its bytes.
const NAME: u64 = 0x900;
const NAME_LENGTH: u64 = 8;

/// Offset of the pointers of [`Draw::Rest`], and of what they point to.
const REST: u64 = 0x980;
const COUNT: u64 = 0x9C0;

/// Makes `steps` calls.
pub fn run(findings: &mut Findings, seed: u64, steps: u64) -> Result<(), NtStatus> {
    println!("wild: {steps} random calls, seed {seed}");
    let mut random = Random::new(seed);
    let scratch = Block::commit_new(2)?;
    scratch.store(CANARY, seed);
    scratch.store(NAME, u64::from_le_bytes(*b"programs"));
    let mut successes = 0_u64;
    for _ in 0..steps {
        scratch.store(REST, scratch.base() + COUNT);
        scratch.store(REST + CELL, scratch.base() + COUNT + CELL);
        scratch.store(COUNT, random.below(64));
        for pair in 0..CELLS / 2 {
            scratch.store(2 * pair * CELL, base(&mut random));
            scratch.store((2 * pair + 1) * CELL, size(&mut random));
        }
        let index = random.below(SERVICES.len() as u64) as usize;
        let Some((service, draws)) = SERVICES.get(index) else { continue };
        let arguments = draws.map(|draw| argument(&mut random, &scratch, draw));
        let number = *service as u32;
        // SAFETY: what a call may write to or free lies in the scratch block or the arena.
        let status = unsafe {
            match random.below(2) {
                0 => gate::system_call(number, arguments),
                _ => gate::interrupt(number, arguments),
            }
        };
        successes += u64::from(status.is_success());
        // SAFETY: the arena is this function's own.
        let _ = unsafe { attempt::store(ARENA + random.below(ARENA_SIZE), successes) };
        findings.word(scratch.base() + CANARY, seed, scratch.load(CANARY));
    }
    println!("wild: {successes} of {steps} random calls succeeded");
    scratch.release()
}

/// An address of the arena, mostly of a page.
fn address(random: &mut Random) -> u64 {
    let address = ARENA + random.below(ARENA_SIZE);
    if random.below(8) == 0 { address } else { address & !(PAGE_SIZE - 1) }
}

/// An address to allocate or free at: in the arena or nobody's. The program's own memory lies
/// between the two limits.
fn base(random: &mut Random) -> u64 {
    const OWN: core::ops::RangeInclusive<u64> = 0x1_0000..=0xFFFF_FFFF;
    match random.below(16) {
        0 => Some(number(random)).filter(|number| !OWN.contains(number)).unwrap_or(ARENA),
        _ => address(random),
    }
}

fn size(random: &mut Random) -> u64 {
    match random.below(16) {
        0 => number(random),
        1 | 2 => 0,
        _ => random.below(64 * PAGE_SIZE),
    }
}

fn argument(random: &mut Random, scratch: &Block, draw: Draw) -> u64 {
    let draw = if random.below(16) == 0 { Draw::Any } else { draw };
    let cell = |random: &mut Random| 2 * random.below(CELLS / 2) * CELL;
    match draw {
        Draw::Own => u64::MAX,
        Draw::Base => scratch.base() + cell(random),
        Draw::Size => scratch.base() + cell(random) + CELL,
        Draw::Address => address(random),
        Draw::Name => scratch.base() + NAME,
        Draw::Rest => scratch.base() + REST,
        Draw::OneOf(values) => {
            values.get(random.below(values.len() as u64) as usize).copied().unwrap_or(0)
        }
        Draw::Any => match random.below(4) {
            0 => address(random),
            // Across the end of the block.
            1 => scratch.base() + scratch.size() - 1 - random.below(8),
            _ => number(random),
        },
    }
}

fn number(random: &mut Random) -> u64 {
    NUMBERS.get(random.below(NUMBERS.len() as u64) as usize).copied().unwrap_or(0)
}
