//! The header of a working-set list: MMSUPPORT and MMWSL in one (spec 6.2, 6.3), and the few
//! other things the manager keeps per address space.
//!
//! It fills the first [`HEADER_WORDS`] words of the list's first page. Word 0 carries the flags.
//! All of the header belongs to the working-set lock, which is in the space's word of the
//! [table](crate::address_space).

use ntmm_sync::record;

/// Words before the first entry.
pub const HEADER_WORDS: u32 = 32;

/// No entry (WSLE_NULL_INDEX).
pub const NO_ENTRY: u32 = u32::MAX;

/// Address creation is owned by an operation (AddressCreationLock).
pub(crate) const ADDRESS_CREATION: u64 = 1 << 1;
/// The address space is being deleted (VmDeleted).
pub(crate) const DELETING: u64 = 1 << 2;
/// The maximum may not be exceeded even with plenty of memory (MaximumWorkingSetHard).
pub(crate) const MAXIMUM_HARD: u64 = 1 << 3;
/// Pages have been taken out of windows, and no call has seen that every processor has forgotten
/// where they were.
pub(crate) const WINDOWS_STALE: u64 = 1 << 4;

record! {
    /// The header, from word 1 on.
    pub record Header [HEADER_WORDS as usize] {
        /// Frame of the root page table.
        root, set_root: u32 = 1, 0, 32;
        /// Frame of the hyperspace table that maps the list.
        list_table, set_list_table: u32 = 1, 32, 32;
        /// Wake-ups of those that wait for address creation.
        creation_epoch, set_creation_epoch: u64 = 2, 0, 64;
        /// Pages in the set (WorkingSetSize).
        size, set_size: u32 = 3, 0, 32;
        /// Highest size so far (PeakWorkingSetSize).
        peak, set_peak: u32 = 3, 32, 32;
        /// The set is not trimmed below this in the ordinary way (MinimumWorkingSetSize).
        minimum, set_minimum: u32 = 4, 0, 32;
        /// The set grows beyond this only while memory is plenty (MaximumWorkingSetSize).
        maximum, set_maximum: u32 = 4, 32, 32;
        /// First free entry.
        first_free, set_first_free: u32 = 5, 0, 32;
        /// First entry that is neither permanent nor locked.
        first_dynamic, set_first_dynamic: u32 = 5, 32, 32;
        /// Highest entry in use.
        last_entry, set_last_entry: u32 = 6, 0, 32;
        /// Where the search for a victim goes on.
        next_slot, set_next_slot: u32 = 6, 32, 32;
        /// Number of entries that exist (LastInitializedWsle + 1).
        initialized, set_initialized: u32 = 7, 0, 32;
        /// Entries that are not direct.
        non_direct, set_non_direct: u32 = 7, 32, 32;
        /// Insertions into the set (PageFaultCount).
        fault_count, set_fault_count: u64 = 8, 0, 64;
        /// Root node of the VAD tree, and its height.
        vad_root, set_vad_root: u64 = 9, 0, 64;
        /// Number of VADs.
        vad_count, set_vad_count: u64 = 10, 0, 64;
        /// Committed private pages (CommitCharge), page tables included.
        commit, set_commit: u64 = 11, 0, 64;
        /// Highest commit so far.
        commit_peak, set_commit_peak: u64 = 12, 0, 64;
        /// Bytes of address space in use (VirtualSize).
        virtual_size, set_virtual_size: u64 = 13, 0, 64;
        /// Valid or transition private pages, and pages in paging files (NumberOfPrivatePages).
        private_pages, set_private_pages: u64 = 14, 0, 64;
        /// Demand-zero faults resolved.
        demand_zero_faults, set_demand_zero_faults: u64 = 15, 0, 64;
        /// Transition faults resolved.
        transition_faults, set_transition_faults: u64 = 16, 0, 64;
        /// Faults resolved after a read.
        page_file_faults, set_page_file_faults: u64 = 17, 0, 64;
        /// Time of the last trim (LastTrimTime).
        last_trim_time, set_last_trim_time: u64 = 18, 0, 64;
        /// Colour for the next page (NextPageColor).
        next_color, set_next_color: u32 = 19, 0, 32;
        /// Slots of the hash; zero when there is none.
        hash_size, set_hash_size: u32 = 20, 0, 32;
        /// Root of the map of written pages; zero when there is none.
        write_watch, set_write_watch: u64 = 21, 0, 64;
        /// First of the physical pages that the process has allocated; none with none of them.
        first_physical, set_first_physical: u32 = 22, 0, 32;
        /// Number of these pages, each of them charged to the machine.
        physical_pages, set_physical_pages: u32 = 22, 32, 32;
        /// First frame of the table of secured ranges, plus one; zero when there is none.
        secured, set_secured: u64 = 23, 0, 64;
        /// The last handle to a secured range that was given out.
        last_secured, set_last_secured: u64 = 24, 0, 64;
    }
}
