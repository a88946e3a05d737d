//! Calls on virtual memory.

use ntmm::status::NtStatus;

use super::page::{State, Version};
use super::{Allocation, Mismatch, Model, Range, Space, mismatch};
use crate::operation::{Backing, Place};
use crate::rights::Rights;

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A new allocation; `range` says where unless the manager chooses.
    Allocate {
        range: Range,
        place: Place,
        rights: Rights,
        backing: Backing,
    },
    Commit {
        range: Range,
        rights: Rights,
    },
    /// No pages: the whole allocation.
    Decommit {
        range: Range,
    },
    Reset {
        range: Range,
    },
    UndoReset {
        range: Range,
    },
    /// No pages: the whole allocation.
    Release {
        range: Range,
    },
    Protect {
        range: Range,
        rights: Rights,
    },
    Query {
        page: u64,
    },
}

impl Call {
    /// Pages it may come to charge.
    pub(super) const fn charge(&self) -> u64 {
        match self {
            Self::Allocate { range, backing: Backing::Committed, .. }
            | Self::Commit { range, .. } => range.pages,
            _ => 0,
        }
    }
}

/// What a call yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A range.
    Range(Range),
    /// A range and the protection of its first page before.
    Protected(Range, Option<Rights>),
    /// What is at a page.
    Information(Information),
}

/// What a query yielded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Information {
    /// The region from the page on.
    pub(crate) range: Range,
    /// What its pages are; [`State::Committed`] with the rights reported.
    pub(crate) state: State,
    /// First page of the allocation and the protection it was made with.
    pub(crate) allocation: Option<(u64, Rights)>,
}

/// What is left of a range's predictability after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Aftermath {
    /// It is as predictable as before.
    Known,
    /// Nothing is predicted there any more: a release stopped half-way.
    Lost,
}

impl Model {
    /// A call begins; `caller` tells calls under way apart.
    pub(crate) fn begins(&mut self, process: u8, caller: u32, call: Call) {
        self.space(process).under_way.insert(caller, call);
    }

    /// A call that nothing is predicted of is no longer under way.
    pub(crate) fn forgets(&mut self, process: u8, caller: u32) {
        self.space(process).under_way.remove(&caller);
    }

    /// A call has ended.
    pub(crate) fn ended(
        &mut self,
        process: u8,
        caller: u32,
        call: Call,
        outcome: Result<Answer, NtStatus>,
    ) -> Result<Aftermath, Mismatch> {
        let space = self.space(process);
        space.under_way.remove(&caller);
        let judged = match (space.expectation(call), outcome) {
            (Err(wanted), Err(status)) if wanted == status => Ok(Aftermath::Known),
            (Err(wanted), Err(status)) => {
                mismatch("status", format!("{status} where {wanted} is due"))
            }
            (Err(wanted), Ok(answer)) => {
                mismatch("status", format!("success ({answer:x?}) where {wanted} is due"))
            }
            (Ok(range), Err(status)) => self.failed(process, call, range, status),
            (Ok(range), Ok(answer)) => {
                space.took_effect(call, range, answer).map(|()| Aftermath::Known)
            }
        };
        judged.map_err(|mismatch| Mismatch {
            detail: format!("{} ({call:x?} of process {process})", mismatch.detail),
            ..mismatch
        })
    }

    /// A call was abandoned in the middle.
    pub(crate) fn abandoned(&mut self, process: u8, caller: u32, call: Call) -> Aftermath {
        let space = self.space(process);
        space.under_way.remove(&caller);
        match space.expectation(call) {
            Ok(range) => space.may_have_happened(call, range),
            Err(_) => Aftermath::Known,
        }
    }

    /// A call that is good has failed.
    fn failed(
        &mut self,
        process: u8,
        call: Call,
        range: Range,
        status: NtStatus,
    ) -> Result<Aftermath, Mismatch> {
        if let (Call::Protect { .. }, NtStatus::NOT_COMMITTED) = (call, status) {
            let space = self.space(process);
            let uncommitted =
                range.iter().any(|page| space.page(page).may(|version| !version.is_committed()));
            if uncommitted {
                return Ok(Aftermath::Known);
            }
            return mismatch("status", "NOT_COMMITTED where every page is committed".to_owned());
        }
        if let (Call::UndoReset { .. }, NtStatus::UNSUCCESSFUL) = (call, status) {
            let space = self.space(process);
            let nothing =
                |version: &Version| version.is_committed() && version.contents.may_be_nothing();
            if range.iter().any(|page| space.page(page).may(nothing)) {
                // What has survived is kept all the same.
                space.change(call, range);
                return Ok(Aftermath::Known);
            }
            return mismatch("status", "UNSUCCESSFUL where nothing can be lost".to_owned());
        }
        let tables = super::TABLES_CHARGE + range.pages / 512;
        self.excuse(status, call.charge() + tables)?;
        // Charges come first: nothing has happened when they are refused.
        if status == NtStatus::COMMITMENT_LIMIT {
            return Ok(Aftermath::Known);
        }
        Ok(self.space(process).may_have_happened(call, range))
    }
}

/// Whether an answer's range is the one that is due.
fn check_range(found: Range, due: Range) -> Result<(), Mismatch> {
    if found == due {
        return Ok(());
    }
    mismatch("answer", format!("the range is {found:x?} where {due:x?} is due"))
}

impl Space {
    /// The pages a call concerns if it is good, or the status it must fail with.
    fn expectation(&self, call: Call) -> Result<Range, NtStatus> {
        match call {
            Call::Allocate { range, .. } if range.pages == 0 => Err(NtStatus::INVALID_PARAMETER_4),
            Call::Allocate { range, place: Place::Slot, .. } if self.overlap(range).is_some() => {
                Err(NtStatus::CONFLICTING_ADDRESSES)
            }
            Call::Allocate { range, .. } => Ok(range),
            Call::Query { page } => Ok(Range { first: page, pages: 1 }),
            Call::Commit { range, .. } | Call::Reset { range } | Call::UndoReset { range } => {
                self.named(range, NtStatus::INVALID_PARAMETER_4)
            }
            Call::Protect { range, .. } => self.named(range, NtStatus::INVALID_PARAMETER_3),
            Call::Decommit { range } | Call::Release { range } => self.freed(range),
        }
    }

    /// The pages that a commit, reset or protect call names.
    fn named(&self, range: Range, no_pages: NtStatus) -> Result<Range, NtStatus> {
        if range.pages == 0 {
            return Err(no_pages);
        }
        match self.allocation_at(range.first) {
            Some((_, allocation)) if range.end() <= allocation.end => Ok(range),
            _ => Err(NtStatus::CONFLICTING_ADDRESSES),
        }
    }

    /// The pages that a free call names.
    fn freed(&self, range: Range) -> Result<Range, NtStatus> {
        let (first, allocation) =
            self.allocation_at(range.first).ok_or(NtStatus::MEMORY_NOT_ALLOCATED)?;
        if range.pages == 0 {
            if range.first != first {
                return Err(NtStatus::FREE_VM_NOT_AT_BASE);
            }
            return Ok(Range { first, pages: allocation.end - first });
        }
        if range.end() > allocation.end {
            return Err(NtStatus::UNABLE_TO_FREE_VM);
        }
        Ok(range)
    }

    /// A call on `range` stopped somewhere: each page is as before or as after.
    fn may_have_happened(&mut self, call: Call, range: Range) -> Aftermath {
        if let Call::Release { .. } = call {
            self.give_up(range);
            return Aftermath::Lost;
        }
        if let Some(effect) = effect_of(call) {
            range.iter().for_each(|page| self.page_mut(page).perhaps(&effect));
        }
        Aftermath::Known
    }

    /// A call on `range` has succeeded.
    fn took_effect(&mut self, call: Call, range: Range, answer: Answer) -> Result<(), Mismatch> {
        match (call, answer) {
            (Call::Allocate { place, rights, backing, .. }, Answer::Range(found)) => {
                match place {
                    Place::Slot => check_range(found, range)?,
                    Place::Lowest | Place::Highest => self.check_hole(found, range.pages)?,
                }
                self.forget_pages(found);
                let allocation = Allocation { end: found.end(), rights, backing };
                self.allocations.insert(found.first, allocation);
                Ok(())
            }
            (
                Call::Commit { .. }
                | Call::Decommit { .. }
                | Call::Reset { .. }
                | Call::UndoReset { .. },
                Answer::Range(found),
            ) => {
                check_range(found, range)?;
                self.change(call, range);
                Ok(())
            }
            (Call::Release { .. }, Answer::Range(found)) => {
                check_range(found, range)?;
                self.release(range);
                Ok(())
            }
            (Call::Protect { .. }, Answer::Protected(found, old)) => {
                check_range(found, range)?;
                self.check_old_rights(range, old)?;
                self.change(call, range);
                Ok(())
            }
            (Call::Query { page }, Answer::Information(information)) => {
                self.check_information(page, information)
            }
            _ => mismatch("answer", format!("{answer:x?} is no answer")),
        }
    }

    fn change(&mut self, call: Call, range: Range) {
        if let Some(effect) = effect_of(call) {
            range.iter().for_each(|page| self.page_mut(page).change(&effect));
        }
    }

    /// Whether a range the manager chose was free.
    fn check_hole(&self, found: Range, pages: u64) -> Result<(), Mismatch> {
        if found.pages != pages || !found.first.is_multiple_of(GRANULARITY) || found.first == 0 {
            return mismatch("answer", format!("{found:x?} was chosen for {pages} pages"));
        }
        let in_the_way = self.overlap(found).filter(|there| {
            !self.under_way.values().any(|call| {
                matches!(call, Call::Release { range } if there.first <= range.first
                    && range.first < there.end())
            })
        });
        match in_the_way {
            None => Ok(()),
            Some(there) => {
                mismatch("answer", format!("{found:x?} was chosen, but there is {there:x?}"))
            }
        }
    }

    fn check_old_rights(&mut self, range: Range, old: Option<Rights>) -> Result<(), Mismatch> {
        for page in range.iter() {
            if !self.page(page).may(Version::is_committed) {
                return mismatch("status", format!("page {page:#x} is not committed"));
            }
            self.page_mut(page).observe(Version::is_committed);
        }
        let was = |version: &Version| old.map(State::Committed) == Some(version.state);
        if self.page(range.first).may(was) {
            self.page_mut(range.first).observe(was);
            return Ok(());
        }
        mismatch(
            "answer",
            format!("the old protection is {old:?}, not {:?}", self.page(range.first).state()),
        )
    }

    /// Pages of an allocation become free; what is left of it are allocations of their own.
    fn release(&mut self, range: Range) {
        let Some((first, allocation)) = self.allocation_at(range.first) else { return };
        self.forget_pages(range);
        if first < range.first {
            self.allocations.insert(first, Allocation { end: range.first, ..allocation });
        } else {
            self.allocations.remove(&first);
        }
        if range.end() < allocation.end {
            self.allocations.insert(range.end(), allocation);
        }
    }

    fn check_information(&mut self, page: u64, found: Information) -> Result<(), Mismatch> {
        let fits = |version: &Version| version.state == found.state;
        let allocation = self.allocation_at(page);
        let allocated = allocation.map(|(first, allocation)| (first, allocation.rights));
        if !self.page(page).may(fits) || allocated != found.allocation || found.range.first != page
        {
            return mismatch(
                "answer",
                format!("{found:x?} where {:?} of {allocated:x?} is due", self.page(page)),
            );
        }
        if !self.page(page).must(fits) {
            self.page_mut(page).observe(fits);
        }
        let Some((_, allocation)) = allocation else { return Ok(()) };
        let mut end = page + 1;
        while end < allocation.end {
            match self.page(end).state() {
                Some(state) if state == found.state => end += 1,
                Some(_) => break,
                None => return Ok(()),
            }
        }
        check_range(found.range, Range { first: page, pages: end - page })
    }
}

/// A change of one version of a page.
type Effect = Box<dyn Fn(&Version) -> Version>;

/// What a call does to each page of its range.
fn effect_of(call: Call) -> Option<Effect> {
    match call {
        Call::Commit { rights, .. } => Some(Box::new(move |version| version.committed(rights))),
        Call::Protect { rights, .. } => Some(Box::new(move |version| match version.state {
            State::Committed(_) => version.committed(rights),
            State::Free | State::Reserved => version.clone(),
        })),
        Call::Decommit { .. } => Some(Box::new(|_| Version::blank(State::Reserved))),
        Call::Reset { .. } => Some(Box::new(Version::reset)),
        Call::UndoReset { .. } => Some(Box::new(Version::kept)),
        Call::Allocate { .. } | Call::Release { .. } | Call::Query { .. } => None,
    }
}

/// Pages between two places where an allocation may begin.
const GRANULARITY: u64 = 16;
