//! One word of a healthy machine is changed, and the auditors must say what is wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::platform::Ram;
use ntmm::tables::EntryRef;
use ntmm::vad::SecuredAccess;
use ntmm::virtual_memory::{AllocationType, Placement, SecureMemory};
use ntmm::{Fault, ProcessorMode, Step};
use ntmm_check::audit::{Chain, Defect, Figure, Form, SlotOwner, audit_teardown};
use ntmm_pte::{AccessKind, Level, Pages, PagingMode, Pfn, Protection, Slot};

use crate::machine::{Machine, every_mode, page};
use crate::sample::{Sample, UNCOMMITTED, figure, finds};

/// Whether a defect is the one expected.
type Found = fn(&Defect) -> bool;

every_mode! {
    a_healthy_machine_has_a_page_in_every_state
    damaged_lists_are_found
    damaged_frames_are_found
    damaged_tables_are_found
    damage_to_a_table_that_is_said_to_be_untouched_is_found_late
    damaged_working_sets_are_found
    damaged_charges_are_found
    damaged_paging_files_are_found
    damaged_transfers_are_found
    damaged_physical_pages_are_found
    lost_access_to_secured_pages_is_found
    held_locks_are_found
    what_is_kept_is_found
}

mod run {
    use super::*;

    pub fn a_healthy_machine_has_a_page_in_every_state<M: PagingMode>() {
        let sample = Sample::<M>::new();
        sample.machine.check();
        for location in [PageLocation::Standby, PageLocation::Modified, PageLocation::Active] {
            sample.private(location);
        }
        sample.first(|frame| frame.location == PageLocation::Zeroed);
        sample.in_paging_file(0);
        sample.machine.delete(sample.space);
        sample.machine.check_teardown();
    }

    pub fn damaged_lists_are_found<M: PagingMode>() {
        use PageLocation::{Active, Free, Modified, Standby, Zeroed};
        finds::<M>(
            |sample| sample.set_location(sample.private(Standby), Active),
            |defect| matches!(defect, Defect::ListMember { list: Standby, found: Active, .. }),
        );
        finds::<M>(
            |sample| {
                let link = sample.private(Modified).share.wrapping_add(1);
                let word = sample.machine.database_word(sample.private(Modified).pfn, 2);
                word.store(
                    word.load(Ordering::Relaxed) & 0xFFFF_FFFF | u64::from(link) << 32,
                    Ordering::Relaxed,
                );
            },
            |defect| {
                matches!(defect, Defect::ListLink { list: Modified, chain: Chain::Global, .. })
            },
        );
        finds::<M>(
            |sample| {
                sample
                    .machine
                    .database_word(sample.at(Zeroed).pfn, 1)
                    .store(7 << 32, Ordering::Relaxed)
            },
            |defect| matches!(defect, Defect::ListLink { list: Zeroed, chain: Chain::Color, .. }),
        );
        // The chain ends at its first frame.
        finds::<M>(
            |sample| sample.or(sample.first_of(Free), 2, 0xFFFF_FFFF),
            |defect| matches!(defect, Defect::ListTotal { list: Free, chained: 1, .. }),
        );
        finds::<M>(
            |sample| sample.exchange_colors(),
            |defect| matches!(defect, Defect::ListColor { list: Zeroed, .. }),
        );
        finds::<M>(
            |sample| sample.machine.word(sample.at(Zeroed).pfn, 77).store(9, Ordering::Relaxed),
            |defect| matches!(defect, Defect::NotZero { word: 77, value: 9, .. }),
        );
    }

    pub fn damaged_frames_are_found<M: PagingMode>() {
        use PageLocation::{Active, Modified, Standby};
        const REFERENCE: u64 = 1 << 24;
        const SHARE: u64 = 1 << 32;
        const FLAGS: u32 = 8;
        for location in [Active, Standby, Modified] {
            finds::<M>(
                |sample| sample.add(sample.private(location).pfn, 0, REFERENCE),
                |defect| {
                    matches!(defect, Defect::References(count)
                    if count.location == location && count.found == count.expected + 1)
                },
            );
        }
        for usage in [FrameUse::Private, FrameUse::PageTable, FrameUse::Root, FrameUse::VadNode] {
            finds::<M>(
                |sample| sample.add(sample.used(usage).pfn, 2, SHARE),
                |defect| {
                    matches!(defect, Defect::Share(count)
                    if count.usage == usage && count.found == count.expected + 1)
                },
            );
        }
        // A page written without its mapping being counted: share 0 in Active.
        finds::<M>(
            |sample| sample.add(sample.private(Active).pfn, 2, SHARE.wrapping_neg()),
            |defect| matches!(defect, Defect::Share(count) if count.found == 0),
        );
        let flags: [(PageLocation, u64, Found); 7] = [
            (Active, 2, |defect| matches!(defect, Defect::TransferFlag { .. })),
            (Active, 4, |defect| matches!(defect, Defect::TransferFlag { .. })),
            (Standby, 1, |defect| matches!(defect, Defect::Dirtiness { .. })),
            (Modified, 16, |defect| matches!(defect, Defect::DeletedInUse { .. })),
            (Active, 16, |defect| matches!(defect, Defect::DeletedInUse { .. })),
            (Standby, 64, |defect| matches!(defect, Defect::Removal { .. })),
            (Active, 64, |defect| matches!(defect, Defect::Removal { .. })),
        ];
        for (location, flag, found) in flags {
            finds::<M>(|sample| sample.or(sample.private(location).pfn, 0, flag << FLAGS), found);
        }
        // A table whose contents are said to be unwanted, and pages: the space counts those.
        let reset = 256 << FLAGS;
        finds::<M>(
            |sample| sample.or(sample.page_table(), 0, reset),
            |defect| matches!(defect, Defect::Reset(_)),
        );
        for location in [Active, Standby] {
            finds::<M>(
                |sample| sample.or(sample.private(location).pfn, 0, reset),
                |defect| figure(defect, Figure::PrivatePages),
            );
        }
        // A clean page whose slot was given back, and a dirty one that keeps it.
        finds::<M>(|sample| sample.forget_modified(), |defect| matches!(defect, Defect::NoCopy(_)));
        finds::<M>(
            |sample| sample.or(sample.clean().pfn, 0, 1 << FLAGS),
            |defect| matches!(defect, Defect::StaleCopy { .. }),
        );
        finds::<M>(
            |sample| {
                let word = sample.machine.database_word(sample.private(Active).pfn, 1);
                word.store(0x1880, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::OriginalForm { word: 0x1880, .. }),
        );
    }

    pub fn damaged_physical_pages_are_found<M: PagingMode>() {
        const SHARE: u64 = 1 << 32;
        const CLAIM: u64 = 1 << 42;
        let physical = |sample: &Sample<M>| {
            let (window, pages) = sample.physical_pages();
            sample.machine.check();
            (window, pages)
        };
        finds::<M>(
            |sample| sample.add(physical(sample).1[0], 2, SHARE),
            |defect| matches!(defect, Defect::Share(count) if count.found == 3),
        );
        finds::<M>(
            |sample| sample.add(physical(sample).1[2], 2, 1),
            |defect| matches!(defect, Defect::PhysicalList { pfn: Some(_), .. }),
        );
        // The list ends at its first page.
        finds::<M>(
            |sample| {
                physical(sample);
                let view = sample.machine.manager.space_view(sample.space).expect("the process");
                sample.or(Pfn::new(view.header().first_physical()), 1, 0xFFFF_FFFF);
            },
            |defect| matches!(defect, Defect::PhysicalList { pfn: None, .. }),
        );
        finds::<M>(
            |sample| sample.or(physical(sample).1[2], 3, CLAIM),
            |defect| matches!(defect, Defect::Claimed(_)),
        );
        finds::<M>(
            |sample| sample.add(physical(sample).1[2], 3, 1),
            |defect| matches!(defect, Defect::NotMapped { .. }),
        );
        // A window that maps one page twice, or a page of the program.
        finds::<M>(
            |sample| {
                let (window, pages) = physical(sample);
                let first = sample.machine.manager.page_entry(sample.space, window.base);
                let view = sample.first(|frame| frame.pfn == pages[1]);
                assert_ne!(first, Some(view.container));
                sample.name_frame(view, pages[0]);
            },
            |defect| matches!(defect, Defect::Container { .. }),
        );
        finds::<M>(
            |sample| {
                let (_, pages) = physical(sample);
                let view = sample.first(|frame| frame.pfn == pages[1]);
                sample.name_frame(view, sample.private(PageLocation::Active).pfn);
            },
            |defect| {
                matches!(
                    defect,
                    Defect::EntryFrame { form: Form::Valid, usage: FrameUse::Private, .. }
                )
            },
        );
        let sample = Sample::<M>::new();
        physical(&sample);
        sample.machine.delete(sample.space);
        sample.machine.check_teardown();
    }

    pub fn lost_access_to_secured_pages_is_found<M: PagingMode>() {
        // Page 49 is in memory, the pages from 0 on are not.
        for (first, access) in [(49, SecuredAccess::ReadWrite), (0, SecuredAccess::Read)] {
            finds::<M>(
                |sample| {
                    let (at, size) = (page(sample.region, first), Pages::ONE.to_bytes());
                    let secure = SecureMemory::new(sample.space, at, size, access);
                    sample.machine.run(secure).expect("secured");
                    sample.machine.check();
                    let entry = sample.entry(first);
                    let word = sample.machine.manager.raw_entry(entry);
                    if M::is_valid(word) {
                        let frame = sample.first(|frame| frame.pfn == M::valid_pfn(word));
                        let readonly = M::with_protection(frame.original, Protection::READONLY);
                        let original = sample.machine.database_word(frame.pfn, 1);
                        original.store(readonly, Ordering::Relaxed);
                    } else {
                        sample.poke(entry, M::with_protection(word, Protection::NO_ACCESS));
                    }
                },
                |defect| matches!(defect, Defect::Secured { .. }),
            );
        }
    }

    pub fn damaged_tables_are_found<M: PagingMode>() {
        use PageLocation::{Active, Free, Standby};
        for (location, form) in [(Active, Form::Valid), (Standby, Form::Transition)] {
            finds::<M>(
                |sample| sample.add(sample.private(location).pfn, 3, 1 << 32),
                |defect| matches!(defect, Defect::Container { .. }),
            );
            finds::<M>(
                |sample| {
                    let other = sample.at(Free).pfn;
                    sample.name_frame(sample.private(location), other);
                },
                |defect| {
                    matches!(*defect, Defect::EntryFrame { form: f, location: Free, .. }
                    if f == form)
                },
            );
            finds::<M>(
                |sample| sample.name_frame(sample.private(location), Pfn::new(0x8_0000)),
                |defect| matches!(defect, Defect::NoSuchFrame(_, pfn) if pfn.get() == 0x8_0000),
            );
        }
        finds::<M>(
            |sample| sample.poke(sample.private(Active).container, 0x480),
            |defect| matches!(defect, Defect::EntryForm { word: 0x480, .. }),
        );
        finds::<M>(
            |sample| sample.add(sample.page_table(), 3, 1 << 42),
            |defect| {
                matches!(defect, Defect::UsedEntries { expected, found, .. }
                if *found == expected + 1)
            },
        );
        finds::<M>(
            |sample| {
                let slot = Slot::from_low_bits(M::ENTRIES as u64 - 1);
                sample.poke(EntryRef { table: sample.page_table(), slot }, 0x80);
            },
            |defect| matches!(defect, Defect::OutsideVads(place) if place.level == 1),
        );
        finds::<M>(
            |sample| sample.break_self_map(),
            |defect| matches!(defect, Defect::SelfMap { .. }),
        );
        finds::<M>(
            |sample| {
                let word = sample.machine.word(sample.list(), 1);
                word.fetch_xor(1 << 32, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::ListPage { .. }),
        );
        finds::<M>(
            |sample| {
                let words = sample.machine.manager.platform().frame(sample.trimmed_table());
                let held = |word: &&AtomicU64| word.load(Ordering::Relaxed) != 0;
                let word = words.iter().find(held).expect("an entry");
                let low = M::ENTRY_BYTES == 8 || word.load(Ordering::Relaxed) as u32 != 0;
                word.fetch_or(if low { 1 } else { 1 << 32 }, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::TrimmedTable { .. }),
        );
    }

    /// What was read before may be relied on, but not for ever: a store that nobody has seen
    /// must not stay hidden.
    pub fn damage_to_a_table_that_is_said_to_be_untouched_is_found_late<M: PagingMode>() {
        let sample = Sample::<M>::new();
        sample.machine.check();
        sample.machine.untouched.set(true);
        let frame = sample.private(PageLocation::Standby);
        sample.poke(frame.container, 0);
        let found = (0..16).map(|_| sample.machine.audit()).find(Result::is_err);
        assert!(matches!(found, Some(Err(Defect::UsedEntries { .. }))), "found {found:?}");
        sample.machine.untouched.set(false);
        sample.machine.audit().expect_err("the entry is still missing");
    }

    pub fn damaged_working_sets_are_found<M: PagingMode>() {
        use PageLocation::Active;
        finds::<M>(
            |sample| sample.add(sample.private(Active).pfn, 2, 1),
            |defect| matches!(defect, Defect::NoWorkingSetEntry { .. }),
        );
        // The lock bit of an entry that may be trimmed; the entry of an own page, unlocked.
        finds::<M>(
            |sample| {
                let index = sample.private(Active).u1;
                sample
                    .machine
                    .word(sample.list(), 32 + index as usize)
                    .fetch_or(2, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::PermanentEntry { .. }),
        );
        finds::<M>(
            |sample| {
                sample.machine.word(sample.list(), 32).fetch_and(!2, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::PermanentEntry { index: 0, .. }),
        );
        // The free list leads into an entry in use, or ends too soon.
        finds::<M>(
            |sample| {
                let word = sample.machine.word(sample.list(), 5);
                word.store(word.load(Ordering::Relaxed) >> 32 << 32, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::FreeEntry { index: 0, .. }),
        );
        finds::<M>(
            |sample| {
                sample.machine.word(sample.list(), 5).fetch_or(0xFFFF_FFFF, Ordering::Relaxed);
            },
            |defect| figure(defect, Figure::Entries),
        );
        let figures = [
            (3, 1, Figure::WorkingSetSize),
            (6, 1, Figure::LastEntry),
            (7, 1 << 32, Figure::NonDirect),
            (11, 1, Figure::Commit),
            (13, 0x1000, Figure::VirtualSize),
            (14, 1, Figure::PrivatePages),
        ];
        for (word, change, wrong) in figures {
            finds::<M>(
                |sample| {
                    sample.machine.word(sample.list(), word).fetch_add(change, Ordering::Relaxed);
                },
                |defect| figure(defect, wrong),
            );
        }
    }

    pub fn damaged_charges_are_found<M: PagingMode>() {
        // The records of a node begin behind its two sorted columns (63 rows each).
        let record = |sample: &Sample<M>| {
            let node = sample.used(FrameUse::VadNode).pfn;
            let slot = sample.machine.word(node, 8).load(Ordering::Relaxed) as usize & 0xFF;
            (node, 8 + 2 * 63 + 6 * slot)
        };
        finds::<M>(
            |sample| {
                let (node, word) = record(sample);
                sample.machine.word(node, word).fetch_add(1, Ordering::Relaxed);
            },
            |defect| {
                matches!(defect, Defect::CommitCharge { expected, found, .. }
                if *found == expected + 1)
            },
        );
        finds::<M>(
            |sample| {
                let node = sample.used(FrameUse::VadNode).pfn;
                sample.machine.word(node, 0).fetch_add(1, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::Vads(..)),
        );
        // A charge is lost on the way from the system to a space.
        finds::<M>(
            |sample| {
                let unused = EntryRef {
                    table: sample.page_table(),
                    slot: M::slot(page(sample.region, UNCOMMITTED), Level::Table),
                };
                sample.poke(unused, 0x80);
                sample.add(sample.page_table(), 3, 1 << 42);
                let (node, word) = record(sample);
                sample.machine.word(node, word).fetch_add(1, Ordering::Relaxed);
                sample.machine.word(sample.list(), 11).fetch_add(1, Ordering::Relaxed);
            },
            |defect| {
                matches!(defect, Defect::SystemCommit { expected, found }
                if *expected == found + 1)
            },
        );
        // The tree is forgotten, and its charge with it: its node is nobody's.
        let machine = Machine::<M>::new(60);
        let space = machine.process(20);
        machine.place(space, Placement::Lowest, AllocationType::Reserve, 1);
        let list = machine.manager.space_view(space).expect("the process").list();
        let tables = u64::from(M::SELF_MAP_LEVEL.number()) - 1;
        for (word, lost) in [(9, None), (10, None), (11, Some(1 + tables)), (13, None)] {
            let word = machine.word(list, word);
            let left = lost.map_or(0, |lost| word.load(Ordering::Relaxed) - lost);
            word.store(left, Ordering::Relaxed);
        }
        let found = machine.audit();
        assert!(
            matches!(found, Err(Defect::Unaccounted { usage: FrameUse::VadNode, .. })),
            "{found:?}"
        );
    }

    pub fn damaged_paging_files_are_found<M: PagingMode>() {
        finds::<M>(
            |sample| {
                let (word, bit) = sample.mark_of(sample.in_paging_file(0));
                sample.machine.word(sample.bits(), word).fetch_and(!bit, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::SlotNotMarked { owner: SlotOwner::Entry(_), .. }),
        );
        finds::<M>(
            |sample| {
                let (word, bit) = sample.mark_of(sample.clean().original);
                sample.machine.word(sample.bits(), word).fetch_and(!bit, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::SlotNotMarked { owner: SlotOwner::Original(_), .. }),
        );
        finds::<M>(
            |sample| {
                sample.machine.word(sample.bits(), 15).fetch_or(1 << 63, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::SlotUnowned { slot: 1023, .. }),
        );
        finds::<M>(
            |sample| {
                let entries = [0, 1].map(|number| sample.entry_in_paging_file(number));
                sample.poke(entries[1], sample.machine.manager.raw_entry(entries[0]));
            },
            |defect| matches!(defect, Defect::SlotOwnedTwice { .. }),
        );
        // A page loses its slot, which stays marked.
        finds::<M>(
            |sample| {
                sample.poke(sample.entry_in_paging_file(0), 0x80);
                sample.machine.word(sample.list(), 14).fetch_sub(1, Ordering::Relaxed);
            },
            |defect| {
                matches!(defect, Defect::SlotCount { owned, hidden: 0, found }
                if *found == owned + 1)
            },
        );
    }

    pub fn damaged_transfers_are_found<M: PagingMode>() {
        let reading = |sample: &Sample<M>| {
            let space = sample.space;
            let number = sample.numbers_in_paging_file().next().expect("a page in the file");
            let va = page(sample.region, number);
            let mut fault = Fault::new(space, va, AccessKind::Read, ProcessorMode::User);
            assert!(matches!(sample.machine.step(&mut fault), Step::Wait(_)));
            // The read stays under way; the fault is a waiter that never comes back.
            std::mem::forget(fault);
            sample.first(|frame| frame.flags.bits() & 2 != 0).pfn
        };
        finds::<M>(
            |sample| {
                let pfn = reading(sample);
                sample.machine.database_word(pfn, 0).fetch_and(!(2 << 8), Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::Transfer { .. }),
        );
        finds::<M>(
            |sample| {
                let pfn = reading(sample);
                sample.add(pfn, 0, (1_u64 << 24).wrapping_neg());
            },
            |defect| matches!(defect, Defect::References(count) if count.expected == 1),
        );
    }

    pub fn held_locks_are_found<M: PagingMode>() {
        finds::<M>(
            |sample| sample.or(sample.page_table(), 0, 1),
            |defect| matches!(defect, Defect::FrameLocked(_)),
        );
        finds::<M>(
            |sample| {
                // The lock is bit 61 of the word that is live (bit 63) and names the list.
                let list = u64::from(sample.list().get());
                let names_list = |word: u64| word >> 63 == 1 && word & 0xFFFF_FFFF == list;
                let manager = &sample.machine.manager;
                let own = manager.frame_views().filter(|frame| frame.usage == FrameUse::Manager);
                let lock = own
                    .flat_map(|frame| (0..512).map(move |number| (frame.pfn, number)))
                    .map(|(pfn, number)| sample.machine.word(pfn, number))
                    .find(|word| names_list(word.load(Ordering::Relaxed)));
                lock.expect("the space's word").fetch_or(1 << 61, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::SpaceLocked(_)),
        );
        finds::<M>(
            |sample| {
                sample.machine.word(sample.list(), 0).fetch_or(2, Ordering::Relaxed);
            },
            |defect| matches!(defect, Defect::AddressCreationOwned(_)),
        );
    }

    pub fn what_is_kept_is_found<M: PagingMode>() {
        let sample = Sample::<M>::new();
        let kept = audit_teardown(&sample.machine.manager, &sample.machine.baseline);
        assert!(matches!(kept, Err(Defect::Leak { .. })), "{kept:?}");
        sample.machine.delete(sample.space);
        sample.machine.check_teardown();
    }
}
