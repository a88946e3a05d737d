//! Loads, stores and fetches.

use ntmm::status::NtStatus;

use super::page::{Page, State, Verdict};
use super::{Mismatch, Model, PAGE_BYTES, mismatch};
use crate::operation::Touch;

/// An access as it was made or attempted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub(crate) touch: Touch,
    /// Address.
    pub(crate) va: u64,
    /// The bytes stored, or those loaded when the load succeeded; for a fetch only their number
    /// counts.
    pub(crate) bytes: &'a [u8],
}

/// The part of an access in one page.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    page: u64,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Attempt<'a> {
    fn pieces(self) -> impl Iterator<Item = Piece<'a>> + Clone {
        let (page, offset) = (self.va / PAGE_BYTES, (self.va % PAGE_BYTES) as usize);
        let here = self.bytes.len().min(PAGE_BYTES as usize - offset);
        let (now, later) = self.bytes.split_at(here);
        let rest = (!later.is_empty()).then_some(Piece { page: page + 1, offset: 0, bytes: later });
        std::iter::once(Piece { page, offset, bytes: now }).chain(rest)
    }
}

impl Model {
    /// An access has ended: with success, or with the status raised in the thread.
    pub(crate) fn accessed(
        &mut self,
        process: u8,
        attempt: Attempt<'_>,
        outcome: Result<(), NtStatus>,
    ) -> Result<(), Mismatch> {
        match outcome {
            Ok(()) => self.succeeded(process, attempt),
            Err(NtStatus::ACCESS_VIOLATION) => self.denied(process, attempt),
            Err(NtStatus::GUARD_PAGE_VIOLATION) => self.alarmed(process, attempt),
            Err(status) => self.excuse(status, 0).map_err(|mismatch| Mismatch {
                detail: format!("{} ({:?} at {:#x})", mismatch.detail, attempt.touch, attempt.va),
                ..mismatch
            }),
        }
    }

    fn succeeded(&mut self, process: u8, attempt: Attempt<'_>) -> Result<(), Mismatch> {
        let fetches = self.fetches;
        let space = self.space(process);
        for piece in attempt.pieces() {
            let page = space.page(piece.page);
            let allowed = |version: &super::Version| {
                version.verdict(attempt.touch, fetches) == Verdict::Allowed
            };
            if !page.may(allowed) {
                return mismatch(
                    "access allowed",
                    format!("{:?} of {:#x}: {}", attempt.touch, attempt.va, describe(&page)),
                );
            }
            let holds = |version: &super::Version| {
                allowed(version)
                    && (attempt.touch != Touch::Load
                        || version.contents.difference(piece.offset, piece.bytes).is_none())
            };
            if !page.may(holds) {
                return wrong_data(attempt, piece, &page);
            }
            if !page.must(holds) {
                space.page_mut(piece.page).observe(holds);
            }
            if attempt.touch == Touch::Store {
                space.page_mut(piece.page).write(piece.offset, piece.bytes);
            }
        }
        Ok(())
    }

    fn denied(&mut self, process: u8, attempt: Attempt<'_>) -> Result<(), Mismatch> {
        let fetches = self.fetches;
        let space = self.space(process);
        let denied =
            |version: &super::Version| version.verdict(attempt.touch, fetches) == Verdict::Denied;
        let mut possible = attempt.pieces().filter(|piece| space.page(piece.page).may(denied));
        match (possible.next(), possible.next()) {
            (None, _) => {
                let pages: Vec<String> =
                    attempt.pieces().map(|piece| describe(&space.page(piece.page))).collect();
                mismatch(
                    "access violation",
                    format!("{:?} of {:#x}: {}", attempt.touch, attempt.va, pages.join("; ")),
                )
            }
            (Some(piece), None) => {
                if !space.page(piece.page).must(denied) {
                    space.page_mut(piece.page).observe(denied);
                }
                Ok(())
            }
            (Some(_), Some(_)) => Ok(()),
        }
    }

    fn alarmed(&mut self, process: u8, attempt: Attempt<'_>) -> Result<(), Mismatch> {
        let fetches = self.fetches;
        let space = self.space(process);
        let guarded =
            |version: &super::Version| version.verdict(attempt.touch, fetches) == Verdict::Alarm;
        let possible: Vec<u64> = attempt
            .pieces()
            .map(|piece| piece.page)
            .filter(|page| space.page(*page).may(guarded))
            .collect();
        match possible.as_slice() {
            [] => {
                let pages: Vec<String> =
                    attempt.pieces().map(|piece| describe(&space.page(piece.page))).collect();
                mismatch(
                    "guard violation",
                    format!("{:?} of {:#x}: {}", attempt.touch, attempt.va, pages.join("; ")),
                )
            }
            [page, ..] if possible.len() == 1 || space.page(*page).must(guarded) => {
                let page = space.page_mut(*page);
                page.observe(guarded);
                page.change(super::Version::opened);
                Ok(())
            }
            pages => {
                for page in pages {
                    space.page_mut(*page).perhaps(super::Version::opened);
                }
                Ok(())
            }
        }
    }
}

fn wrong_data(attempt: Attempt<'_>, piece: Piece<'_>, page: &Page) -> Result<(), Mismatch> {
    let differences: Vec<String> = page
        .versions()
        .filter_map(|version| version.contents.difference(piece.offset, piece.bytes))
        .map(|(at, expected)| {
            format!(
                "byte {:#x} is {:#04x} and must be {expected:#04x}",
                piece.page * PAGE_BYTES + (piece.offset + at) as u64,
                piece.bytes[at]
            )
        })
        .collect();
    mismatch("wrong data", format!("load of {:#x}: {}", attempt.va, differences.join(", or ")))
}

fn describe(page: &Page) -> String {
    let versions: Vec<String> = page
        .versions()
        .map(|version| match version.state {
            State::Free => "free".to_owned(),
            State::Reserved => "reserved".to_owned(),
            State::Committed(rights) => format!("committed {rights}"),
        })
        .collect();
    format!("the page is {}", versions.join(" or "))
}
