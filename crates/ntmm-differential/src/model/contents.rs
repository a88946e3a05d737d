//! What pages hold: touches (nt-api 6), and contents that are given up or wanted back (3.4).
//!
//! A page that was given up may lose what it holds at any time, all at once, and nobody is told.
//! What follows from that is left open; what an answer shows is taken note of. Nothing else is
//! ever lost.

use std::ops::RangeInclusive;

use super::numbers::*;
use super::{Contents, Doubt, Failure, Kind, Model, Open, Placeholder, State, Stored, bytes_of};
use crate::call::{Answer, Touch, Written};

impl Model {
    /// MEM_RESET.
    pub(super) fn reset(&mut self, range: RangeInclusive<u64>) -> Result<Answer, u32> {
        self.check_resettable(&range)?;
        for (_, page) in self.pages.range_mut(range.clone()) {
            // 17 does not speak of resetting: what was written stays so, and for good, since the
            // page that knew it counts as clean.
            page.written_for_good = page.written;
            if page.contents == Contents::Held {
                page.contents = Contents::GivenUp;
            }
        }
        let (base, size) = bytes_of(&range);
        Ok(Answer::success(Written::Range(base, size)))
    }

    /// MEM_RESET_UNDO.
    pub(super) fn undo_reset(&mut self, range: RangeInclusive<u64>) -> Result<Answer, Failure> {
        self.check_resettable(&range)?;
        let has = |contents| {
            let is_committed = |page: &super::Page| page.state != State::Reserved;
            let mut pages = self.pages.range(range.clone()).map(|(_, page)| page);
            pages.any(|page| is_committed(page) && page.contents == contents)
        };
        // 3.4 does not tell a page that was never touched from one that has lost what it held.
        if has(Contents::Untouched) {
            return Err(UNSUCCESSFUL.into());
        }
        let (base, size) = bytes_of(&range);
        let success = Answer::success(Written::Range(base, size));
        if !has(Contents::GivenUp) {
            return Ok(success);
        }
        let answers = [success, Answer::status(UNSUCCESSFUL)];
        Err(Failure::Open(Box::new(Open { answers, doubt: Doubt::Contents(range) })))
    }

    /// 3.4 does not speak of windows and placeholders, in which nothing can be reset.
    fn check_resettable(&self, range: &RangeInclusive<u64>) -> Result<(), u32> {
        let is_ordinary = self.allocation(*range.start()).is_some_and(|allocation| {
            allocation.kind != Kind::AddressWindow && allocation.placeholder != Placeholder::Empty
        });
        if is_ordinary && self.lies_in_one(range) { Ok(()) } else { Err(CONFLICTING_ADDRESSES) }
    }

    /// All pages of `range` that are committed hold something, and keep it from now on.
    pub(super) fn keep(&mut self, range: &RangeInclusive<u64>) {
        for (_, page) in self.pages.range_mut(range.clone()) {
            if page.contents == Contents::GivenUp {
                page.contents = Contents::Held;
            }
        }
    }

    /// Pages leave memory. What was given up may be lost by that, as at any other time.
    pub(super) fn squeeze(&mut self) -> Answer {
        for page in self.pages.values_mut().filter(|page| page.locks == 0) {
            // 17 does not say that what was written stays so for good. It does where a protect
            // call has taken note of it, and the note that a page leaves behind is the same.
            page.written_for_good = page.written;
        }
        Answer::status(0)
    }

    /// Touches a byte. Reading tells what it is.
    pub(super) fn touch(&mut self, address: u64, how: Touch) -> Result<Answer, Failure> {
        let number = address / PAGE;
        let given_up =
            self.pages.get(&number).is_some_and(|page| page.contents == Contents::GivenUp);
        self.access(address, how)?;
        let stored = self.stores.get(&address).copied();
        let byte = |value| Answer::success(Written::Byte(value));
        match (how, stored) {
            (Touch::Write, _) => {
                if given_up {
                    self.doubt_stores(number);
                }
                self.stores.insert(address, Stored::Certainly);
                Ok(Answer::status(0))
            }
            (Touch::Read, Some(Stored::Certainly)) if !given_up => Ok(byte(1)),
            (Touch::Read, Some(_)) => {
                let answers = [byte(1), byte(0)];
                Err(Failure::Open(Box::new(Open { answers, doubt: Doubt::Store(address) })))
            }
            (Touch::Read, None) => {
                if given_up {
                    self.doubt_stores(number);
                }
                Ok(byte(0))
            }
        }
    }

    /// Touches a page. Raises what the program would see.
    pub(super) fn access(&mut self, address: u64, how: Touch) -> Result<(), u32> {
        if address > self.rules.highest_user_address() {
            return Err(ACCESS_VIOLATION);
        }
        let page = self.pages.get_mut(&(address / PAGE)).ok_or(ACCESS_VIOLATION)?;
        let State::Committed { protection } = page.state else {
            return Err(ACCESS_VIOLATION);
        };
        let allowed = match how {
            Touch::Read => is_readable(protection),
            Touch::Write => is_writable(protection),
        };
        // What the protection forbids in any case comes before the guard (nt-internals 4.5).
        if !allowed {
            return Err(ACCESS_VIOLATION);
        }
        if protection & GUARD != 0 {
            page.state = State::Committed { protection: protection & !GUARD };
            return Err(GUARD_PAGE_VIOLATION);
        }
        page.written |= how == Touch::Write;
        // A page that is only read stays given up.
        if how == Touch::Write || page.contents == Contents::Untouched {
            page.contents = Contents::Held;
        }
        Ok(())
    }

    /// The byte at `address` is gone. With a page that was given up all of it is gone, and it
    /// holds zeros from now on.
    pub(super) fn lose_store(&mut self, address: u64) {
        let number = address / PAGE;
        let stored = self.stores.remove(&address);
        if stored == Some(Stored::Certainly) {
            self.forget_stores(&(number..=number));
            self.keep(&(number..=number));
        }
    }

    /// Page `number`, which was given up, has been touched, and may hold zeros for that.
    pub(super) fn doubt_stores(&mut self, number: u64) {
        for (_, stored) in self.stores.range_mut(number * PAGE..(number + 1) * PAGE) {
            *stored = Stored::Perhaps;
        }
    }

    /// What was stored in pages of `range` is given back with them.
    pub(super) fn forget_stores(&mut self, range: &RangeInclusive<u64>) {
        let (base, size) = bytes_of(range);
        let gone: Vec<u64> =
            self.stores.range(base..base + size).map(|(address, _)| *address).collect();
        for address in gone {
            self.stores.remove(&address);
        }
    }
}
