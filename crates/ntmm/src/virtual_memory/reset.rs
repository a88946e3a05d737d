//! Contents that are no longer wanted (MEM_RESET of NtAllocateVirtualMemory, spec 7.4; API 3.4).
//!
//! The pages of the range stay committed, with their protection and their charge, and what they
//! hold need not be kept. A page in memory counts as unmodified from then on though there is no
//! copy of it: the modified-page writer passes it over, it holds its contents as long as it holds
//! its frame, and when the frame is taken for something else the page is one that was never
//! touched. A page in a paging file becomes such a page at once, and so does one that is just
//! being read. The first store after the reset makes an ordinary modified page of what is there.
//!
//! That store has to be seen. So the dirty bit is taken out of a valid entry, and the call ends
//! when every processor has forgotten what could let it store without setting the bit again, be
//! it by this call or by another that has not been acknowledged yet.
//!
//! A reset can be undone (MEM_RESET_UNDO): pages that still hold something are kept again, and
//! the call succeeds when all committed pages of the range do. A page that has never been touched
//! counts as one whose contents are lost, for nothing tells the two apart.
//!
//! The marks of a write watch stay: a reset writes nothing, and what was written before it was
//! written.

use ntmm_pte::{Bytes, PagingMode, PteWord, Va, Vpn};

use super::allocate::{Region, is_committed};
use super::delete::Remains;
use super::protect::{page_protection, page_range};
use super::range::{MissingTables, RangeWalk, Visited, Visitor};
use super::{Call, Stages};
use crate::address_space::AddressSpaceId;
use crate::fault::Blocked;
use crate::flush::FlushBatch;
use crate::frames::entry::FrameFlags;
use crate::frames::lists::Position;
use crate::frames::{FrameGuard, PageLocation};
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::tables::EntryRef;
use crate::vad::{Placeholder, Vad, VadKind};
use crate::working_set::WorkingSetGuard;

/// The call. Yields the range in whole pages.
#[derive(Debug)]
#[must_use]
pub struct Reset {
    call: Call,
    base: Va,
    size: Bytes,
    direction: Direction,
    walk: Option<(RangeWalk, Vad)>,
    /// Whether all pages that an undoing has come by still hold something.
    all: Kept,
}

impl Reset {
    /// Gives up what the pages hold that `size` bytes at `base` touch.
    ///
    /// Raises [`NtStatus::CONFLICTING_ADDRESSES`] unless they lie in one allocation of private
    /// memory or in one view.
    pub const fn new(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        Self::with(space, base, size, Direction::Forget)
    }

    /// Wants back what a reset of these pages has given up.
    ///
    /// Raises as [`new`](Self::new) does, and [`NtStatus::UNSUCCESSFUL`] when a page has lost what
    /// it held; the others are kept all the same.
    pub const fn undoing(space: AddressSpaceId, base: Va, size: Bytes) -> Self {
        Self::with(space, base, size, Direction::Undo)
    }

    const fn with(space: AddressSpaceId, base: Va, size: Bytes, direction: Direction) -> Self {
        Self { call: Call::new(space), base, size, direction, walk: None, all: Kept::Yes }
    }

    fn range<M: PagingMode>(&self) -> Result<(Vpn, Vpn), NtStatus> {
        page_range::<M>(self.base, self.size).ok_or(NtStatus::INVALID_PARAMETER_4)
    }
}

/// What is to become of the contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Forget,
    Undo,
}

/// Whether memory of this kind can be reset; in a view that has no effect.
fn can_be_reset(vad: &Vad) -> bool {
    let kind =
        matches!(vad.attributes.kind, VadKind::Private | VadKind::WriteWatch | VadKind::View);
    kind && vad.attributes.placeholder != Placeholder::Empty
}

/// Gives up the contents of pages.
struct Forget {
    vad: Vad,
}

impl<P: Platform> Visitor<P> for Forget {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let Visited::Entry { entry, word, page } = visited else { return Ok(()) };
        if !is_committed::<P>(&self.vad, word) {
            return Ok(());
        }
        let va = P::Paging::va_of_vpn(page);
        let kept = match Residence::of::<P>(word) {
            Residence::Mapped => forget_mapped(set, batch, (entry, word), va),
            Residence::Trimmed => forget_trimmed(set, batch, (entry, word), va)?,
            Residence::PagingFile => Kept::No,
            Residence::Nowhere => return Ok(()),
        };
        if kept == Kept::No {
            let protection = page_protection(set, &self.vad, page, word);
            set.delete_page(batch, (entry, word), va, Remains::Untouched(protection))?;
        }
        Ok(())
    }
}

/// Where the contents of a page are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Residence {
    /// In memory, and its entry is valid.
    Mapped,
    /// In memory, or on the way there.
    Trimmed,
    PagingFile,
    /// It has never been touched, or its contents are lost.
    Nowhere,
}

impl Residence {
    fn of<P: Platform>(word: u64) -> Self {
        if P::Paging::is_valid(word) {
            Self::Mapped
        } else if P::Paging::is_transition(word) {
            Self::Trimmed
        } else if P::Paging::is_page_file(word) {
            Self::PagingFile
        } else {
            Self::Nowhere
        }
    }
}

/// Whether a page still holds what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

/// Gives up the contents of the page at `va`, whose entry is valid.
fn forget_mapped<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    (entry, word): (EntryRef, u64),
    va: Va,
) -> Kept {
    let manager = set.manager();
    let mut frame = manager.lock_frame(set.token(), P::Paging::valid_pfn(word));
    let mut seen = word;
    while let Err(actual) = manager.exchange_entry(entry, seen, P::Paging::clear_dirty(seen)) {
        // Only the hardware can have changed it: an accessed or dirty bit.
        seen = actual;
    }
    let wanted = manager.reset_contents(&mut frame);
    drop(frame);
    set.count_wanted(wanted);
    set.capture_write(va, seen);
    // Even if the bit was clear: the flush after it was cleared may not be acknowledged.
    batch.push_page(va);
    Kept::Yes
}

/// Gives up the contents of the page at `va`, whose entry is in transition. It keeps them, unless
/// they are only being read.
fn forget_trimmed<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    batch: &mut FlushBatch<'_, P>,
    (entry, word): (EntryRef, u64),
    va: Va,
) -> Result<Kept, Blocked> {
    let manager = set.manager();
    let Some(mut frame) = lock_trimmed(set, entry, word)? else { return Ok(Kept::No) };
    let wanted = manager.reset_contents(&mut frame);
    match frame.location() {
        PageLocation::Modified | PageLocation::ModifiedNoWrite => {
            manager.unlink_modified(&mut frame);
            frame.entry().set_u1_and_share(0, 0);
            manager.make_standby(&mut frame);
        }
        // Like any other page that is reset, it is the first to go.
        PageLocation::Standby => manager.put_first_on_standby(&mut frame),
        // A processor may still reach it until the flush is acknowledged that took it out.
        _ => batch.push_page(va),
    }
    drop(frame);
    set.count_wanted(wanted);
    Ok(Kept::Yes)
}

/// Locks the frame that a transition entry names, when it has contents: none while they are being
/// read, or could not be.
fn lock_trimmed<'m, 't, P: Platform>(
    set: &'t mut WorkingSetGuard<'m, '_, P>,
    entry: EntryRef,
    word: u64,
) -> Result<Option<FrameGuard<'m, 't, P>>, Blocked> {
    let manager = set.manager();
    let frame = manager.lock_frame(set.token(), P::Paging::transition_pfn(word));
    if manager.load_entry(entry) != word {
        return Err(Blocked::Restart);
    }
    let absent = FrameFlags::READ_IN_PROGRESS.union(FrameFlags::IN_PAGE_ERROR);
    Ok((!frame.state().flags().intersects(absent)).then_some(frame))
}

/// Keeps what pages still hold, and looks for those that have lost it.
struct Keep {
    vad: Vad,
    all: Kept,
}

impl<P: Platform> Visitor<P> for Keep {
    fn visit(
        &mut self,
        set: &mut WorkingSetGuard<'_, '_, P>,
        _batch: &mut FlushBatch<'_, P>,
        visited: Visited,
    ) -> Result<(), Blocked> {
        let (entry, word) = match visited {
            Visited::Entry { entry, word, .. } => (entry, word),
            Visited::Nothing { .. } => {
                if is_committed::<P>(&self.vad, 0) {
                    self.all = Kept::No;
                }
                return Ok(());
            }
        };
        if !is_committed::<P>(&self.vad, word) {
            return Ok(());
        }
        match Residence::of::<P>(word) {
            Residence::Mapped => {
                let manager = set.manager();
                let mut frame = manager.lock_frame(set.token(), P::Paging::valid_pfn(word));
                let wanted = manager.want_contents(&mut frame);
                drop(frame);
                set.count_wanted(wanted);
            }
            Residence::Trimmed => keep_trimmed(set, entry, word)?,
            Residence::PagingFile => {}
            Residence::Nowhere => self.all = Kept::No,
        }
        Ok(())
    }
}

/// Keeps the contents of a page whose entry is in transition.
fn keep_trimmed<P: Platform>(
    set: &mut WorkingSetGuard<'_, '_, P>,
    entry: EntryRef,
    word: u64,
) -> Result<(), Blocked> {
    let manager = set.manager();
    let Some(mut frame) = lock_trimmed(set, entry, word)? else { return Ok(()) };
    let leaves_standby = frame.has(FrameFlags::RESET) && frame.location() == PageLocation::Standby;
    let reservation = if leaves_standby { Some(manager.reserve_pages(1)?) } else { None };
    let wanted = manager.want_contents(&mut frame);
    if let Some(mut reservation) = reservation {
        manager.unlink_standby(&mut frame, &mut reservation);
        frame.entry().set_u1_and_share(0, 0);
        manager.insert_on_list(&mut frame, PageLocation::Modified, Position::Tail);
    }
    drop(frame);
    set.count_wanted(wanted);
    Ok(())
}

impl<P: Platform> Stages<P> for Reset {
    type Output = Region;

    fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    fn check_parameters(&self) -> Result<(), NtStatus> {
        self.range::<P::Paging>().map(|_| ())
    }

    fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }

    fn proceed(&mut self, set: &mut WorkingSetGuard<'_, '_, P>) -> Result<Region, Blocked> {
        let (start, end) = self.range::<P::Paging>()?;
        let inside = |vad: &Vad| vad.end >= end && can_be_reset(vad);
        let (walk, vad) = match &mut self.walk {
            Some(walk) => walk,
            none => {
                let vad =
                    set.find_vad(start).filter(inside).ok_or(NtStatus::CONFLICTING_ADDRESSES)?;
                none.insert((RangeWalk::new(start, end), vad))
            }
        };
        if vad.attributes.kind != VadKind::View {
            let (vad, pending, missing) = (*vad, &mut self.call.pending, MissingTables::Skip);
            match self.direction {
                Direction::Forget => {
                    set.walk_stretch(pending, walk, missing, &mut Forget { vad })?;
                }
                Direction::Undo => {
                    let mut keep = Keep { vad, all: self.all };
                    let outcome = set.walk_stretch(pending, walk, missing, &mut keep);
                    self.all = keep.all;
                    outcome?;
                }
            }
        }
        match self.all {
            Kept::Yes => Ok(Region::of_pages::<P::Paging>(start, end)),
            Kept::No => Err(NtStatus::UNSUCCESSFUL.into()),
        }
    }
}

impl<P: Platform> Operation<P> for Reset {
    type Output = Region;

    fn step(&mut self, manager: &Manager<P>) -> Step<Region> {
        self.step_stages(manager)
    }

    fn abandon(mut self, manager: &Manager<P>) {
        self.end(manager);
    }
}
