//! Random calls, biased towards the places where rules change.
//!
//! Addresses come from three sources: the edges of allocations there are, a few small stretches
//! of the address space that calls keep meeting in, and the numbers at which address spaces and
//! integers end. To each, a page, a byte or 64 KiB may be added or taken away. Sizes are some
//! pages, what is missing to an edge, or an end of the integers.

use crate::call::{Call, Handle, Pointer, Privilege, Requirements, Touch};
use crate::model::numbers::*;
use crate::model::{Model, Replaced, Trait};
use crate::random::Random;
use crate::rules::{Rules, Version};

/// Pages that are not free beyond which memory is mostly released.
const FULL: usize = 1500;

/// Where things end.
const ENDS: [u64; 9] =
    [0, LOWEST_END, 0x7FFE_0000, 0x7FFF_0000, 1 << 31, 1 << 32, 1 << 47, 1 << 63, u64::MAX];

/// The end of the lowest 64 KiB.
const LOWEST_END: u64 = 0x1_0000;

/// One in so many calls takes memory away, which is slow, if something has been given up.
const SQUEEZE_PERIOD: u64 = 1000;

/// Pages of a stretch that calls meet in.
const STRETCH: u64 = 96;

/// A stream of calls that follows from a seed.
#[derive(Debug)]
pub(crate) struct Generator {
    random: Random,
    rules: Rules,
    stretches: [u64; 4],
}

impl Generator {
    pub(crate) fn new(seed: u64, rules: Rules) -> Self {
        let top = rules.highest_allocated_address() + 1 - STRETCH * PAGE;
        // The first one is where addresses that are chosen come from, the second crosses a page
        // table, the third the 31st bit or what a 32-bit program has instead.
        let middle = if rules.is_narrow() { 0x4000_0000 } else { 1 << 31 };
        let stretches =
            [LOWEST_END, 0x5020_0000 - STRETCH / 2 * PAGE, middle - STRETCH / 2 * PAGE, top];
        Self { random: Random::new(seed), rules, stretches }
    }

    /// Next call on an address space in this state.
    pub(crate) fn next(&mut self, model: &Model) -> Call {
        let handle = self.handle();
        if model.size() > FULL && self.random.one_in(2) {
            let at = self.page(model) * PAGE;
            let base = model.nearest_extent(at / PAGE).map_or(at, |(first, _)| first * PAGE);
            return Call::Free { handle, base: Some(base), size: Some(0), kind: RELEASE };
        }
        if self.random.one_in(SQUEEZE_PERIOD) {
            let worthwhile = model.nearest_run(0, Trait::GivenUp).is_some();
            if worthwhile || self.random.one_in(8) {
                return Call::Squeeze;
            }
        }
        match self.random.below(100) {
            0..=27 => self.allocate(handle, model),
            28..=37 if self.rules.version == Version::Modern => {
                self.allocate_extended(handle, model)
            }
            28..=52 => {
                let kind = self.free_type();
                let (base, size) = self.free_range(kind, model);
                Call::Free { handle, base: self.pointer(base), size: self.pointer(size), kind }
            }
            53..=58 => {
                let privilege = self.random.pick(&[Privilege::Held, Privilege::Missing]);
                let (base, size) = self.lock_range(model);
                let (base, size) = (self.pointer(base), self.pointer(size));
                let kind = self.lock_type();
                Call::Lock { handle, base, size, kind, privilege }
            }
            59..=61 => {
                let privilege = self.random.pick(&[Privilege::Held, Privilege::Missing]);
                let (base, size) = self.locked_range(model);
                let (base, size) = (self.pointer(base), self.pointer(size));
                let kind = self.lock_type();
                Call::Unlock { handle, base, size, kind, privilege }
            }
            62..=69 => {
                let (base, size) = self.range(model);
                let protection = self.protection();
                let (base, size) = (self.pointer(base), self.pointer(size));
                Call::Protect { handle, base, size, protection }
            }
            70..=75 => Call::Query { handle, address: self.query_address(model) },
            76..=79 => Call::QueryRegion { handle, address: self.address(model) },
            80..=94 => Call::Touch {
                address: self.touched(model),
                how: self.random.pick(&[Touch::Read, Touch::Write, Touch::Write]),
            },
            95..=97 => {
                let (base, size) = self.range(model);
                let flags = self.random.pick(&[0, 0, 1, 1, 1, 2, u32::MAX]);
                let count = self.random.pick(&[0, 1, 2, 64, 64, 64, 1 << 60]);
                Call::GetWriteWatch { handle, flags, base, size, count: self.pointer(count) }
            }
            98 if self.random.one_in(2) => {
                let (base, size) = self.range(model);
                Call::Flush { handle, base: self.pointer(base), size: self.pointer(size) }
            }
            _ => {
                let (base, size) = self.range(model);
                Call::ResetWriteWatch { handle, base, size }
            }
        }
    }

    fn allocate(&mut self, handle: Handle, model: &Model) -> Call {
        let kind = self.allocation_type();
        let protection = self.protection();
        let (base, size) = self.allocation_range(kind, model);
        let zero_bits = if self.random.one_in(8) {
            let bits = self.random.below(64);
            let power = 1 << bits;
            self.random.pick(&[bits / 2, bits / 2, power, power - 1, power + 5, u64::MAX])
        } else {
            0
        };
        let (base, size) = (self.pointer(base), self.pointer(size));
        Call::Allocate { handle, base, zero_bits, size, kind, protection }
    }

    fn allocate_extended(&mut self, handle: Handle, model: &Model) -> Call {
        let (kind, protection) = match self.random.below(8) {
            0..=2 => (RESERVE | RESERVE_PLACEHOLDER, NOACCESS),
            3 => {
                let kinds = [
                    RESERVE_PLACEHOLDER,
                    RESERVE | COMMIT | RESERVE_PLACEHOLDER,
                    REPLACE_PLACEHOLDER,
                    REPLACE_PLACEHOLDER | COMMIT,
                ];
                (self.random.pick(&kinds), self.random.pick(&[NOACCESS, READWRITE]))
            }
            4..=6 => {
                let more =
                    self.random.pick(&[0, COMMIT, COMMIT, WRITE_WATCH, COMMIT | WRITE_WATCH]);
                (RESERVE | REPLACE_PLACEHOLDER | more, self.protection())
            }
            _ => (self.allocation_type(), self.protection()),
        };
        let (mut base, size) = if kind & REPLACE_PLACEHOLDER != 0 {
            self.placeholder(Replaced::No, model).unwrap_or_else(|| self.range(model))
        } else {
            self.allocation_range(kind, model)
        };
        let requirements = self.random.one_in(4).then(|| self.requirements());
        if requirements.is_some() && !self.random.one_in(4) {
            base = 0;
        }
        if kind & REPLACE_PLACEHOLDER != 0 && base < LOWEST_END {
            // What it means to replace what cannot be there is not said.
            base = self.stretches[1];
        }
        let (base, size) = (self.pointer(base), self.pointer(size));
        Call::AllocateExtended { handle, base, size, kind, protection, requirements }
    }

    fn requirements(&mut self) -> Requirements {
        let some = |of: &mut Self| of.random.pick(&of.stretches) & !0xFFFF;
        let (low, high) = (some(self), some(self));
        let units = self.random.below(4) * 0x1_0000;
        let lowest = self.random.pick(&[0, low, low, low + units, low + PAGE]);
        let end = high + units;
        let highest =
            self.random.pick(&[0, end.wrapping_sub(1), end - 1 + 0x10_0000, end, u64::MAX]);
        let alignment = self.random.pick(&[0, 0x1_0000, 0x2_0000, 0x20_0000, PAGE, 0x3_0000]);
        match self.random.below(6) {
            0 => Requirements::default(),
            1 => Requirements { lowest, highest: 0, alignment: 0 },
            2 => Requirements { lowest: 0, highest: end.wrapping_sub(1), alignment: 0 },
            3 => Requirements { lowest: low, highest: low + 0x10_0000 - 1, alignment },
            _ => Requirements { lowest, highest, alignment },
        }
    }

    fn handle(&mut self) -> Handle {
        if self.random.one_in(40) {
            self.random.pick(&[
                Handle::WithoutRights,
                Handle::Closed,
                Handle::NoProcess,
                Handle::Ended,
            ])
        } else {
            Handle::Current
        }
    }

    /// A pointer to a number of the width of the machine.
    fn pointer(&mut self, value: u64) -> Pointer {
        (!self.random.one_in(100)).then_some(self.narrowed(value))
    }

    /// A number as a parameter of the machine's width holds it.
    fn narrowed(&self, value: u64) -> u64 {
        if self.rules.is_narrow() { value & 0xFFFF_FFFF } else { value }
    }

    fn allocation_type(&mut self) -> u32 {
        const USUAL: [u32; 14] = [
            RESERVE,
            RESERVE | COMMIT,
            RESERVE | COMMIT,
            COMMIT,
            COMMIT,
            COMMIT,
            RESET,
            RESET_UNDO,
            RESET_UNDO,
            RESERVE | TOP_DOWN,
            RESERVE | COMMIT | TOP_DOWN,
            RESERVE | WRITE_WATCH,
            RESERVE | COMMIT | WRITE_WATCH,
            RESERVE | PHYSICAL,
        ];
        const BITS: [u32; 12] = [
            COMMIT,
            RESERVE,
            RESET,
            RESET_UNDO,
            PHYSICAL,
            TOP_DOWN,
            WRITE_WATCH,
            LARGE_PAGES,
            RESERVE_PLACEHOLDER,
            REPLACE_PLACEHOLDER,
            0x4000_0000,
            1,
        ];
        if self.random.one_in(8) {
            let some = [self.random.pick(&BITS), self.random.pick(&BITS), self.random.pick(&BITS)];
            self.random.pick(&[
                some[0],
                some[0] | some[1],
                some[0] | some[1] | some[2],
                0,
                u32::MAX,
            ])
        } else {
            self.random.pick(&USUAL)
        }
    }

    fn free_type(&mut self) -> u32 {
        const PRESERVE: u32 = RELEASE | PRESERVE_PLACEHOLDER;
        const COALESCE: u32 = RELEASE | COALESCE_PLACEHOLDERS;
        const ODD: [u32; 6] =
            [0, DECOMMIT | RELEASE, PRESERVE_PLACEHOLDER, DECOMMIT | 1, PRESERVE | 1, u32::MAX];
        match self.random.below(16) {
            0 => self.random.pick(&ODD),
            1..=6 => RELEASE,
            7..=10 => DECOMMIT,
            11..=13 => PRESERVE,
            _ => COALESCE,
        }
    }

    fn lock_type(&mut self) -> u32 {
        const BOTH: u32 = MAP_PROCESS | MAP_SYSTEM;
        match self.random.below(16) {
            0 => self.random.pick(&[0, 4, 5, u32::MAX]),
            1..=3 => MAP_SYSTEM,
            4 => BOTH,
            _ => MAP_PROCESS,
        }
    }

    fn protection(&mut self) -> u32 {
        const USUAL: [u32; 8] = [READWRITE, READWRITE, READWRITE, 2, NOACCESS, 0x20, 0x40, 0x10];
        match self.random.below(16) {
            0 => self.random.pick(&[
                0,
                0x6,
                GUARD,
                NOACCESS | GUARD,
                0x304,
                0x804,
                0x8,
                0x80,
                u32::MAX,
            ]),
            1..=3 => self.random.pick(&USUAL) | GUARD,
            4 => self.random.pick(&USUAL) | self.random.pick(&[NOCACHE, WRITECOMBINE]),
            _ => self.random.pick(&USUAL),
        }
    }

    /// A page, mostly one that is not free or beside one.
    fn page(&mut self, model: &Model) -> u64 {
        let near = self.random.pick(&self.stretches) / PAGE + self.random.below(STRETCH);
        match self.random.below(4) {
            0 => near,
            _ => match model.nearest_extent(near) {
                Some((first, last)) => {
                    let inside = first + self.random.below(last - first + 1);
                    let beside = [first.saturating_sub(1), last + 1];
                    self.random.pick(&[first, first, inside, inside, last, beside[0], beside[1]])
                }
                None => near,
            },
        }
    }

    fn address(&mut self, model: &Model) -> u64 {
        if self.random.one_in(12) {
            return self.end();
        }
        let base = self.page(model) * PAGE;
        match self.random.below(8) {
            0 => base.wrapping_sub(1),
            1 => base + 1,
            2 => base + PAGE - 1,
            3 => base + self.random.below(PAGE),
            _ => base,
        }
    }

    /// An address near one at which something ends.
    fn end(&mut self) -> u64 {
        let own = [self.rules.highest_allocated_address(), self.rules.highest_user_address()];
        let end =
            if self.random.one_in(3) { self.random.pick(&own) } else { self.random.pick(&ENDS) };
        let off = self.random.pick(&[0, 1, PAGE, PAGE - 1, 0x1_0000, 0x1_0001]);
        let moved =
            if self.random.one_in(2) { end.wrapping_add(off) } else { end.wrapping_sub(off) };
        self.narrowed(moved)
    }

    /// Not behind the page of shared data above the highest allocation: what is there belongs to
    /// the system, and whether it counts as free or as reserved the specification leaves open.
    fn query_address(&mut self, model: &Model) -> u64 {
        loop {
            let address = self.address(model);
            let (highest, user) =
                (self.rules.highest_allocated_address(), self.rules.highest_user_address());
            if !(highest + 1..=user).contains(&address) || address / PAGE == SHARED_DATA / PAGE {
                return address;
            }
        }
    }

    /// Where memory is allocated.
    fn allocation_range(&mut self, kind: u32, model: &Model) -> (u64, u64) {
        let of_contents = match kind {
            RESET => Some(Trait::Held),
            RESET_UNDO => Some(self.random.pick(&[Trait::Held, Trait::GivenUp, Trait::GivenUp])),
            _ => None,
        };
        if let Some(run) = of_contents.and_then(|trait_of| self.run_of(trait_of, model)) {
            return run;
        }
        if kind & RESERVE == 0 {
            return self.range(model);
        }
        let base = match self.random.below(4) {
            0 | 1 => 0,
            2 => self.random.pick(&self.stretches) + self.random.below(STRETCH / 16) * 0x1_0000,
            _ => self.address(model),
        };
        (base, self.size())
    }

    fn size(&mut self) -> u64 {
        let pages = match self.random.below(4) {
            0 => 1 + self.random.below(3),
            1 => 16 * (1 + self.random.below(3)),
            2 => 1 + self.random.below(40),
            _ => 1 + self.random.below(16),
        };
        match self.random.below(16) {
            0 => self.end(),
            1 => 0,
            2 => 1,
            3 => pages * PAGE - 1,
            4 => pages * PAGE + 1,
            _ => pages * PAGE,
        }
    }

    /// All of a placeholder, or none now and then.
    fn placeholder(&mut self, replaced: Replaced, model: &Model) -> Option<(u64, u64)> {
        let near = self.page(model);
        let found = model.nearest_placeholder(near, replaced);
        let (first, last) = found.filter(|_| !self.random.one_in(3))?;
        Some((first * PAGE, (last + 1 - first) * PAGE))
    }

    /// A range to free in this way.
    fn free_range(&mut self, kind: u32, model: &Model) -> (u64, u64) {
        const PRESERVE: u32 = RELEASE | PRESERVE_PLACEHOLDER;
        const COALESCE: u32 = RELEASE | COALESCE_PLACEHOLDERS;
        let replaced = match kind {
            PRESERVE if self.random.one_in(3) => Replaced::Yes,
            PRESERVE | COALESCE => Replaced::No,
            _ => return self.range(model),
        };
        let Some((base, size)) = self.placeholder(replaced, model) else {
            return self.range(model);
        };
        let pages = size / PAGE;
        match (kind, replaced) {
            (PRESERVE, Replaced::No) => {
                let first = self.random.below(pages);
                let some = 1 + self.random.below(pages - first);
                (base + first * PAGE, some * PAGE)
            }
            (COALESCE, _) => {
                // As many as lie one behind the other, up to four.
                let mut end = base / PAGE + pages;
                for _ in 0..1 + self.random.below(3) {
                    match model.nearest_placeholder(end, Replaced::No) {
                        Some((first, last)) if first == end => end = last + 1,
                        _ => break,
                    }
                }
                (base, end * PAGE - base)
            }
            _ => (base, size),
        }
    }

    /// A range to lock, mostly of few pages.
    fn lock_range(&mut self, model: &Model) -> (u64, u64) {
        if self.random.one_in(4) {
            return self.range(model);
        }
        (self.address(model), self.random.pick(&[1, PAGE, PAGE, 2 * PAGE, 4 * PAGE, 8 * PAGE]))
    }

    /// Pages of such a run, mostly.
    fn run_of(&mut self, trait_of: Trait, model: &Model) -> Option<(u64, u64)> {
        let near = self.page(model);
        let found = model.nearest_run(near, trait_of).filter(|_| !self.random.one_in(4));
        let (first, last) = found?;
        let start = first + self.random.below(last - first + 1);
        let pages = 1 + self.random.below(last - start + 1);
        let more = self.random.pick(&[0, 0, 0, 0, 1, PAGE]);
        Some((start * PAGE, pages * PAGE + more))
    }

    /// A range to unlock.
    fn locked_range(&mut self, model: &Model) -> (u64, u64) {
        self.run_of(Trait::Locked, model).unwrap_or_else(|| self.lock_range(model))
    }

    /// Where a byte is touched; often where one was stored.
    fn touched(&mut self, model: &Model) -> u64 {
        let address = self.address(model);
        let stored = model.nearest_store(address).filter(|_| self.random.one_in(3));
        stored.unwrap_or(address)
    }

    /// A range that has to do with an allocation.
    fn range(&mut self, model: &Model) -> (u64, u64) {
        let base = self.address(model);
        let Some((first, last)) = model.nearest_extent(base / PAGE) else {
            return (base, self.size());
        };
        let (from, to) = (first * PAGE, (last + 1) * PAGE);
        match self.random.below(10) {
            0 => (from, 0),
            1 => (from, to - from),
            2 => (from + self.random.below(PAGE), 0),
            3 if base < to => (base, to - base),
            4 if base < to => (base, to - base + self.random.pick(&[1, PAGE])),
            5 | 6 => {
                let start = first + self.random.below(last - first + 1);
                (start * PAGE, (1 + self.random.below(last - start + 1)) * PAGE)
            }
            // Over into what comes next, as far as the next one goes.
            7 => match model.nearest_extent(last + 1) {
                Some((_, further)) if further > last && further - first < 512 => {
                    (from, (further + 1 - first) * PAGE)
                }
                _ => (from, to - from),
            },
            _ => (base, self.size()),
        }
    }
}
