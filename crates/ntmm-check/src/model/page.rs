//! What may be known of one page.

use crate::operation::Touch;
use crate::rights::FetchCheck;
use crate::rights::{Guard, Rights};

use super::PAGE_BYTES;

/// State of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In no allocation.
    Free,
    /// Allocated only.
    Reserved,
    /// Committed.
    Committed(Rights),
}

/// What an access to a page comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Allowed,
    /// Access violation.
    Denied,
    /// Guard-page violation; the guard goes.
    Alarm,
}

/// The bytes of a page; none is all zeroes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(Option<Box<[u8]>>);

impl Contents {
    /// The first place at which the page does not hold these bytes, and what it holds there.
    pub(crate) fn difference(&self, offset: usize, bytes: &[u8]) -> Option<(usize, u8)> {
        match &self.0 {
            None => bytes.iter().position(|byte| *byte != 0).map(|at| (at, 0)),
            Some(page) => {
                let held = &page[offset..offset + bytes.len()];
                if held == bytes {
                    return None;
                }
                held.iter().zip(bytes).position(|(a, b)| a != b).map(|at| (at, held[at]))
            }
        }
    }

    /// Whether the page may be one that was never written.
    pub(crate) const fn may_be_nothing(&self) -> bool {
        self.0.is_none()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let page = self.0.get_or_insert_with(|| vec![0; PAGE_BYTES as usize].into());
        page[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// Whether contents last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lasting {
    /// Until the page is decommitted.
    Yes,
    /// They have been reset: at any time the page may come to hold zeroes, all of it, until it is
    /// next written.
    No,
}

/// One possible truth of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) state: State,
    pub(crate) contents: Contents,
    lasting: Lasting,
}

impl Version {
    /// A page without contents.
    pub(crate) const fn blank(state: State) -> Self {
        Self { state, contents: Contents(None), lasting: Lasting::Yes }
    }

    pub(crate) const fn is_committed(&self) -> bool {
        matches!(self.state, State::Committed(_))
    }

    /// What an access comes to.
    pub(crate) const fn verdict(&self, touch: Touch, fetches: FetchCheck) -> Verdict {
        match self.state {
            State::Free | State::Reserved => Verdict::Denied,
            State::Committed(rights) if !rights.permit(touch, fetches) => Verdict::Denied,
            State::Committed(rights) => match rights.guard {
                Guard::Off => Verdict::Allowed,
                Guard::Pending => Verdict::Alarm,
            },
        }
    }

    /// The same page with these rights, committed if it was not.
    pub(crate) fn committed(&self, rights: Rights) -> Self {
        Self { state: State::Committed(rights), ..self.clone() }
    }

    /// The same page with contents that may be lost at any time. Nothing cannot be lost.
    pub(crate) fn reset(&self) -> Self {
        if self.contents.may_be_nothing() {
            return self.clone();
        }
        Self { lasting: Lasting::No, ..self.clone() }
    }

    /// The same page with contents that last.
    pub(crate) fn kept(&self) -> Self {
        Self { lasting: Lasting::Yes, ..self.clone() }
    }

    /// The same page without a guard.
    pub(crate) fn opened(&self) -> Self {
        match self.state {
            State::Committed(rights) => self.committed(rights.opened()),
            State::Free | State::Reserved => self.clone(),
        }
    }
}

/// What may be known of a page: its possible versions, at least one. With a version whose contents
/// do not last there is always the one that has lost them.
#[derive(Clone, Debug)]
pub(crate) struct Page(Vec<Version>);

impl Page {
    pub(crate) fn certain(version: Version) -> Self {
        Self(vec![version])
    }

    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.0.iter()
    }

    /// The state, when there is one only.
    pub(crate) fn state(&self) -> Option<State> {
        let first = self.0[0].state;
        self.0.iter().all(|version| version.state == first).then_some(first)
    }

    pub(crate) fn may(&self, holds: impl Fn(&Version) -> bool) -> bool {
        self.0.iter().any(holds)
    }

    pub(crate) fn must(&self, holds: impl Fn(&Version) -> bool) -> bool {
        self.0.iter().all(holds)
    }

    /// Rules out the versions that do not fit what was observed, if some do.
    pub(crate) fn observe(&mut self, fits: impl Fn(&Version) -> bool) {
        if self.may(&fits) {
            self.0.retain(fits);
            self.admit_losses();
        }
    }

    /// Every version changes.
    pub(crate) fn change(&mut self, change: impl Fn(&Version) -> Version) {
        let changed: Vec<Version> = self.0.iter().map(change).collect();
        self.0.clear();
        changed.into_iter().for_each(|version| self.add(version));
        self.admit_losses();
    }

    /// Every version may have changed.
    pub(crate) fn perhaps(&mut self, change: impl Fn(&Version) -> Version) {
        let changed: Vec<Version> = self.0.iter().map(change).collect();
        changed.into_iter().for_each(|version| self.add(version));
        self.admit_losses();
    }

    /// Stores bytes in every version; all of them last from now on.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        for version in &mut self.0 {
            version.contents.write(offset, bytes);
            version.lasting = Lasting::Yes;
        }
    }

    /// What does not last may be lost.
    fn admit_losses(&mut self) {
        let fleeting = |version: &&Version| version.lasting == Lasting::No;
        let lost: Vec<Version> =
            self.0.iter().filter(fleeting).map(|version| Version::blank(version.state)).collect();
        lost.into_iter().for_each(|version| self.add(version));
    }

    fn add(&mut self, version: Version) {
        if !self.0.contains(&version) {
            self.0.push(version);
        }
    }
}
