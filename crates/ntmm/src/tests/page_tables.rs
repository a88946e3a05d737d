//! Page tables: made on demand, counted, freed when empty, seen through the self-map, paged.

use ntmm_pte::{AccessKind, Level, PAGE_SIZE, PagingMode, Protection, PteState, Va};
use ntmm_sync::atomic::Ordering;
use std::vec::Vec;

use super::host::{Host, page_at, table_of};
use crate::frames::{FrameUse, PageLocation};
use crate::platform::Ram;
use crate::virtual_memory::FreeType;
use crate::{AddressSpaceId, FaultKind, NtStatus, Step};

/// Levels of tables a user page may lack in a new space, the lowest first.
fn user_tables<M: PagingMode>() -> Vec<Level> {
    Level::ALL.into_iter().filter(|&level| level < M::SELF_MAP_LEVEL).collect()
}

/// Pushes every table on the way to `va` into the paging file. Its page is there already.
fn page_out_tables<M: PagingMode>(host: &Host<M>, space: AddressSpaceId, va: Va) {
    for level in user_tables::<M>() {
        host.page_out(space, table_of::<M>(va, level));
    }
}

in_every_mode! {
    fn tables_are_made_on_demand_and_count_their_entries<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let fresh = host.size(space);
        let va = host.allocate(space, 3);
        let top = host.entry_at(space, va, M::SELF_MAP_LEVEL).expect("directories exist");
        assert_eq!(host.manager.raw_entry(top), 0, "allocating makes no table");
        host.write(space, va, 1);
        let levels = user_tables::<M>().len() as u32;
        assert_eq!(host.size(space), fresh + levels + 1);
        for level in user_tables::<M>() {
            let entry = host.entry_at(space, va, level).expect("made");
            let view = host.view(entry.table);
            assert_eq!(view.usage, FrameUse::PageTable);
            assert_eq!((view.used_entries, view.share, view.references), (1, 2, 1));
        }
        let table = host.entry(space, va).table;
        host.write(space, page_at(va, 1), 1);
        assert_eq!((host.view(table).used_entries, host.view(table).share), (2, 3));
        // An entry that is only nonzero counts as used and shares nothing.
        host.protect(space, page_at(va, 2), 1, Protection::READONLY).expect("protected");
        assert_eq!((host.view(table).used_entries, host.view(table).share), (3, 3));
        // A page in transition still counts in both.
        host.trim(space, va);
        assert_eq!((host.view(table).used_entries, host.view(table).share), (3, 3));
        host.audit_at_rest();
    }

    fn tables_are_freed_with_their_last_entry<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let before = host.manager.memory_figures();
        let fresh = host.size(space);
        let va = host.allocate(space, 3);
        for page in 0..3 {
            host.write(space, page_at(va, page), 1);
        }
        host.trim(space, va);
        let table = host.entry(space, va).table;
        for page in 0..2 {
            host.free(space, page_at(va, page), 1, FreeType::Release).expect("released");
            assert_eq!(host.location(table), PageLocation::Active, "an entry is left");
        }
        host.free(space, page_at(va, 2), 1, FreeType::Release).expect("released");
        host.settle();
        assert_ne!(host.location(table), PageLocation::Active);
        let top = host.entry_at(space, va, M::SELF_MAP_LEVEL).expect("directories exist");
        assert_eq!(host.manager.raw_entry(top), 0);
        assert_eq!(host.size(space), fresh);
        let after = host.manager.memory_figures();
        assert_eq!((after.available, after.committed), (before.available, before.committed));
        host.audit_at_rest();
    }

    fn entries_are_read_through_the_self_map_as_hardware_walks_it<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let low = host.allocate(space, 2);
        let high = M::canonical(M::HIGHEST_VAD_ADDRESS.get() & !0xFFFF);
        host.reserve_at(space, high, 1);
        host.commit(space, high, 1, Protection::READWRITE).expect("committed");
        for va in [low, page_at(low, 1), high] {
            host.write(space, va, 1);
            let mut level = Some(Level::Table);
            while let Some(at) = level.filter(|&at| at <= M::SELF_MAP_LEVEL) {
                let seen_at = M::entry_address(va, at);
                let frame = host.walk(space, seen_at, AccessKind::Read).expect("mapped");
                let entry = host.entry_at(space, va, at).expect("the tables are valid");
                assert_eq!(frame, entry.table, "{at:?} of {va:?}");
                let offset = usize::from(seen_at.page_offset());
                assert_eq!(offset, entry.slot.index() * M::ENTRY_BYTES);
                let word = host.machine().frame(frame)[offset / 8].load(Ordering::Relaxed);
                let word = if M::ENTRY_BYTES == 4 {
                    word >> (8 * (offset % 8)) & 0xFFFF_FFFF
                } else {
                    word
                };
                assert_eq!(word, host.manager.raw_entry(entry));
                level = at.up();
            }
        }
        // Nothing of it belongs to the user.
        let self_map = host.entry_at(space, M::SELF_MAP_ADDRESS, M::SELF_MAP_LEVEL);
        let word = host.manager.raw_entry(self_map.expect("it exists"));
        assert!(M::is_valid(word) && !M::is_user_owned(word));
    }

    fn working_set_list_is_mapped_in_hyperspace<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let list = host.manager.space_view(space).expect("it lives").list();
        assert_eq!(host.walk(space, M::WORKING_SET_LIST, AccessKind::Read), Some(list));
    }

    fn idle_table_leaves_the_set_and_comes_back_by_a_soft_fault<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 2);
        host.write(space, va, 7);
        host.write(space, page_at(va, 1), 8);
        host.page_out_run(space, va, 2);
        let table = host.entry(space, va).table;
        assert_eq!(host.view(table).share, 1, "nothing in it is valid or in transition");
        host.trim(space, table_of::<M>(va, Level::Table));
        let above = host.entry_at(space, va, Level::Directory).expect("the level above stays");
        assert!(M::is_transition(host.manager.raw_entry(above)));
        assert_eq!(host.location(table), PageLocation::Modified, "a table always counts as dirty");
        host.audit_at_rest();
        assert_eq!(host.read(space, va), 7);
        assert_eq!(host.entry(space, va).table, table);
        assert_eq!(host.view(table).used_entries, 2);
        host.audit_at_rest();
    }

    fn table_with_a_valid_or_transition_entry_cannot_leave<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        let table_va = table_of::<M>(va, Level::Table);
        let evict = || {
            let mut batch = host.manager.try_begin_flush(space).expect("a record");
            let table = host.entry(space, va).table;
            let index = host.view(table).u1;
            host.locked(space, |set| {
                assert_eq!(set.entry(index).page(), table_va.vpn());
                set.evict(index, &mut batch)
            })
        };
        assert_eq!(evict(), crate::working_set::evict::Eviction::InUse);
        host.trim(space, va);
        assert_eq!(evict(), crate::working_set::evict::Eviction::InUse);
        host.audit_at_rest();
    }

    fn paged_out_tables_are_read_back_before_the_page<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        host.write(space, va, 7);
        host.write(space, page_at(va, 1), 8);
        host.protect(space, page_at(va, 2), 1, Protection::READONLY).expect("protected");
        host.page_out_run(space, va, 2);
        page_out_tables(&host, space, va);
        let top = host.entry_at(space, va, M::SELF_MAP_LEVEL).expect("it exists");
        assert!(M::is_page_file(host.manager.raw_entry(top)));
        host.audit_at_rest();
        let reads = host.manager.counters().page_read_ios.get();
        assert_eq!(host.fault(space, va, AccessKind::Read), Ok(FaultKind::PageFile));
        let tables = user_tables::<M>().len() as u64;
        assert_eq!(host.manager.counters().page_read_ios.get() - reads, tables + 1);
        assert_eq!(host.view(host.entry(space, va).table).used_entries, 3);
        host.audit_at_rest();
        assert_eq!((host.read(space, va), host.read(space, page_at(va, 1))), (7, 8));
        assert_eq!(host.read(space, page_at(va, 2)), 0);
        let denied = host.fault(space, page_at(va, 2), AccessKind::Write);
        assert_eq!(denied, Err(NtStatus::ACCESS_VIOLATION));
        host.audit_at_rest();
    }

    fn calls_read_paged_out_tables_back<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 3);
        host.write(space, va, 7);
        let out = || {
            host.page_out(space, va);
            page_out_tables(&host, space, va);
        };
        out();
        let information = host.query(space, va);
        assert_eq!(information.size.get(), 3 * PAGE_SIZE);
        page_out_tables(&host, space, va);
        let old = host.protect(space, va, 3, Protection::READONLY).expect("protected").old;
        assert_eq!(old, Protection::READWRITE);
        assert_eq!(host.read(space, va), 7);
        out();
        host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
        page_out_tables(&host, space, va);
        host.commit(space, va, 1, Protection::READWRITE).expect("committed");
        assert_eq!(host.read(space, va), 0, "recommitted memory is zero");
        out();
        host.free(space, va, 0, FreeType::Release).expect("released");
        host.settle();
        assert_eq!(host.slots_in_use(), 0);
        host.audit_at_rest();
    }

    fn table_that_cannot_be_read_is_an_in_page_error_and_read_again_later<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 1);
        host.write(space, va, 7);
        host.page_out(space, va);
        page_out_tables(&host, space, va);
        let access = AccessKind::Read;
        let mut fault = crate::Fault::new(space, va, access, crate::ProcessorMode::User);
        assert!(matches!(host.step(&mut fault), Step::Wait(_)));
        host.complete_next_with(Err(NtStatus::IO_DEVICE_ERROR)).expect("a read");
        assert_eq!(host.step(&mut fault), Step::Raise(NtStatus::IN_PAGE_ERROR));
        let top = host.entry_at(space, va, M::SELF_MAP_LEVEL).expect("it exists");
        assert!(matches!(M::decode(host.manager.raw_entry(top)), PteState::PageFile { .. }));
        host.audit_at_rest();
        assert_eq!(host.read(space, va), 7);
    }
}
