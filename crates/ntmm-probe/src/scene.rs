//! An address space whose pages are in every state there is.
//!
//! The manager boots on a simulated machine whose memory lies high enough that the machine that
//! will make the probes has it too. A program then reserves, commits, reads, writes, protects
//! and frees, pages are trimmed, aged and paged out, and the machine is left as it is: every
//! place of interest is a [`Place`] of the [`Scene`].
//!
//! The lowest entry of the page directory is the probing machine's own (see
//! [`image`](crate::image)), so nothing is allocated below 4 MiB.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use ntmm::address_space::AddressSpaceId;
use ntmm::operation::Operation;
use ntmm::platform::FrameRange;
use ntmm::tables::EntryRef;
use ntmm::virtual_memory::{Allocate, AllocationType, Free, FreeType, Placement, Protect};
use ntmm::working_set::WorkingSetLimits;
use ntmm::working_set::limits::{EmptyWorkingSet, Hardness};
use ntmm_machine::ram::Ram;
use ntmm_machine::{
    Clock, Config, Costs, Cpu, Hardware, Machine, MemoryAccess, MemoryDisk, NoTrace, Outcome,
    Program, ProgramStep, Simulation,
};
use ntmm_pte::AccessKind::{Execute, Read, Write};
use ntmm_pte::mode::SHARED_USER_DATA;
use ntmm_pte::{Access, AccessKind, Level, Modifier, PAGE_SIZE, Pages, Pfn, Protection, Va};

/// First frame of the memory: 64 MiB.
pub const FIRST_FRAME: u32 = 0x4000;
/// Frames of the memory.
pub const FRAMES: u32 = 224;
/// The frame, outside the memory, that the lowest directory entry names.
pub const HOST_TABLE: u32 = FIRST_FRAME - 1;

// Bits of entries, by the processor's manual.
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const NO_EXECUTE: u64 = 1 << 63;
const RESERVED: u64 = 1 << 52;
/// A table for everybody, with nothing left for the processor to set.
const SETTLED_TABLE: u64 = 0x67;
/// The large page at the memory's start, present, writable, for user mode.
const LARGE_PAGE: u64 = (FIRST_FRAME as u64) << 12 | 0x87;

/// A reference takes a millisecond, so that a program can wait by making references.
const REFERENCE: ntmm_machine::Nanoseconds = ntmm_machine::Nanoseconds::from_micros(1000);
/// References that take longer than the balance set manager's second.
const SECOND: usize = 1100;
/// Pages that push all others out of memory.
const CROWD: u64 = 240;

/// What a place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Memory of the program or of the manager, or a hole.
    Page,
    /// An entry of a table, seen through the self-map.
    Entry,
}

/// An address worth probing.
#[derive(Clone, Debug)]
pub struct Place {
    /// What is there.
    pub name: String,
    /// Address of a naturally aligned group of 4 bytes.
    pub va: Va,
    /// What it is.
    pub kind: Kind,
}

/// An address space and the places in it.
#[derive(Debug)]
pub struct Scene<M: Hardware> {
    simulation: Simulation<M, NoTrace>,
    space: AddressSpaceId,
    places: Vec<Place>,
}

impl<M: Hardware> Scene<M> {
    /// Builds the scene.
    #[must_use]
    pub fn new() -> Self {
        let mut builder = Builder::<M>::new();
        builder.leave_memory();
        builder.protections();
        builder.changed_protections();
        builder.holes();
        builder.age();
        builder.edit();
        builder.kernel_places();
        builder.entries();
        builder.lend_lowest_entry();
        let Builder { simulation, space, places } = builder;
        Self { simulation, space, places }
    }

    /// The places.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The machine's memory.
    #[must_use]
    pub fn ram(&self) -> &Ram {
        self.simulation.machine().ram()
    }

    /// Frame of the root table.
    #[must_use]
    pub fn root(&self) -> Pfn {
        self.simulation.manager().root(self.space).expect("the space lives")
    }

    /// The entry of an address at a level, as the manager finds it.
    #[must_use]
    pub fn entry(&self, va: Va, level: Level) -> Option<u64> {
        let manager = self.simulation.manager();
        let entry = manager.space_view(self.space)?.find_entry(va, level)?;
        Some(manager.raw_entry(entry))
    }

    /// The entry that the self-map shows at an address, as the manager finds it. In the 32-bit
    /// modes the window shows the entries of all page tables in order of the addresses they map,
    /// directories being the tables of the window itself. A large page has no table: the window
    /// shows its first frame in place of one.
    #[must_use]
    pub fn entry_at(&self, shown_at: Va) -> Option<u64> {
        let va = M::va_of_entry(shown_at, Level::Table);
        self.entry(va, Level::Table).or_else(|| {
            let large = self.entry(va, Level::Directory)?;
            let first = EntryRef { table: M::valid_pfn(large), slot: M::slot(va, Level::Table) };
            let shown = M::is_valid(large) && M::is_of_large_page(large);
            shown.then(|| self.simulation.manager().raw_entry(first))
        })
    }
}

impl<M: Hardware> Default for Scene<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes a list of accesses, one after the other.
struct Toucher {
    accesses: VecDeque<(Va, AccessKind)>,
    access: MemoryAccess,
    left: Rc<RefCell<usize>>,
}

impl<M: Hardware> Program<M, NoTrace> for Toucher {
    fn run(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) -> ProgramStep {
        while cpu.may_continue() {
            let Some(&(va, kind)) = self.accesses.front() else {
                return ProgramStep::Exit;
            };
            let outcome = match kind {
                AccessKind::Read | AccessKind::Execute => {
                    match self.access.translate(cpu, va, kind) {
                        Outcome::Done(_) => Outcome::Done(()),
                        Outcome::Stop(step) => Outcome::Stop(step),
                        Outcome::Raise(status) => Outcome::Raise(status),
                    }
                }
                AccessKind::Write => self.access.store_number(cpu, va, 4, !va.get()),
            };
            match outcome {
                Outcome::Done(()) => {
                    self.accesses.pop_front();
                    *self.left.borrow_mut() -= 1;
                }
                Outcome::Stop(step) => return step,
                Outcome::Raise(status) => panic!("{kind:?} at {va} raises {status}"),
            }
        }
        ProgramStep::Continue
    }

    fn abandon(&mut self, cpu: &mut Cpu<'_, M, NoTrace>) {
        self.access.abandon(cpu);
    }
}

/// Builds a scene, call by call.
struct Builder<M: Hardware> {
    simulation: Simulation<M, NoTrace>,
    space: AddressSpaceId,
    places: Vec<Place>,
}

/// Start of the `number`th region: each has page tables of its own.
const fn region(number: u64) -> Va {
    Va::new(0x1000_0000 + number * 0x40_0000)
}

/// Page `number` of what begins at `va`.
fn page(va: Va, number: u64) -> Va {
    Va::new(va.get() + number * PAGE_SIZE)
}

impl<M: Hardware> Builder<M> {
    fn new() -> Self {
        let memory = FrameRange { start: Pfn::new(FIRST_FRAME), count: Pages::new(FRAMES.into()) };
        let config = Config {
            memory: vec![memory],
            costs: Costs { reference: REFERENCE, ..Costs::default() },
            ..Config::plain(Pages::new(FRAMES.into()))
        };
        let machine = Machine::<M>::new(config, Clock::new(), NoTrace);
        let slots = Pages::new(4 * u64::from(FRAMES));
        let file = machine.attach(Box::new(MemoryDisk::new(slots)));
        let simulation =
            Simulation::new(machine, ntmm::Config::default()).expect("there is enough memory");
        simulation.manager().create_paging_file(file, slots, slots).expect("the file is empty");
        let limits = WorkingSetLimits::new(50, FRAMES, Hardness::Soft).expect("in order");
        let space = simulation.manager().create_address_space(limits).expect("memory is free");
        Self { simulation, space, places: Vec::new() }
    }

    fn call<O: Operation<Machine<M, NoTrace>>>(&mut self, mut operation: O) -> O::Output {
        let outcome = self.simulation.complete(&mut operation).expect("the machine goes on");
        outcome.expect("the call is in order")
    }

    fn allocate(&mut self, at: Va, pages: u64, kind: AllocationType, protection: Protection) {
        let size = Pages::new(pages).to_bytes();
        self.call(Allocate::new(self.space, Placement::At(at), size, kind, protection));
    }

    fn commit(&mut self, at: Va, pages: u64, protection: Protection) {
        self.allocate(at, pages, AllocationType::ReserveAndCommit, protection);
    }

    fn protect(&mut self, at: Va, protection: Protection) {
        self.call(Protect::new(self.space, at.page_base(), Pages::new(1).to_bytes(), protection));
    }

    fn free(&mut self, at: Va, pages: u64, kind: FreeType) {
        self.call(Free::new(self.space, at, Pages::new(pages).to_bytes(), kind));
    }

    /// Lets a program make accesses, and the machine come to rest.
    fn touch(&mut self, accesses: impl IntoIterator<Item = (Va, AccessKind)>) {
        let accesses: VecDeque<_> = accesses.into_iter().collect();
        let left = Rc::new(RefCell::new(accesses.len()));
        let toucher = Toucher { accesses, access: MemoryAccess::new(), left: Rc::clone(&left) };
        self.simulation.spawn(Some(self.space), Box::new(toucher));
        self.simulation.run().expect("the machine goes on");
        assert_eq!(*left.borrow(), 0, "the program has not made all accesses");
    }

    /// Names an address, and gives each place another offset in its page.
    fn place(&mut self, name: impl Into<String>, va: Va) -> Va {
        let offset = self.places.len() as u64 * 0x124 % PAGE_SIZE;
        let va = Va::new(va.page_base().get() + offset);
        self.places.push(Place { name: name.into(), va, kind: Kind::Page });
        va
    }

    /// Pages and tables that left memory, and some that came back.
    fn leave_memory(&mut self) {
        let base = region(0);
        self.commit(base, 16, Protection::EXECUTE_READWRITE);
        let out = self.place("paged out", base);
        // A read brings its neighbours with it.
        let back = self.place("paged out, read back", page(base, 9));
        let changed = self.place("paged out, written again", page(base, 12));
        let alone = region(1);
        self.commit(alone, 1, Protection::READWRITE);
        let alone = self.place("paged out with its table", alone);
        self.touch([out, back, changed, alone].map(|va| (va, Write)));
        self.call(EmptyWorkingSet::new(self.space));
        let crowd = region(40);
        self.commit(crowd, CROWD, Protection::READWRITE);
        self.touch((0..CROWD).map(|number| (page(crowd, number), Write)));
        self.free(crowd, 0, FreeType::Release);

        let base = region(2);
        self.commit(base, 4, Protection::READWRITE);
        let read = self.place("trimmed after a read", base);
        let written = self.place("trimmed after a write", page(base, 1));
        let again = self.place("trimmed and used again", page(base, 2));
        let alone = region(9);
        self.commit(alone, 2, Protection::READWRITE);
        let gone = self.place("decommitted, table trimmed", alone);
        self.touch([(read, Read), (written, Write), (again, Write), (gone, Write)]);
        self.free(alone, 1, FreeType::Decommit);
        self.call(EmptyWorkingSet::new(self.space));
        let neighbour = self.place("next to trimmed pages", page(base, 3));
        self.touch([(again, Read), (neighbour, Read), (back, Read), (changed, Write)]);
    }

    /// Each protection, used in each way it allows and not used at all.
    fn protections(&mut self) {
        let plain = [
            Protection::READONLY,
            Protection::EXECUTE,
            Protection::EXECUTE_READ,
            Protection::READWRITE,
            Protection::EXECUTE_READWRITE,
        ];
        let special = [Modifier::NoCache, Modifier::WriteCombine]
            .map(|modifier| Protection::new(Access::ReadWrite, modifier));
        for (number, protection) in (0..).zip(plain.into_iter().chain(special)) {
            let base = Va::new(region(3).get() + number * 0x1_0000);
            self.commit(base, 4, protection);
            self.place(format!("{protection:?}, never used"), base);
            for (at, kind) in (1..).zip(AccessKind::ALL) {
                if protection.permits(kind) {
                    let va = self.place(format!("{protection:?} after {kind:?}"), page(base, at));
                    self.touch([(va, kind)]);
                }
            }
        }
        let base = region(4);
        self.commit(base, 1, Protection::READWRITE);
        self.place("committed, no table", base);
    }

    /// Protections that changed after the page was used, and those that forbid its use.
    fn changed_protections(&mut self) {
        let guard = Protection::new(Access::ReadWrite, Modifier::Guard);
        let to = [
            Protection::READONLY,
            Protection::EXECUTE_READ,
            Protection::EXECUTE_READWRITE,
            Protection::NO_ACCESS,
            guard,
        ];
        for (number, protection) in (0..).zip(to) {
            let base = Va::new(region(5).get() + number * 0x1_0000);
            self.commit(base, 3, Protection::READWRITE);
            let written = self.place(format!("{protection:?}, was written"), base);
            let read = self.place(format!("{protection:?}, was read"), page(base, 1));
            self.touch([(written, Write), (read, Read)]);
            for va in [written, read] {
                self.protect(va, protection);
            }
            let again = self.place(format!("{protection:?} and back"), page(base, 2));
            self.touch([(again, Write)]);
            self.protect(again, protection);
            self.protect(again, Protection::READWRITE);
        }
        for (number, protection) in (8..).zip([Protection::NO_ACCESS, guard]) {
            let base = Va::new(region(5).get() + number * 0x1_0000);
            self.commit(base, 1, protection);
            self.place(format!("{protection:?} from the start"), base);
        }
    }

    /// Addresses where there is nothing, or nothing any more.
    fn holes(&mut self) {
        let base = region(6);
        self.allocate(base, 8, AllocationType::Reserve, Protection::READWRITE);
        self.place("reserved", base);
        self.allocate(page(base, 1), 2, AllocationType::Commit, Protection::READWRITE);
        let used = self.place("committed in a reservation", page(base, 1));
        self.place("committed in a reservation, not used", page(base, 2));
        self.touch([(used, Write)]);

        let base = region(7);
        self.commit(base, 4, Protection::READWRITE);
        let gone = self.place("decommitted after a write", base);
        self.place("decommitted before use", page(base, 1));
        let kept = self.place("next to decommitted pages", page(base, 2));
        self.touch([(gone, Write), (kept, Write)]);
        self.free(base, 2, FreeType::Decommit);

        let base = region(8);
        let neighbour = Va::new(base.get() + 0x1_0000);
        self.commit(base, 1, Protection::READWRITE);
        self.commit(neighbour, 1, Protection::READWRITE);
        let gone = self.place("freed, table in use", base);
        let kept = self.place("next to freed pages", neighbour);
        self.touch([(gone, Write), (kept, Read)]);
        self.free(base, 0, FreeType::Release);

        let base = region(20);
        self.commit(base, 1, Protection::READWRITE);
        let gone = self.place("freed with its table", base);
        self.touch([(gone, Write)]);
        self.free(base, 0, FreeType::Release);
        self.place("never allocated", region(39));
    }

    /// Lets the balance set manager clear Accessed everywhere, and some pages be used again.
    fn age(&mut self) {
        let base = region(10);
        self.commit(base, 3, Protection::EXECUTE_READWRITE);
        let written = self.place("aged after a write", base);
        let read = self.place("aged after a read", page(base, 1));
        let executed = self.place("aged after execution", page(base, 2));
        self.touch([(written, Write), (read, Read), (executed, Execute)]);
        let base = region(11);
        self.commit(base, 3, Protection::READWRITE);
        let waiting = self.place("used all the time", base);
        let written = self.place("aged, then written", page(base, 1));
        let read = self.place("written, aged, then read", page(base, 2));
        self.touch([(written, Read), (read, Write)]);
        self.touch((0..SECOND).map(|_| (waiting, Read)));
        self.touch([(waiting, Read), (written, Write), (read, Read)]);
        for number in [3, 5] {
            let half = self.places.clone().into_iter().step_by(2).map(|place| place.va);
            let inside = |va: &Va| region(number) <= *va && *va < region(number + 1);
            let present = |va: &Va| self.word(*va).is_some_and(M::is_valid);
            let again: Vec<_> = half.filter(inside).filter(present).map(|va| (va, Read)).collect();
            self.touch(again);
        }
    }

    /// Entries that the manager would not write: rights that a directory entry takes away from
    /// its whole table, a large page, reserved bits.
    fn edit(&mut self) {
        let mut edits: Vec<(&str, Level, u64, u64)> = vec![
            ("below a read-only directory entry", Level::Directory, WRITABLE, 0),
            ("below a kernel directory entry", Level::Directory, USER, 0),
            ("kernel page below a user directory entry", Level::Table, USER, 0),
            ("in a large page", Level::Directory, !0, LARGE_PAGE),
        ];
        if M::NO_EXECUTE != 0 {
            edits.push(("below a no-execute directory entry", Level::Directory, 0, NO_EXECUTE));
            edits.push(("reserved bit", Level::Table, 0, RESERVED));
            edits.push(("reserved bit in the directory", Level::Directory, 0, RESERVED));
        }
        for (number, (name, level, clear, set)) in (12..).zip(edits) {
            let base = region(number);
            self.commit(base, 1, Protection::EXECUTE_READWRITE);
            let va = self.place(name, base);
            self.touch([(va, Write)]);
            let entry = self.entry_ref(va, level);
            self.store(entry, self.simulation.manager().raw_entry(entry) & !clear | set);
        }
    }

    /// Addresses of the kernel's half, and the last of the program's.
    fn kernel_places(&mut self) {
        for (name, va) in [
            ("shared user data", SHARED_USER_DATA),
            ("last page of the program", M::HIGHEST_VAD_ADDRESS),
            ("first system page", M::SYSTEM_RANGE_START),
            ("working-set list", M::WORKING_SET_LIST),
            ("hyperspace", M::HYPERSPACE_START),
            ("paged pool", M::PAGED_POOL_START),
            ("last page", Va::new(0xFFFF_F000)),
        ] {
            self.place(name, va);
        }
    }

    /// The entries of all places, and of the tables they are in.
    fn entries(&mut self) {
        let mut seen = BTreeSet::new();
        for place in self.places.clone() {
            for level in [Level::Table, Level::Directory, Level::Parent] {
                let va = M::entry_address(place.va, level);
                if seen.insert(va) {
                    let name = format!("{level:?} entry of: {}", place.name);
                    self.places.push(Place { name, va, kind: Kind::Entry });
                }
            }
        }
    }

    /// Gives the lowest directory entry to the machine that makes the probes.
    fn lend_lowest_entry(&mut self) {
        let entry = self.entry_ref(Va::new(0), Level::Directory);
        assert_eq!(self.simulation.manager().raw_entry(entry), 0, "the lowest entry is in use");
        self.store(entry, u64::from(HOST_TABLE) << 12 | SETTLED_TABLE);
    }

    fn entry_ref(&self, va: Va, level: Level) -> EntryRef {
        let view = self.simulation.manager().space_view(self.space).expect("the space lives");
        view.find_entry(va, level).expect("the tables above are in memory")
    }

    fn store(&self, entry: EntryRef, word: u64) {
        let ram = self.simulation.machine().ram();
        let slot = ram.slot(entry.table).expect("a frame of the machine");
        ram.store(slot, entry.slot.index() * M::ENTRY_BYTES, M::ENTRY_BYTES, word);
    }

    /// The page-table word of an address.
    fn word(&self, va: Va) -> Option<u64> {
        let manager = self.simulation.manager();
        Some(manager.raw_entry(manager.page_entry(self.space, va)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ntmm_pte::{I386, Owner, Pae, PteState, ValidPte};

    /// The scene has what the names of its places say.
    fn check<M: Hardware>() {
        let scene = Scene::<M>::new();
        let at = |name: &str, level| {
            let place = scene.places().iter().find(|place| place.name == name);
            let va = place.unwrap_or_else(|| panic!("there is no place {name:?}")).va;
            scene.entry(va, level).map(M::decode)
        };
        let table = |name| at(name, Level::Table).unwrap_or_else(|| panic!("{name}: no table"));
        let directory = |name| at(name, Level::Directory).expect("directories stay in memory");
        let valid = |name| match table(name) {
            PteState::Valid(valid) => valid,
            other => panic!("{name}: {other:?}"),
        };
        let rights = |name| {
            let ValidPte { writable, no_execute, owner, .. } = valid(name);
            assert_eq!(owner, Owner::User, "{name}");
            (writable, no_execute)
        };
        let marks = |name| (valid(name).accessed, valid(name).dirty);

        assert!(matches!(table("paged out"), PteState::PageFile { .. }));
        assert_eq!(marks("paged out, read back"), (false, false));
        assert_eq!(marks("paged out, written again"), (false, true));
        for name in ["paged out with its table", "decommitted, table trimmed"] {
            assert!(matches!(directory(name), PteState::Transition(_)), "{name}");
        }
        for name in ["trimmed after a read", "trimmed after a write"] {
            assert!(matches!(table(name), PteState::Transition(_)), "{name}");
        }
        let no_execute = M::NO_EXECUTE != 0;
        assert_eq!(rights("ReadOnly after Read"), (false, no_execute));
        assert_eq!(rights("Execute after Execute"), (false, false));
        assert_eq!(rights("ExecuteRead after Read"), (false, false));
        assert_eq!(rights("ReadWrite after Write"), (true, no_execute));
        assert_eq!(rights("ExecuteReadWrite after Execute"), (true, false));
        assert!(valid("ReadWrite+NoCache after Read").cache_disable);
        assert_eq!(rights("ReadOnly, was written"), (false, no_execute));
        assert_eq!(rights("ExecuteRead, was read"), (false, false));
        assert_eq!(rights("ReadOnly and back"), (true, no_execute));
        for name in ["NoAccess, was written", "ReadWrite+Guard, was written"] {
            assert!(matches!(table(name), PteState::Transition(_)), "{name}");
        }
        assert!(table("NoAccess, was written").is_no_access());
        let guard = table("ReadWrite+Guard, was written").protection();
        assert!(guard.is_some_and(Protection::is_guard));
        for name in ["ReadWrite, never used", "reserved", "freed, table in use", "hyperspace"] {
            assert_eq!(table(name), PteState::Zero, "{name}");
        }
        let unused = table("committed in a reservation, not used");
        assert!(matches!(unused, PteState::DemandZero { .. }));
        for name in ["decommitted after a write", "decommitted before use"] {
            assert!(table(name).is_decommitted(), "{name}");
        }
        for name in ["committed, no table", "freed with its table", "paged pool"] {
            assert_eq!(directory(name), PteState::Zero, "{name}");
        }
        assert_eq!(marks("aged after a write"), (false, true));
        assert_eq!(marks("used all the time"), (true, true));
        assert_eq!(marks("aged, then written"), (true, true));
        let accessed = |name| matches!(directory(name), PteState::Valid(table) if table.accessed);
        assert!(!accessed("aged after a write") && accessed("used all the time"));
        assert_eq!(valid("working-set list").owner, Owner::Kernel);
    }

    #[test]
    fn the_scene_has_every_state_in_i386() {
        check::<I386>();
    }

    #[test]
    fn the_scene_has_every_state_in_pae() {
        check::<Pae>();
    }
}
