//! Paging files: the bitmap against a plain vector, slots, several files, parameters, and the
//! clusters the writer makes (spec 9.1-9.4).

use ntmm_pte::{Amd64, Pages, PagingFileNumber, PagingMode, Pfn, Protection};
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use super::machine::Machine;
use crate::paging_file::bitmap::{Bitmap, Mark, SLOTS_PER_FRAME, SlotRun};
use crate::platform::{Direction, FileId};
use crate::virtual_memory::FreeType;
use crate::{Config, Engine, EngineStep, NtStatus};

/// A bitmap of `slots` slots on a machine of its own.
fn with_bitmap<T>(slots: u32, action: impl FnOnce(&Bitmap<'_, Machine<Amd64>>) -> T) -> T {
    let machine = Machine::<Amd64>::new(&[(0, 8)], 8);
    for number in 0..8 {
        crate::platform::Ram::zero(&machine, Pfn::new(number));
    }
    let bitmap = Bitmap::new(&machine, Pfn::new(0), slots);
    for part in 0..Bitmap::<Machine<Amd64>>::frames_for(slots) {
        bitmap.set_frame(part, Pfn::new(1 + part));
    }
    action(&bitmap)
}

/// The first run of `count` free slots in `from..to`, or else the first of the longest.
fn first_fit(slots: &[bool], from: usize, to: usize, count: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    let mut at = from;
    while at < to {
        let length = slots[at..to].iter().take_while(|used| !**used).count().min(count);
        if length == count {
            return Some((at, count));
        }
        if length > best.map_or(0, |best| best.1) {
            best = Some((at, length));
        }
        at += length.max(1);
    }
    best
}

fn expected(slots: &[bool], hint: usize, count: usize) -> Option<(usize, usize)> {
    let hint = if hint < slots.len() { hint } else { 0 };
    let behind = first_fit(slots, hint, slots.len(), count);
    if behind.is_some_and(|run| run.1 == count) {
        return behind;
    }
    match (behind, first_fit(slots, 0, hint, count)) {
        (Some(behind), Some(before)) if before.1 > behind.1 => Some(before),
        (Some(behind), _) => Some(behind),
        (None, before) => before,
    }
}

proptest! {
    #[test]
    fn bitmap_is_a_vector_of_flags(
        size in 1_u32..400,
        actions in proptest::collection::vec(
            (any::<bool>(), 0_u32..400, 1_u32..80, 1_u32..17), 1..40,
        )
    ) {
        with_bitmap(size, |bitmap| {
            let mut model = vec![false; size as usize];
            for (used, start, length, count) in actions {
                let start = start % size;
                let run = SlotRun { start, count: length.min(size - start) };
                bitmap.mark(run, if used { Mark::Used } else { Mark::Free });
                model[run.start as usize..(run.start + run.count) as usize].fill(used);
                for (slot, &used) in model.iter().enumerate() {
                    assert_eq!(bitmap.is_used(slot as u32), used);
                }
                assert!(bitmap.is_used(size), "beyond the end");
                assert_eq!(bitmap.used() as usize, model.iter().filter(|used| **used).count());
                for hint in [0, start, size - 1, size, size + 9] {
                    let found = bitmap.find(hint, count);
                    let found = found.map(|run| (run.start as usize, run.count as usize));
                    let expected = expected(&model, hint as usize, count as usize);
                    assert_eq!(found, expected, "{count} from {hint}");
                }
            }
        });
    }
}

#[test]
fn runs_cross_the_frames_of_the_bitmap() {
    let size = 2 * SLOTS_PER_FRAME + 100;
    with_bitmap(size, |bitmap| {
        bitmap.mark(SlotRun { start: 0, count: SLOTS_PER_FRAME - 3 }, Mark::Used);
        bitmap.mark(SlotRun { start: SLOTS_PER_FRAME + 5, count: 500 }, Mark::Used);
        let run = SlotRun { start: SLOTS_PER_FRAME - 3, count: 8 };
        assert_eq!(bitmap.find(0, 8), Some(run));
        bitmap.mark(run, Mark::Used);
        assert_eq!(bitmap.find(0, 8).map(|run| run.start), Some(SLOTS_PER_FRAME + 505));
        assert_eq!(bitmap.used(), SLOTS_PER_FRAME + 505);
    });
}

fn create<M: PagingMode>(host: &Host<M>, minimum: u64, maximum: u64) -> Result<u8, NtStatus> {
    host.manager
        .create_paging_file(FileId(40), Pages::new(minimum), Pages::new(maximum))
        .map(PagingFileNumber::get)
}

in_every_mode! {
    fn parameters_of_a_new_file_are_checked<M>() {
        let host = Host::<M>::bare(128, EAGER);
        let before = host.manager.memory_figures();
        assert_eq!(create(&host, 255, 300), Err(NtStatus::INVALID_PARAMETER_2));
        assert_eq!(create(&host, 255, 10), Err(NtStatus::INVALID_PARAMETER_2), "first of two");
        assert_eq!(create(&host, 256, 255), Err(NtStatus::INVALID_PARAMETER_3));
        let limit = u64::from(M::MAX_PAGE_FILE_OFFSET).min(1 << 25);
        assert_eq!(create(&host, limit + 1, limit + 1), Err(NtStatus::INVALID_PARAMETER_2));
        assert_eq!(create(&host, 256, limit + 1), Err(NtStatus::INVALID_PARAMETER_3));
        if M::ENTRY_BYTES == 4 {
            assert_eq!(limit, (1 << 20) - 1, "4095 MiB");
        }
        assert_eq!(host.manager.memory_figures(), before);
        assert_eq!(create(&host, 256, 256), Ok(0));
        host.audit_at_rest();
    }

    fn file_of_the_largest_size_is_made_where_its_bitmap_fits<M>() {
        if M::ENTRY_BYTES == 4 {
            let host = Host::<M>::bare(128, EAGER);
            assert_eq!(create(&host, 256, (1 << 20) - 1), Ok(0));
            host.audit_at_rest();
        } else {
            let host = Host::<M>::bare(128, EAGER);
            let before = host.manager.memory_figures();
            // 1024 frames of bits are more than the machine has.
            assert!(create(&host, 256, 1 << 25).is_err());
            assert_eq!(host.manager.memory_figures(), before);
            host.audit_at_rest();
        }
    }

    fn file_raises_the_limit_by_its_slots_and_charges_its_bitmap<M>() {
        let host = Host::<M>::bare(128, EAGER);
        let before = host.manager.memory_figures();
        assert_eq!(create(&host, 300, 300), Ok(0));
        let after = host.manager.memory_figures();
        assert_eq!(after.commit_limit.get(), before.commit_limit.get() + 299);
        assert_eq!(after.committed.get(), before.committed.get() + 2);
        assert_eq!(after.available, before.available - 2);
        let number = PagingFileNumber::new(0).expect("a number");
        assert!(host.manager.paging_slot_is_used(number, 0), "slot 0 is never used");
        assert!(!host.manager.paging_slot_is_used(number, 1));
        assert!(!host.manager.paging_slot_is_used(number, 299));
        assert!(host.manager.paging_slot_is_used(number, 300));
        let figures = host.manager.paging_file_figures().next().expect("a file");
        assert_eq!((figures.size.get(), figures.in_use.get(), figures.peak.get()), (300, 0, 0));
        assert!(host.machine().requests.borrow().contains(&Engine::ModifiedWriter));
        host.audit_at_rest();
    }

    fn there_are_sixteen_files_at_most<M>() {
        let host = Host::<M>::bare(160, EAGER);
        for number in 0..16 {
            assert_eq!(create(&host, 256, 256), Ok(number));
        }
        assert_eq!(create(&host, 256, 256), Err(NtStatus::TOO_MANY_PAGING_FILES));
        host.audit_at_rest();
    }

    fn sixteen_files_are_reported_before_any_other_mistake<M>() {
        let host = Host::<M>::bare(160, EAGER);
        for number in 0..16 {
            assert_eq!(create(&host, 256, 256), Ok(number));
        }
        assert_eq!(create(&host, 1, 0), Err(NtStatus::TOO_MANY_PAGING_FILES));
    }

    fn failing_creation_leaves_nothing_behind<M>() {
        for allocation in 0.. {
            let host = Host::<M>::bare(128, EAGER);
            let before = host.manager.memory_figures();
            host.machine().fail_after.set(Some(allocation));
            let outcome = create(&host, 256, 256);
            if host.machine().fail_after.take().is_some() {
                assert_eq!(outcome, Ok(0));
                break;
            }
            assert!(outcome.is_err());
            assert_eq!(host.manager.memory_figures().available, before.available);
            assert_eq!(host.manager.memory_figures().committed, before.committed);
            host.audit_at_rest();
            assert_eq!(create(&host, 256, 256), Ok(0));
        }
    }

    fn neighbours_are_written_together_in_the_order_of_their_addresses<M>() {
        let (host, space, va) = Host::<M>::with_pages(96, 8);
        for page in 0..8 {
            host.write(space, page_at(va, page), page);
        }
        // Page 6 has no modified neighbour; 3 is the oldest.
        for page in [3, 6, 1, 4, 2] {
            host.trim(space, page_at(va, page));
        }
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        let expected: Vec<_> =
            [1, 2, 3, 4, 6].map(|page| host.frame_of(space, page_at(va, page))).to_vec();
        {
            let pending = host.machine().pending.borrow();
            assert_eq!(pending.len(), 1);
            assert_eq!((pending[0].offset, &pending[0].frames), (4096, &expected));
        }
        assert!(host.complete_next());
        for (slot, &pfn) in (1_u64..).zip(&expected) {
            let location = M::page_file_location(host.view(pfn).original).expect("a slot");
            assert_eq!(u64::from(location.1.get()), slot);
        }
        assert_eq!(host.slots_in_use(), 5, "slots of the run that were not needed are free");
        assert_eq!(host.manager.counters().page_write_ios.get(), 1);
        host.audit_at_rest();
    }

    fn write_is_as_long_as_the_host_chose<M>() {
        for (chosen, expected) in [(1, 1), (4, 4), (16, 16), (99, 16)] {
            let host = Host::<M>::bare(128, Config { write_cluster: chosen, ..EAGER });
            host.paging_file(256);
            let space = host.space();
            let va = host.allocate(space, 20);
            for page in 0..20 {
                host.write(space, page_at(va, page), page);
                host.trim(space, page_at(va, page));
            }
            assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
            assert_eq!(host.pending(), [(Direction::Write, expected)]);
            host.write_modified();
            host.audit_at_rest();
        }
    }

    fn four_writes_are_under_way_at_most<M>() {
        let host = Host::<M>::bare(128, Config { write_cluster: 1, ..EAGER });
        host.paging_file(256);
        let space = host.space();
        let va = host.allocate(space, 6);
        for page in 0..6 {
            host.write(space, page_at(va, page), page);
            host.trim(space, page_at(va, page));
        }
        for _ in 0..4 {
            assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        }
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Idle);
        host.audit();
        host.machine().requests.take();
        assert!(host.complete_next());
        assert!(host.machine().requests.borrow().contains(&Engine::ModifiedWriter));
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
        host.write_modified();
        host.audit_at_rest();
    }

    fn writer_rests_while_there_is_no_need<M>() {
        let host = Host::<M>::bare(128, Config { modified_maximum: Some(3), ..EAGER });
        host.paging_file(256);
        let space = host.space();
        let va = host.allocate(space, 3);
        for page in 0..3 {
            host.write(space, page_at(va, page), page);
            assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Idle, "{page} modified");
            host.trim(space, page_at(va, page));
        }
        assert!(host.machine().requests.borrow().contains(&Engine::ModifiedWriter));
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Worked);
    }

    fn full_file_stops_the_writer_until_a_slot_is_released<M>() {
        let host = Host::<M>::bare(400, EAGER);
        host.paging_file(256);
        let space = host.space_of(300, 345);
        let va = host.allocate(space, 260);
        for page in 0..260 {
            host.write(space, page_at(va, page), page);
        }
        for page in 0..260 {
            host.trim(space, page_at(va, page));
        }
        host.write_modified();
        assert_eq!(host.slots_in_use(), 255);
        assert_eq!(host.manager.memory_figures().modified, 5);
        assert_eq!(host.engine(Engine::ModifiedWriter), EngineStep::Idle);
        host.audit_at_rest();
        host.machine().requests.take();
        host.free(space, va, 3, FreeType::Decommit).expect("decommitted");
        assert!(host.machine().requests.borrow().contains(&Engine::ModifiedWriter));
        host.write_modified();
        assert_eq!((host.slots_in_use(), host.manager.memory_figures().modified), (255, 2));
        for page in 3..260 {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        host.audit_at_rest();
    }

    fn slots_come_from_the_file_with_most_room<M>() {
        let host = Host::<M>::bare(128, Config { write_cluster: 1, ..EAGER });
        host.paging_file(256);
        host.paging_file(258);
        let space = host.space();
        let va = host.allocate(space, 4);
        for page in 0..4 {
            host.write(space, page_at(va, page), page);
            host.trim(space, page_at(va, page));
            host.write_modified();
        }
        let used: Vec<_> =
            host.manager.paging_file_figures().map(|file| file.in_use.get()).collect();
        assert_eq!(used, [1, 3], "the larger one until they have the same room");
        let frames = host.hoard(0);
        host.give_back(&frames);
        for page in 0..4 {
            assert_eq!(host.read(space, page_at(va, page)), page);
        }
        host.audit_at_rest();
    }

    fn allocation_goes_on_behind_the_last_one<M>() {
        let host = Host::<M>::bare(128, Config { write_cluster: 1, ..EAGER });
        host.paging_file(256);
        let space = host.space();
        let va = host.allocate(space, 3);
        let slot = |page| {
            host.write(space, page_at(va, page), page);
            host.trim(space, page_at(va, page));
            host.write_modified();
            let original = host.view(host.frame_of(space, page_at(va, page))).original;
            M::page_file_location(original).expect("a slot").1.get()
        };
        assert_eq!((slot(0), slot(1)), (1, 2));
        host.free(space, va, 1, FreeType::Decommit).expect("decommitted");
        assert_eq!(slot(2), 3, "slot 1 comes again after the end");
        host.audit_at_rest();
    }

    fn protection_of_the_entry_stays_when_a_slot_is_given<M>() {
        let host = Host::<M>::new(96);
        let space = host.space();
        let va = host.allocate_with(space, 1, Protection::EXECUTE_READWRITE);
        host.write(space, va, 7);
        host.page_out(space, va);
        let word = host.word(space, va);
        assert_eq!(M::software_protection(word), Protection::EXECUTE_READWRITE);
        assert!(M::page_file_location(word).is_some());
    }
}
