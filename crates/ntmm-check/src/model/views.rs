//! Sections and views of them.
//!
//! A section has its bytes once, whoever looks at them; a page of a view that is copied when it is
//! written has bytes of its own from the first store on. Each view belongs to one thread, which
//! alone maps, touches and unmaps it. Many threads write to one section at once, each to a lane
//! of every page that is nobody else's: there everything is predicted. What a copy has in the lanes
//! of others depends on the moment it was made, and is predicted when that thread was alone.

use std::collections::BTreeMap;

use ntmm::status::NtStatus;

use super::accesses::Attempt;
use super::{Mismatch, Model, PAGE_BYTES, Range, Space, TABLES_CHARGE, mismatch};
use crate::operation::{Company, Showing, Touch};

/// Bytes of a lane.
pub(crate) const LANE_BYTES: u64 = 64;

/// Pages that a section may come to charge beside its own and those of its prototypes: tables and
/// records, and the space of prototypes.
const SECTION_CHARGE: u64 = 32;

/// Prototypes that a page has at least.
const PROTOTYPES: u64 = 512;

type Bytes = Box<[u8]>;

fn zeroes() -> Bytes {
    vec![0; PAGE_BYTES as usize].into()
}

/// A section.
#[derive(Debug)]
pub(crate) struct Section {
    pages: u64,
    contents: BTreeMap<u64, Bytes>,
    open: bool,
}

/// Names a section for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SectionKey(u32);

/// Where the bytes of a page of a view may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// In the section.
    Section,
    /// In a copy. Its bytes are known in the lanes of this set.
    Copy(Bytes, u64),
}

/// A view.
#[derive(Clone, Debug)]
pub(crate) struct View {
    section: SectionKey,
    /// The page of the section it begins with.
    first: u64,
    pages: u64,
    showing: Showing,
    /// Pages that are or may be copies: what they may be.
    copies: BTreeMap<u64, Vec<Source>>,
}

impl View {
    pub(super) const fn charge(&self) -> u64 {
        match self.showing {
            Showing::WriteCopy => self.pages,
            Showing::ReadOnly | Showing::ReadWrite => 0,
        }
    }

    pub(super) const fn charge_at_most(&self) -> u64 {
        self.charge() + TABLES_CHARGE + self.pages / 512
    }
}

/// All sections.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    sections: BTreeMap<SectionKey, Section>,
    made: u32,
    /// What sections were charged when all threads rested, and may have been charged since.
    charged: u64,
    /// Calls under way: what they may have charged and not handed over, and the views they may
    /// have counted.
    under_way: BTreeMap<u32, (u64, u32)>,
}

impl Sections {
    pub(super) const fn charge_at_most(&self) -> u64 {
        self.charged
    }

    pub(super) fn charges_under_way(&self) -> u64 {
        self.under_way.values().map(|(charge, _)| charge).sum()
    }

    /// Pages of sections that are open.
    pub(super) fn committed_at_least(&self) -> u64 {
        self.sections.values().filter(|section| section.open).map(|section| section.pages).sum()
    }
}

/// The set of the lanes that bytes of a page lie in.
fn lanes_of(offset: usize, length: usize) -> u64 {
    (0..length as u64).fold(0, |lanes, byte| lanes | 1 << ((offset as u64 + byte) / LANE_BYTES))
}

/// A part of an access that lies in one page.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    page: u64,
    offset: usize,
    bytes: &'a [u8],
}

fn parts(attempt: Attempt<'_>) -> Vec<Part<'_>> {
    let (mut va, mut rest, mut parts) = (attempt.va, attempt.bytes, Vec::new());
    while !rest.is_empty() {
        let offset = (va % PAGE_BYTES) as usize;
        let (bytes, behind) = rest.split_at(rest.len().min(PAGE_BYTES as usize - offset));
        parts.push(Part { page: va / PAGE_BYTES, offset, bytes });
        (va, rest) = (va + bytes.len() as u64, behind);
    }
    parts
}

impl Model {
    /// A section is about to be made.
    pub(crate) fn making_section(&mut self, caller: u32, pages: u64) -> u64 {
        let prototypes = pages.div_ceil(PROTOTYPES) + SECTION_CHARGE;
        self.sections.charged += pages + prototypes;
        self.sections.under_way.insert(caller, (prototypes, 0));
        pages + prototypes
    }

    /// A view is about to be mapped.
    pub(crate) fn mapping_view(&mut self, caller: u32, showing: Showing, pages: u64) -> u64 {
        let charge = match showing {
            Showing::WriteCopy => pages,
            Showing::ReadOnly | Showing::ReadWrite => 0,
        };
        let charge = charge + TABLES_CHARGE + pages / 512;
        self.sections.under_way.insert(caller, (charge, 1));
        charge
    }

    /// The call has ended.
    pub(crate) fn section_call_ended(&mut self, caller: u32) {
        self.sections.under_way.remove(&caller);
    }

    /// Calls under way that map views.
    pub(crate) fn views_under_way(&self) -> u32 {
        self.sections.under_way.values().map(|(_, views)| views).sum()
    }

    /// A section has been made.
    pub(crate) fn made_section(&mut self, pages: u64) -> SectionKey {
        let key = SectionKey(self.sections.made);
        self.sections.made += 1;
        let section = Section { pages, contents: BTreeMap::new(), open: true };
        self.sections.sections.insert(key, section);
        key
    }

    /// A section has been closed.
    pub(crate) fn closed_section(&mut self, key: SectionKey) {
        if let Some(section) = self.sections.sections.get_mut(&key) {
            section.open = false;
        }
    }

    /// A view has been mapped at `range`.
    pub(crate) fn mapped_view(
        &mut self,
        process: u8,
        range: Range,
        (section, first): (SectionKey, u64),
        showing: Showing,
    ) {
        let copies = BTreeMap::new();
        let view = View { section, first, pages: range.pages, showing, copies };
        self.space(process).views.insert(range.first, view);
    }

    /// Sections that nobody names any more are forgotten, and what all are charged is known.
    pub(super) fn sections_rest(&mut self, charged: u64) {
        let Self { sections, spaces, .. } = self;
        sections.charged = charged;
        sections.sections.retain(|key, section| {
            let shown = |space: &Space| space.views.values().any(|view| view.section == *key);
            section.open || spaces.values().any(shown)
        });
    }

    /// An access to a view has ended. Alone, a thread may have touched any byte.
    pub(crate) fn view_accessed(
        &mut self,
        process: u8,
        (attempt, company): (Attempt<'_>, Company),
        outcome: Result<(), NtStatus>,
    ) -> Result<(), Mismatch> {
        let judged = match outcome {
            Ok(()) => self.view_succeeded(process, attempt, company),
            Err(NtStatus::ACCESS_VIOLATION) => self.view_denied(process, attempt),
            Err(status) => {
                self.view_store_failed(process, attempt);
                self.excuse(status, 0)
            }
        };
        judged.map_err(|mismatch| Mismatch {
            detail: format!("{} ({:?} at {:#x})", mismatch.detail, attempt.touch, attempt.va),
            ..mismatch
        })
    }

    fn view_denied(&mut self, process: u8, attempt: Attempt<'_>) -> Result<(), Mismatch> {
        let space = self.space(process);
        let denied = parts(attempt).iter().any(|part| match space.view_at(part.page) {
            None => true,
            Some((_, view)) => attempt.touch == Touch::Store && view.showing == Showing::ReadOnly,
        });
        if denied {
            return Ok(());
        }
        mismatch("access violation", "in a view that permits it".to_owned())
    }

    fn view_succeeded(
        &mut self,
        process: u8,
        attempt: Attempt<'_>,
        company: Company,
    ) -> Result<(), Mismatch> {
        for part in parts(attempt) {
            let Some(space) = self.spaces.get_mut(&process) else { return Ok(()) };
            let Some((number, view)) = space.view_at_mut(part.page) else {
                return mismatch("access allowed", format!("no view at {:#x}", part.page));
            };
            let section = self.sections.sections.get_mut(&view.section);
            let Some(section) = section else {
                return mismatch("model", "a view of no section".to_owned());
            };
            let shown = section.contents.entry(view.first + number).or_insert_with(zeroes);
            match (attempt.touch, view.showing) {
                (Touch::Store, Showing::ReadOnly) => {
                    return mismatch("access allowed", "to store in a view to read".to_owned());
                }
                (Touch::Store, Showing::ReadWrite) => {
                    shown[part.offset..part.offset + part.bytes.len()].copy_from_slice(part.bytes);
                }
                (Touch::Store, Showing::WriteCopy) => view.store(number, shown, part, company),
                (Touch::Load | Touch::Fetch, _) => view.load(number, shown, part)?,
            }
        }
        Ok(())
    }

    /// A store that failed or was given up may have made a copy.
    pub(crate) fn view_store_failed(&mut self, process: u8, attempt: Attempt<'_>) {
        if attempt.touch != Touch::Store {
            return;
        }
        for part in parts(attempt) {
            let Some(space) = self.spaces.get_mut(&process) else { return };
            let Some((number, view)) = space.view_at_mut(part.page) else { continue };
            let Some(section) = self.sections.sections.get(&view.section) else { continue };
            if view.showing != Showing::WriteCopy {
                continue;
            }
            let shown = section.contents.get(&(view.first + number)).cloned();
            let lanes = lanes_of(part.offset, part.bytes.len());
            let copy = Source::Copy(shown.unwrap_or_else(zeroes), lanes);
            let sources = view.copies.entry(number).or_insert_with(|| vec![Source::Section]);
            if sources.contains(&Source::Section) && !sources.contains(&copy) {
                sources.push(copy);
            }
        }
    }
}

impl View {
    /// A store has made page `number` a copy, if it was not.
    fn store(&mut self, number: u64, shown: &Bytes, part: Part<'_>, company: Company) {
        let Part { offset, bytes, .. } = part;
        let lanes = match company {
            Company::Alone => u64::MAX,
            Company::Others => lanes_of(offset, bytes.len()),
        };
        let sources = self.copies.entry(number).or_insert_with(|| vec![Source::Section]);
        let mut stored = Vec::new();
        for source in sources.drain(..) {
            let (mut copy, lanes) = match source {
                Source::Section => (shown.clone(), lanes),
                Source::Copy(copy, lanes) => (copy, lanes),
            };
            copy[offset..offset + bytes.len()].copy_from_slice(bytes);
            let source = Source::Copy(copy, lanes);
            if !stored.contains(&source) {
                stored.push(source);
            }
        }
        *sources = stored;
    }

    /// A load has yielded bytes of page `number`.
    fn load(&mut self, number: u64, shown: &Bytes, part: Part<'_>) -> Result<(), Mismatch> {
        let Part { offset, bytes, .. } = part;
        let differs = |page: &Bytes, lanes: u64| {
            let held = &page[offset..offset + bytes.len()];
            (0..bytes.len()).find(|&at| {
                lanes >> ((offset + at) as u64 / LANE_BYTES) & 1 != 0 && held[at] != bytes[at]
            })
        };
        let fits = |source: &Source| match source {
            Source::Section => differs(shown, u64::MAX).is_none(),
            Source::Copy(copy, lanes) => differs(copy, *lanes).is_none(),
        };
        let only = [Source::Section];
        let sources = self.copies.get(&number).map_or(&only[..], Vec::as_slice);
        if sources.iter().any(fits) {
            if let Some(sources) = self.copies.get_mut(&number) {
                sources.retain(fits);
            }
            return Ok(());
        }
        let of = |source: &Source| match source {
            Source::Section => {
                let at = differs(shown, u64::MAX).unwrap_or(0);
                format!("{:#04x} in the section", shown[offset + at])
            }
            Source::Copy(copy, lanes) => {
                let at = differs(copy, *lanes).unwrap_or(0);
                format!("{:#04x} in the copy", copy[offset + at])
            }
        };
        let expected: Vec<String> = sources.iter().map(of).collect();
        let at = differs(shown, u64::MAX).unwrap_or(0);
        mismatch(
            "wrong data",
            format!(
                "page {number} of a view: byte {:#x} is {:#04x}, it must be {}",
                offset + at,
                bytes[at],
                expected.join(" or ")
            ),
        )
    }
}

impl Space {
    /// The view a page lies in, and the number of the page there.
    fn view_at(&self, page: u64) -> Option<(u64, &View)> {
        let (first, view) = self.views.range(..=page).next_back()?;
        (page - first < view.pages).then_some((page - first, view))
    }

    fn view_at_mut(&mut self, page: u64) -> Option<(u64, &mut View)> {
        let (first, view) = self.views.range_mut(..=page).next_back()?;
        (page - first < view.pages).then_some((page - first, view))
    }

    /// The pages of the view that a page lies in.
    pub(crate) fn view_range(&self, page: u64) -> Option<Range> {
        let (number, view) = self.view_at(page)?;
        Some(Range { first: page - number, pages: view.pages })
    }

    /// A view is no more, or nobody knows what is left of it.
    pub(crate) fn unmapped_view(&mut self, range: Range) {
        self.views.remove(&range.first);
    }
}
