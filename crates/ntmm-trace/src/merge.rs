//! Merging neighbouring references to one page without changing what a paging policy sees.
//!
//! The merger cuts the trace into *visits*, unbroken runs of references to one page, and keeps only some of them. A
//! visit is dropped when the kept visit before it and the next visit after it, both to the same page, enclose fewer
//! than K - 1 other pages; its references are then counted in the kept visit before it. This is the "safely allowed
//! drop" of Kaplan, Smaragdakis and Wilson (2003): with K pages of memory or more the page is resident throughout
//! such a stretch under LRU and under OPT, with or without the dropped visit, so the faults are the same ones.
//! `docs/trace-format.md` gives the argument.
//!
//! Whether a visit is dropped is known only at the page's next one, so the [`Merger`] holds for each of the K pages
//! used last a *stay*: the kept visit (anchor) and the visit after it, which is still a candidate. Visits whose fate
//! is sealed wait until every earlier one is; their number is bounded by a small multiple of K.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::compact::WindowPages;
use crate::reference::AccessKind;

/// Bytes of one page touched by references of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: AccessKind,
    /// Offset of the first byte touched, below 4096.
    pub(crate) low: u16,
    /// Offset after the last byte touched, at most 4096.
    pub(crate) high: u16,
    pub(crate) count: u32,
}

/// References to one page that stand together: at most one run of each kind, in the order the kinds first occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) page: u64,
    /// When the visit began, in visits.
    time: u64,
    runs: [Run; 4],
    kinds: u8,
}

impl Visit {
    fn new(page: u64, time: u64, run: Run) -> Self {
        Visit { page, time, runs: [run; 4], kinds: 1 }
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs[..self.kinds as usize]
    }

    /// Adds a run's bytes and count; `false`, changing nothing, if the count would overflow.
    fn absorb(&mut self, run: Run) -> bool {
        let used = self.kinds as usize;
        if let Some(mine) = self.runs[..used].iter_mut().find(|mine| mine.kind == run.kind) {
            let Some(count) = mine.count.checked_add(run.count) else {
                return false;
            };
            *mine = Run {
                kind: run.kind,
                low: mine.low.min(run.low),
                high: mine.high.max(run.high),
                count,
            };
        } else {
            self.runs[used] = run;
            self.kinds += 1;
        }
        true
    }

    /// Adds all of another visit; `false`, changing nothing, if a count would overflow.
    fn absorb_visit(&mut self, other: &Visit) -> bool {
        let mut merged = *self;
        if !other.runs().iter().all(|run| merged.absorb(*run)) {
            return false;
        }
        *self = merged;
        true
    }
}

/// The earliest visit is the greatest, so that a `BinaryHeap` yields it first.
#[derive(PartialEq, Eq)]
struct Earliest(Visit);

impl Ord for Earliest {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.time.cmp(&self.0.time)
    }
}

impl PartialOrd for Earliest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What is still undecided about one page of the window.
struct Stay {
    anchor: Visit,
    candidate: Option<Visit>,
}

/// Drops and merges visits. Takes runs in program order, hands out visits in program order.
pub(crate) struct Merger {
    capacity: usize,
    /// The pages used last, in no order. The three lists run in parallel so that a search is a scan over words.
    pages: Vec<u64>,
    last_use: Vec<u64>,
    anchored: Vec<u64>,
    stays: Vec<Stay>,
    /// Index of the page that is being visited.
    current: usize,
    clock: u64,
    sealed: BinaryHeap<Earliest>,
}

impl Merger {
    pub(crate) fn new(window: WindowPages) -> Self {
        let capacity = window.pages();
        Merger {
            capacity,
            pages: Vec::with_capacity(capacity),
            last_use: Vec::with_capacity(capacity),
            anchored: Vec::with_capacity(capacity),
            stays: Vec::with_capacity(capacity),
            current: 0,
            clock: 0,
            sealed: BinaryHeap::new(),
        }
    }

    /// Takes the next run; `emit` gets the visits that are now final.
    pub(crate) fn push(&mut self, page: u64, run: Run, emit: &mut impl FnMut(&Visit)) {
        if self.pages.get(self.current) == Some(&page) {
            let stay = &mut self.stays[self.current];
            if stay.candidate.as_mut().unwrap_or(&mut stay.anchor).absorb(run) {
                return;
            }
        }
        self.clock += 1;
        let visit = Visit::new(page, self.clock, run);
        match self.pages.iter().position(|&open| open == page) {
            Some(index) => self.return_to(index, visit, emit),
            None => self.enter(visit, emit),
        }
    }

    /// Hands out everything that is left.
    pub(crate) fn finish(&mut self, emit: &mut impl FnMut(&Visit)) {
        while !self.pages.is_empty() {
            self.leave(0);
        }
        self.release(emit);
    }

    /// A page of the window is visited again.
    fn return_to(&mut self, index: usize, visit: Visit, emit: &mut impl FnMut(&Visit)) {
        self.current = index;
        self.last_use[index] = self.clock;
        let anchored = self.anchored[index];
        let used_since =
            self.last_use.iter().map(|&used| usize::from(used > anchored)).sum::<usize>();
        // The page itself is among those used since.
        let may_drop = used_since < self.capacity;
        let stay = &mut self.stays[index];
        let Some(candidate) = stay.candidate.replace(visit) else {
            return;
        };
        if may_drop && stay.anchor.absorb_visit(&candidate) {
            return;
        }
        self.sealed.push(Earliest(stay.anchor));
        stay.anchor = candidate;
        self.anchored[index] = candidate.time;
        self.release(emit);
    }

    /// A page from outside the window is visited.
    fn enter(&mut self, visit: Visit, emit: &mut impl FnMut(&Visit)) {
        if self.pages.len() == self.capacity {
            let oldest = (0..self.capacity).min_by_key(|&index| self.last_use[index]);
            self.leave(oldest.unwrap_or(0));
        }
        self.current = self.pages.len();
        self.pages.push(visit.page);
        self.last_use.push(visit.time);
        self.anchored.push(visit.time);
        self.stays.push(Stay { anchor: visit, candidate: None });
        self.release(emit);
    }

    /// A page leaves the window: both its visits are kept.
    fn leave(&mut self, index: usize) {
        self.pages.swap_remove(index);
        self.last_use.swap_remove(index);
        self.anchored.swap_remove(index);
        let stay = self.stays.swap_remove(index);
        self.sealed.push(Earliest(stay.anchor));
        self.sealed.extend(stay.candidate.map(Earliest));
    }

    /// Hands out the sealed visits that no undecided one precedes.
    fn release(&mut self, emit: &mut impl FnMut(&Visit)) {
        let undecided = self.anchored.iter().copied().min().unwrap_or(u64::MAX);
        while let Some(earliest) = self.sealed.peek()
            && earliest.0.time < undecided
        {
            emit(&earliest.0);
            self.sealed.pop();
        }
    }
}
