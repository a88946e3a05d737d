//! The dereference engine: deletes control areas that nobody uses any more
//! (MiDereferenceSegmentThread, spec 8.9, 8.11).
//!
//! Whoever takes the last section object or view of a control area away queues it. The engine
//! looks again, under the lock of the sections, whether it is still unused, marks it so that nobody
//! takes it up again, and frees its prototypes, subsection by subsection; freeing a page of
//! prototypes deletes the pages that they stand for. That may have to wait, for prototypes that are
//! in a paging file: then the control area is queued again and the engine rests until a read
//! has ended or the balance engine reminds it.
//!
//! A file's control area is kept while pages of the file are in memory: the next section of the
//! file finds them. It is queued again when the last of these pages leaves.

use ntmm_pte::{Pages, Va};
use ntmm_sync::atomic::Ordering;

use super::control_area::{ControlAreaFlags, ControlAreaId};
use super::records::NO_RECORD;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::{Engine, EngineStep, Platform};
use crate::virtual_memory::{Free, FreeType};

/// How the deletion of a control area came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Finished,
    /// It has to be tried again.
    Waiting,
}

impl<P: Platform> Manager<P> {
    /// Whether the dereference engine has something to do.
    pub(crate) fn dereference_is_due(&self) -> bool {
        self.sections.queue.load(Ordering::Acquire) != NO_RECORD
    }

    /// The dereference engine.
    pub(crate) fn step_dereference(&self) -> EngineStep {
        let Some(id) = self.next_unused() else { return EngineStep::Idle };
        match self.delete_area(id) {
            Progress::Finished => EngineStep::Worked,
            Progress::Waiting => {
                self.queue_area(id);
                EngineStep::Idle
            }
        }
    }

    /// Takes control areas off the queue up to one that is to be deleted, and marks that one.
    fn next_unused(&self) -> Option<ControlAreaId> {
        let mut entry = self.enter();
        let sections = self.lock_sections(entry.token());
        let head = &self.sections.queue;
        loop {
            // Only here, under the lock, are control areas taken off.
            let first = head.load(Ordering::Acquire);
            if first == NO_RECORD {
                return None;
            }
            let id = ControlAreaId(first);
            let area = self.control_area(id);
            let next = area.next_queued();
            if head.compare_exchange(first, next, Ordering::AcqRel, Ordering::Acquire).is_err() {
                continue;
            }
            area.view().word(14).store(0, Ordering::Release);
            let state = area.state();
            let kept = state.contains(ControlAreaFlags::FILE) && area.pfn_references() > 0;
            if state.contains(ControlAreaFlags::BEING_DELETED) {
                return Some(id);
            }
            if area.is_idle() && !kept && !state.contains(ControlAreaFlags::BEING_CREATED) {
                area.set_flags((state | ControlAreaFlags::BEING_DELETED).bits());
                drop(sections);
                return Some(id);
            }
        }
    }

    /// Deletes a marked control area, as far as that goes without waiting.
    fn delete_area(&self, id: ControlAreaId) -> Progress {
        let area = self.control_area(id);
        while let Some((index, subsection)) = self.subsections_of(area).next() {
            let (pool, bytes) = subsection.pool();
            let last = Va::new(pool.va().get() + bytes.get().max(1) - 1);
            if !bytes.is_zero() && self.free_pool(last) == Progress::Waiting {
                return Progress::Waiting;
            }
            let mut entry = self.enter();
            let mut sections = self.lock_sections(entry.token());
            area.set_first_subsection(subsection.next());
            sections.give_record(&self.sections.subsections, index);
        }
        let mut entry = self.enter();
        let mut sections = self.lock_sections(entry.token());
        sections.remove_area(id);
        sections.wake_waiters();
        Progress::Finished
    }

    /// Frees what is left of the allocation of pool that ends with `last`.
    fn free_pool(&self, last: Va) -> Progress {
        let Some(space) = self.system_space() else { return Progress::Finished };
        let left = {
            let mut entry = self.enter();
            self.lock_space(entry.token(), space).and_then(|set| set.find_vad(last.vpn()))
        };
        let Some(vad) = left else { return Progress::Finished };
        let base = Va::new(vad.start.get() << ntmm_pte::PAGE_SHIFT);
        let size = Pages::new(vad.end.get() - vad.start.get() + 1).to_bytes();
        let mut free = Free::new(space, base, size, FreeType::Release);
        match free.step(self) {
            Step::Done(_) => Progress::Finished,
            Step::Wait(_) | Step::Raise(_) => {
                free.abandon(self);
                Progress::Waiting
            }
        }
    }

    /// Queues a control area whose deletion goes on later.
    fn queue_area(&self, id: ControlAreaId) {
        let area = self.control_area(id);
        self.push_queued(id, area);
        self.platform().request(Engine::Balance);
    }
}
