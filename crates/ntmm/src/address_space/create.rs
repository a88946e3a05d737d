//! Making an address space (MmCreateProcessAddressSpace and the empty case of
//! MmInitializeProcessAddressSpace, spec 12.3, 12.4).
//!
//! The tables are built on frames nobody else knows: the root with its self-map, the tables on
//! the way to hyperspace, and the first page of the working-set list. They are permanent: their
//! working-set entries lie below FirstDynamic.

use ntmm_pte::{Dirtiness, Level, Pages, PagingMode, Pfn, Protection, PteWord, Slot, Va};
use ntmm_sync::level::{Token, Unlocked};

use super::AddressSpaceId;
use crate::frames::colors::Color;
use crate::frames::entry::NO_FRAME;
use crate::frames::take::Want;
use crate::frames::{FrameUse, PageReservation};
use crate::manager::Manager;
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::working_set::WorkingSetLimits;
use crate::working_set::header::NO_ENTRY;
use crate::working_set::insert::FIRST_PAGE_ENTRIES;

/// Frames of a new address space: its tables and the first page of its list.
pub(crate) const fn initial_frames<M: PagingMode>() -> u32 {
    let below_top = M::TOP as u32 - Level::Table as u32;
    // PAE has all four page directories from the start, for the self-map.
    let directories = if matches!(M::TOP, Level::Parent) { M::TOP_ENTRIES as u32 - 1 } else { 0 };
    1 + below_top + directories + 1
}

/// Building material: what is needed to take frames for one space.
struct Builder<'m, 'r, P: Platform> {
    manager: &'m Manager<P>,
    reservation: &'r mut PageReservation<'m, P>,
    color: Color,
}

impl<P: Platform> Builder<'_, '_, P> {
    fn take(&mut self, token: &mut Token<'_, Unlocked>, usage: FrameUse) -> Pfn {
        let frame =
            self.manager.take_frame(token, self.reservation, self.color, Want::Zeroed, usage);
        frame.entry().set_original(P::Paging::demand_zero(Protection::EXECUTE_READWRITE));
        frame.pfn()
    }

    /// Writes an entry that maps `pfn`.
    fn map(&self, token: &mut Token<'_, Unlocked>, entry: EntryRef, pfn: Pfn, word: u64) {
        let manager = self.manager;
        manager.swap_entry(entry, word);
        let table = manager.entry(entry.table);
        table.add_share(1);
        table.set_used_entries(table.used_entries() + 1);
        manager.lock_frame(token, pfn).add_mapping();
    }

    /// Takes a frame, says where it is mapped, and maps it.
    fn take_mapped(
        &mut self,
        token: &mut Token<'_, Unlocked>,
        usage: FrameUse,
        entry: EntryRef,
        word: impl FnOnce(Pfn) -> u64,
    ) -> Pfn {
        let pfn = self.take(token, usage);
        self.manager.entry(pfn).set_container(entry.table, entry.slot);
        self.map(token, entry, pfn, word(pfn));
        pfn
    }

    fn root_with_self_map(&mut self, token: &mut Token<'_, Unlocked>) -> Pfn {
        let root = self.take(token, FrameUse::Root);
        // The processor's root register counts as one mapping.
        self.manager.lock_frame(token, root).add_mapping();
        let self_map = P::Paging::SELF_MAP_SLOT;
        if P::Paging::SELF_MAP_LEVEL == P::Paging::TOP {
            self.manager.entry(root).set_container(root, self_map);
            let entry = EntryRef { table: root, slot: self_map };
            self.map(token, entry, root, kernel_word::<P>(root));
            return root;
        }
        self.manager.entry(root).set_container(root, Slot::from_low_bits(0));
        let mut last = root;
        for slot in 0..P::Paging::TOP_ENTRIES as u64 {
            let entry = EntryRef { table: root, slot: Slot::from_low_bits(slot) };
            last = self.take_mapped(token, FrameUse::PageTable, entry, P::Paging::valid_pdpt);
        }
        for number in 0..P::Paging::SELF_MAP_ENTRIES as u64 {
            let from = EntryRef { table: root, slot: Slot::from_low_bits(number) };
            let directory = P::Paging::valid_pfn(self.manager.load_entry(from));
            let slot = Slot::from_low_bits(self_map.index() as u64 + number);
            let entry = EntryRef { table: last, slot };
            self.map(token, entry, directory, kernel_word::<P>(directory));
        }
        root
    }
}

fn kernel_word<P: Platform>(pfn: Pfn) -> u64 {
    P::Paging::valid_kernel_local(pfn, Protection::READWRITE, Dirtiness::Dirty)
}

impl<P: Platform> Manager<P> {
    /// Makes an address space with no memory in it.
    ///
    /// # Errors
    /// [`NtStatus::COMMITMENT_LIMIT`] or [`NtStatus::INSUFFICIENT_RESOURCES`] when its tables
    /// cannot be charged or no frames are available now; nothing is left behind.
    pub fn create_address_space(
        &self,
        limits: WorkingSetLimits,
    ) -> Result<AddressSpaceId, NtStatus> {
        let mut entry = self.enter();
        self.build_address_space(entry.token(), limits)
    }

    /// Makes an address space for a caller that has entered the manager.
    pub(crate) fn build_address_space(
        &self,
        token: &mut Token<'_, Unlocked>,
        limits: WorkingSetLimits,
    ) -> Result<AddressSpaceId, NtStatus> {
        let frames = initial_frames::<P::Paging>();
        let charge = self.charge_commitment(Pages::new(u64::from(frames)))?;
        let mut reservation =
            self.try_reserve_pages(frames).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let space = self.claim_space().ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
        let random = self.platform().random() as u32;
        let mut builder = Builder {
            manager: self,
            reservation: &mut reservation,
            color: self.colors.wrapping(random),
        };
        let root = builder.root_with_self_map(token);
        self.platform().adopt_root(root);
        let list_address = Self::list_address(0);
        let mut table = root;
        let mut level = P::Paging::TOP;
        while let Some(below) = level.down() {
            let at = EntryRef { table, slot: P::Paging::slot(list_address, level) };
            let present = self.load_entry(at);
            table = if P::Paging::is_valid(present) {
                P::Paging::valid_pfn(present)
            } else {
                builder.take_mapped(token, FrameUse::PageTable, at, kernel_word::<P>)
            };
            level = below;
        }
        let at = EntryRef { table, slot: P::Paging::slot(list_address, Level::Table) };
        let list = builder.take_mapped(token, FrameUse::WorkingSetList, at, kernel_word::<P>);

        let header = self.header_at(list);
        header.set_root(root.get());
        header.set_list_table(table.get());
        header.set_minimum(limits.minimum());
        header.set_maximum(limits.maximum());
        header.set_first_free(NO_ENTRY);
        header.set_first_physical(NO_FRAME);
        header.set_next_color(random.wrapping_add(frames));
        header.set_commit(charge.keep().get());
        header.set_commit_peak(header.commit());
        header.view().word(0).store(limits.flags(), ntmm_sync::atomic::Ordering::Relaxed);
        let (word, value) = self.publish_space(space, list);
        let mut set = self.adopt_space(token, space, word, value);
        set.initialize_entries(0, FIRST_PAGE_ENTRIES);
        self.insert_permanent_pages(&mut set);
        Ok(space)
    }

    /// Enters the space's own tables and its list into its working set.
    fn insert_permanent_pages(&self, set: &mut crate::working_set::WorkingSetGuard<'_, '_, P>) {
        let list_address = Self::list_address(0);
        if P::Paging::SELF_MAP_LEVEL == P::Paging::TOP {
            set.insert_permanent(P::Paging::table_address(list_address, P::Paging::TOP));
        } else {
            for number in 0..P::Paging::TOP_ENTRIES as u64 {
                let within = Va::new(number << 30);
                set.insert_permanent(P::Paging::table_address(within, Level::Directory));
            }
        }
        let mut level = P::Paging::SELF_MAP_LEVEL.down();
        while let Some(at) = level {
            set.insert_permanent(P::Paging::table_address(list_address, at));
            level = at.down();
        }
        set.insert_permanent(list_address);
    }

    /// The frame of an address space's root table, for the processor's root register.
    #[must_use]
    pub fn root(&self, space: AddressSpaceId) -> Option<Pfn> {
        self.find_space(space).map(|list| Pfn::new(self.header_at(list).root()))
    }
}
