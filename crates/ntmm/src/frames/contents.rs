//! What a frame says of its contents: whether they exist somewhere else too, and whether anybody
//! still wants them (spec 2.14, 3.3, 7.4).
//!
//! | Contents of a pageable frame | MODIFIED | RESET | Original entry |
//! |---|---|---|---|
//! | exist here only | yes | no | demand zero |
//! | are in a paging file too | no | no | page file |
//! | are being written there | no | no | page file, with the new slot |
//! | are being written, and were changed meanwhile | yes | no | page file, with the new slot |
//! | are not wanted any more | no | yes | demand zero |
//! | are being written, and not wanted any more | no | yes | page file, with the new slot |
//!
//! The slot of a write in progress is released only at its completion, for the disk may still
//! write to it. Everything here belongs to the frame's lock.

use ntmm_pte::PteWord;

use super::entry::FrameFlags;
use super::{FrameGuard, FrameUse};
use crate::manager::Manager;
use crate::platform::Platform;

/// Whether the owner of a page has come to count as having contents there, or not any more. What
/// its space counts follows with [`count_wanted`](crate::working_set::WorkingSetGuard).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Wanted {
    /// As before.
    Unchanged,
    /// They were reset, and are wanted again.
    Again,
    /// They are not wanted from now on.
    NoLonger,
}

impl<P: Platform> Manager<P> {
    /// Merges the dirty bit of an entry that was valid into its frame. A copy in a paging file
    /// is stale then and its slot is released, unless a write of the page is in progress, whose
    /// completion will find the frame modified (spec 2.14).
    ///
    /// The manager writes page tables and prototypes through other mappings than their own, so a
    /// page of them that is taken out always counts as dirty.
    pub(crate) fn capture_dirty(&self, frame: &mut FrameGuard<'_, '_, P>, old: u64) -> Wanted {
        let is_table = matches!(frame.state().usage(), FrameUse::PageTable | FrameUse::Prototypes);
        if !is_table && !P::Paging::is_dirty(old) {
            return Wanted::Unchanged;
        }
        let wanted = self.want_contents(frame);
        frame.insert(FrameFlags::MODIFIED);
        self.release_copy(frame);
        wanted
    }

    /// What the frame holds need not be kept: it counts as unmodified though there is no copy.
    pub(crate) fn reset_contents(&self, frame: &mut FrameGuard<'_, '_, P>) -> Wanted {
        let before = frame.has(FrameFlags::RESET);
        frame.remove(FrameFlags::MODIFIED);
        frame.insert(FrameFlags::RESET);
        self.release_copy(frame);
        if before { Wanted::Unchanged } else { Wanted::NoLonger }
    }

    /// What the frame holds is to be kept after all: without a copy it counts as modified.
    pub(crate) fn want_contents(&self, frame: &mut FrameGuard<'_, '_, P>) -> Wanted {
        if !frame.has(FrameFlags::RESET) {
            return Wanted::Unchanged;
        }
        frame.remove(FrameFlags::RESET);
        frame.insert(FrameFlags::MODIFIED);
        Wanted::Again
    }

    /// Releases the slot of a copy that is of no use, unless it is still being written.
    pub(crate) fn release_copy(&self, frame: &mut FrameGuard<'_, '_, P>) {
        if !frame.has(FrameFlags::WRITE_IN_PROGRESS) {
            self.release_original_slot(frame);
        }
    }
}
