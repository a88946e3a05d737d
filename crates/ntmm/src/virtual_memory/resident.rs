//! Which pages are in memory (NtQueryVirtualMemory with MemoryWorkingSetInformation and
//! MemoryWorkingSetExInformation; API 7.3, 7.4).
//!
//! Both look at a stretch of pages under one hold of the working-set lock and let go of it in
//! between, so that what they tell of a busy space is true page by page, not as a whole. Neither
//! brings anything into memory.

use ntmm_pte::{Level, PagingMode, Protection, PteWord, Va, Vpn};

use crate::address_space::AddressSpaceId;
use crate::frames::FrameUse;
use crate::manager::Manager;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::tables::{PageSize, Walk};
use crate::working_set::WorkingSetGuard;

/// Pages or entries looked at under one hold of the lock.
const STRETCH: usize = 64;

/// A page that is in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResidentPage {
    /// The page.
    pub page: Vpn,
    /// Its protection.
    pub protection: Protection,
    /// Whether it is locked.
    pub residency: Residency,
    /// Whether it is part of a large page.
    pub size: PageSize,
    /// Whose it is.
    pub sharing: Sharing,
}

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Its process's alone.
    Private,
    /// A section's, mapped so many times.
    Shared(u32),
}

/// Whether a page may leave the working set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residency {
    /// It may leave.
    Pageable,
    /// It stays.
    Locked,
}

/// Receives what these calls find.
pub trait PageSink {
    /// A page of the working set, in no particular order.
    fn resident(&mut self, page: ResidentPage);
}

/// Hands every page of a program that is in its working set to a sink. Yields the sink.
#[derive(Debug)]
#[must_use]
pub struct ListWorkingSet<S> {
    space: AddressSpaceId,
    next: u32,
    sink: Option<S>,
}

impl<S: PageSink> ListWorkingSet<S> {
    /// Lists the working set of `space`.
    pub const fn new(space: AddressSpaceId, sink: S) -> Self {
        Self { space, next: 0, sink: Some(sink) }
    }
}

impl<P: Platform> WorkingSetGuard<'_, '_, P> {
    /// The page at `va`, if it is in memory.
    fn resident_page(&self, va: Va) -> Option<ResidentPage> {
        let manager = self.manager();
        if !P::Paging::is_user(va) {
            return None;
        }
        let (entry, size) = match manager.walk(self.root(), va, Level::Table) {
            Walk::Found(entry) => (entry, PageSize::Small),
            Walk::Large(entry) => (entry, PageSize::Large),
            Walk::Missing { .. } => return None,
        };
        let word = manager.load_entry(entry);
        if !P::Paging::is_valid(word) {
            return None;
        }
        let page = va.vpn();
        if size == PageSize::Large {
            let frame = manager.entry(P::Paging::frame_in_large_page(word, va));
            let protection = P::Paging::software_protection(frame.original());
            let (residency, sharing) = (Residency::Locked, Sharing::Private);
            return Some(ResidentPage { page, protection, residency, size, sharing });
        }
        let frame = manager.entry(P::Paging::valid_pfn(word));
        if frame.state().usage() == FrameUse::UserPhysical {
            let (protection, residency) = (Protection::READWRITE, Residency::Locked);
            let sharing = Sharing::Private;
            return Some(ResidentPage { page, protection, residency, size, sharing });
        }
        let (protection, sharing) = if frame.state().usage() == FrameUse::Section {
            (self.protection_of_shared(page, frame.u1()), Sharing::Shared(frame.share()))
        } else {
            (P::Paging::software_protection(frame.original()), Sharing::Private)
        };
        let locked = self.locate(va, frame.u1()).is_some_and(|index| self.entry(index).is_locked());
        Some(ResidentPage {
            page,
            protection,
            residency: if locked { Residency::Locked } else { Residency::Pageable },
            size,
            sharing,
        })
    }
}

impl<S: PageSink, P: Platform> Operation<P> for ListWorkingSet<S> {
    type Output = Option<S>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Option<S>> {
        let Some(sink) = &mut self.sink else { return Step::Done(None) };
        loop {
            let mut entry = manager.enter();
            let set = match manager.lock_live_space(entry.token(), self.space) {
                Ok(set) => set,
                Err(status) => return Step::Raise(status),
            };
            let last = set.header().last_entry();
            for _ in 0..STRETCH {
                if self.next > last {
                    return Step::Done(self.sink.take());
                }
                let entry = set.entry(self.next);
                self.next += 1;
                if entry.is_valid()
                    && let Some(page) = set.resident_page(P::Paging::va_of_vpn(entry.page()))
                {
                    sink.resident(page);
                }
            }
        }
    }

    fn abandon(self, _manager: &Manager<P>) {}
}

/// Addresses to ask about, with room for the answers.
pub trait PageQuestions {
    /// The address of question `number`; none when there are no more.
    fn address(&self, number: usize) -> Option<Va>;

    /// Takes the answer to question `number`: the page, when it is in memory.
    fn answer(&mut self, number: usize, page: Option<ResidentPage>);
}

/// Says of each of a number of addresses whether its page is in memory. Yields the questions.
#[derive(Debug)]
#[must_use]
pub struct QueryPages<Q> {
    space: AddressSpaceId,
    next: usize,
    questions: Option<Q>,
}

impl<Q: PageQuestions> QueryPages<Q> {
    /// Asks about pages of `space`.
    pub const fn new(space: AddressSpaceId, questions: Q) -> Self {
        Self { space, next: 0, questions: Some(questions) }
    }
}

impl<Q: PageQuestions, P: Platform> Operation<P> for QueryPages<Q> {
    type Output = Option<Q>;

    fn step(&mut self, manager: &Manager<P>) -> Step<Option<Q>> {
        let Some(questions) = &mut self.questions else { return Step::Done(None) };
        loop {
            let mut entry = manager.enter();
            let set = match manager.lock_live_space(entry.token(), self.space) {
                Ok(set) => set,
                Err(status) => return Step::Raise(status),
            };
            for _ in 0..STRETCH {
                let Some(va) = questions.address(self.next) else {
                    return Step::Done(self.questions.take());
                };
                questions.answer(self.next, set.resident_page(va));
                self.next += 1;
            }
        }
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
