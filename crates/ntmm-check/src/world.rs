//! What the threads of a run share: the model, the processes' address spaces, and where each
//! region lies.
//!
//! Every region has a *slot*, addresses of its own, a stride apart; neighbouring regions of
//! different threads lie in the same page table when the stride is small. An own region may
//! also be put where the manager chooses, far from all slots.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ntmm::platform::FrameRange;
use ntmm::{AddMemoryError, AddressSpaceId, RemoveMemoryError};
use ntmm_machine::{Hardware, Machine};

use crate::disk::PagingFile;
use crate::failure::Failure;
use crate::host_memory::{HostMemory, Whose};
use crate::model::{Model, Range};
use crate::operation::{Class, Place, Region, Thread};
use crate::sabotage::Sabotage;
use crate::setup::Setup;
use crate::viewing::Named;

/// First page of the first slot: 16 MiB, above what the lowest holes reach.
const FIRST_SLOT: u64 = 0x1000;

/// Pages that allocations are aligned to.
const GRANULARITY: u64 = 16;

/// A region of a process: an own one has its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    process: u8,
    owner: u8,
    region: Region,
}

/// How much is predicted in a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// Everything.
    Full,
    /// Every aligned word is zero or was stored into this region of this process.
    Stamped,
    /// Nothing.
    Nothing,
}

/// The addresses an operation on a region may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) key: Key,
    pub(crate) range: Range,
    pub(crate) prediction: Prediction,
    /// Whether the region lies in its slot.
    pub(crate) place: Place,
}

/// What the threads of a run share.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) paging_file: Rc<PagingFile>,
    pub(crate) memory: HostMemory,
    pub(crate) failure: Option<Failure>,
    pub(crate) threads: u8,
    pub(crate) sabotage: Option<Sabotage>,
    stride: u64,
    spaces: BTreeMap<u8, AddressSpaceId>,
    /// How often each process has been created.
    incarnations: BTreeMap<u8, u32>,
    /// Own regions the manager chose an address for.
    chosen: BTreeMap<Key, Range>,
    /// The sections that threads name.
    pub(crate) sections: BTreeMap<u8, Named>,
    /// Regions in which a release stopped half-way.
    lost: BTreeSet<Key>,
    stamps: u64,
}

impl World {
    pub(crate) fn new(
        model: Model,
        paging_file: Rc<PagingFile>,
        memory: HostMemory,
        setup: &Setup,
    ) -> Self {
        Self {
            model,
            paging_file,
            memory,
            failure: None,
            threads: setup.threads,
            stride: u64::from(setup.stride),
            sabotage: setup.sabotage,
            spaces: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            chosen: BTreeMap::new(),
            sections: BTreeMap::new(),
            lost: BTreeSet::new(),
            stamps: 0,
        }
    }

    /// The address space of a process, while it is alive.
    pub(crate) fn space(&self, process: u8) -> Option<AddressSpaceId> {
        self.spaces.get(&process).copied()
    }

    pub(crate) fn processes(&self) -> Vec<u8> {
        self.spaces.keys().copied().collect()
    }

    pub(crate) fn created(&mut self, process: u8, space: AddressSpaceId) {
        self.spaces.insert(process, space);
        *self.incarnations.entry(process).or_default() += 1;
        self.model.create(process);
    }

    /// Takes the process away; what it may be charged is remembered until it is gone.
    pub(crate) fn begin_deletion(&mut self, process: u8) -> Option<AddressSpaceId> {
        let space = self.spaces.remove(&process)?;
        self.chosen.retain(|key, _| key.process != process);
        self.lost.retain(|key| key.process != process);
        self.model.begin_deletion(process);
        Some(space)
    }

    /// Where a region lies as a thread sees it; none when nothing can be done with it.
    pub(crate) fn window(&self, thread: Thread, region: Region) -> Option<Window> {
        let owner = match region.class {
            Class::Own | Class::View => thread.number,
            Class::Shared | Class::Racy => 0,
        };
        let key = Key { process: thread.process, owner, region };
        let lost = self.lost.contains(&key);
        if let Some(range) = self.chosen.get(&key) {
            // What is left of it may have become part of something else.
            return (!lost).then_some(Window {
                key,
                range: *range,
                prediction: Prediction::Full,
                place: Place::Lowest,
            });
        }
        let slot = match region.class {
            Class::Shared => region.number,
            Class::Racy => Class::Shared.count() + region.number,
            Class::Own => {
                let before = Class::Shared.count() + Class::Racy.count();
                before + thread.number * Class::Own.count() + region.number
            }
            Class::View => {
                let before =
                    Class::Shared.count() + Class::Racy.count() + self.threads * Class::Own.count();
                before + thread.number * Class::View.count() + region.number
            }
        };
        let first = FIRST_SLOT + u64::from(slot) * self.stride;
        let prediction = match region.class {
            Class::Racy => Prediction::Stamped,
            Class::Own | Class::Shared | Class::View if lost => Prediction::Nothing,
            Class::Own | Class::Shared | Class::View => Prediction::Full,
        };
        let range = Range { first, pages: self.stride };
        Some(Window { key, range, prediction, place: Place::Slot })
    }

    /// Pages from one region's slot to the next.
    pub(crate) const fn stride(&self) -> u64 {
        self.stride
    }

    /// The manager has chosen an address for a region.
    pub(crate) fn chose(&mut self, key: Key, range: Range) {
        let pages = range.pages.next_multiple_of(GRANULARITY);
        self.chosen.insert(key, Range { first: range.first, pages });
    }

    /// All of a region the manager had chosen the address of was released.
    pub(crate) fn returns_to_slot(&mut self, key: Key) {
        self.chosen.remove(&key);
    }

    /// A release stopped half-way.
    pub(crate) fn lose(&mut self, key: Key) {
        self.lost.insert(key);
    }

    /// The host begins to take frames back; false when it cannot spare them.
    pub(crate) fn begins_to_take_back(&mut self, range: FrameRange) -> bool {
        let begins = self.memory.can_spare(range);
        if begins {
            self.memory.leaving += range.count.get() as u32;
            self.model.limit_falls(range.count.get());
        }
        begins
    }

    /// The host has frames back, or nothing has come of it.
    pub(crate) fn took_back<M: Hardware>(
        &mut self,
        machine: &Machine<M>,
        range: FrameRange,
        outcome: Result<(), RemoveMemoryError>,
    ) -> Result<(), Failure> {
        self.memory.leaving -= range.count.get() as u32;
        if outcome.is_err() {
            self.model.limit_rises(range.count.get());
        }
        self.memory.taken_back(machine, range, outcome)
    }

    /// The taking back of frames has been abandoned.
    pub(crate) fn leaves_memory(&mut self, range: FrameRange) {
        self.memory.leaving -= range.count.get() as u32;
        self.model.limit_rises(range.count.get());
    }

    /// The manager has answered the host that wanted to lend frames.
    pub(crate) fn lent<M: Hardware>(
        &mut self,
        machine: &Machine<M>,
        (range, whose): (FrameRange, Whose),
        outcome: Result<(), AddMemoryError>,
    ) -> Result<(), Failure> {
        if outcome.is_ok() {
            self.model.limit_rises(range.count.get());
        }
        self.memory.lent(machine, (range, whose), outcome)
    }

    /// A number no store has had.
    pub(crate) fn next_stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// What the upper half of every word stored into a page of a racy region is.
    pub(crate) fn mark(&self, process: u8, page: u64) -> u32 {
        let incarnation = self.incarnations.get(&process).copied().unwrap_or(0);
        (u32::from(process) + 1) << 28 | (incarnation & 0xFFF) << 16 | (page as u32 & 0xFFFF)
    }

    /// Tells the model what excuses the failure of something that began when so many
    /// allocations had been refused.
    pub(crate) fn note_disturbances<M: Hardware>(&mut self, machine: &Machine<M>, refused: u64) {
        let disturbances = &mut self.model.disturbances;
        disturbances.failed_reads |= self.paging_file.failed_reads() > 0;
        disturbances.failed_allocations = machine.statistics().refused_allocations > refused;
    }
}
