//! The paging file of a run: in memory, readable by the auditor, and failing on demand.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ntmm::status::NtStatus;
use ntmm_machine::Disk;

use crate::model::PAGE_BYTES;
use crate::random::Random;
use crate::sabotage::{Sabotage, Saboteur};
use crate::setup::Setup;

const BYTES: usize = PAGE_BYTES as usize;

/// A page, as the auditor wants it.
pub(crate) type Words = [u64; BYTES / 8];

/// A page that has been written, which the auditor may look at while it is being replaced.
type Page = Rc<Words>;

/// What a paging file holds, and how many of the next transfers fail.
#[derive(Debug)]
pub(crate) struct PagingFile {
    pages: RefCell<Vec<Page>>,
    failing: Cell<u32>,
    failed_reads: Cell<u32>,
    /// What pages held before they were last written, where reads may be stale.
    stale: RefCell<BTreeMap<usize, Page>>,
    sabotage: Option<Sabotage>,
    random: RefCell<Random>,
}

impl PagingFile {
    pub(crate) fn new(setup: &Setup) -> Rc<Self> {
        let zeroes = Rc::new([0; BYTES / 8]);
        Rc::new(Self {
            pages: RefCell::new(vec![zeroes; setup.paging_file as usize]),
            failing: Cell::new(0),
            failed_reads: Cell::new(0),
            stale: RefCell::default(),
            sabotage: setup.sabotage,
            random: RefCell::new(Random::new(setup.seed)),
        })
    }

    /// Makes the next `count` transfers fail.
    pub(crate) fn fail_next(&self, count: u32) {
        self.failing.set(self.failing.get() + count);
    }

    /// Reads that have failed on demand.
    pub(crate) fn failed_reads(&self) -> u32 {
        self.failed_reads.get()
    }

    /// The words of a slot.
    pub(crate) fn slot(&self, number: u32) -> Option<Page> {
        self.pages.borrow().get(number as usize).map(Rc::clone)
    }

    /// Whether the disk is broken in this way and shows it now.
    fn sabotaged(&self, saboteur: Saboteur) -> bool {
        self.sabotage.is_some_and(|sabotage| {
            sabotage.saboteur == saboteur
                && self.random.borrow_mut().below(1_000_000) < sabotage.chance
        })
    }

    fn fails(&self) -> bool {
        let left = self.failing.get();
        self.failing.set(left.saturating_sub(1));
        left > 0
    }
}

/// The disk a machine has for it.
#[derive(Debug)]
pub(crate) struct PagingDisk(pub(crate) Rc<PagingFile>);

impl Disk for PagingDisk {
    fn read(&mut self, first: u64, buffer: &mut [u8]) -> Result<(), NtStatus> {
        if self.0.fails() {
            self.0.failed_reads.set(self.0.failed_reads.get() + 1);
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        let pages = self.0.pages.borrow();
        let stale = self.0.stale.borrow();
        for (number, chunk) in (first as usize..).zip(buffer.chunks_exact_mut(BYTES)) {
            let page = pages.get(number).ok_or(NtStatus::END_OF_FILE)?;
            let before = stale.get(&number).filter(|_| self.0.sabotaged(Saboteur::StaleRead));
            for (bytes, word) in
                chunk.as_chunks_mut().0.iter_mut().zip(before.unwrap_or(page).iter())
            {
                *bytes = word.to_le_bytes();
            }
        }
        Ok(())
    }

    fn write(&mut self, first: u64, bytes: &[u8]) -> Result<(), NtStatus> {
        let fails = self.0.fails();
        let mut pages = self.0.pages.borrow_mut();
        let chunks = bytes.chunks_exact(BYTES);
        // Half of a failing write has reached the disk.
        let written = if fails { chunks.len() / 2 } else { chunks.len() };
        for (number, chunk) in (first as usize..).zip(chunks).take(written) {
            let page = pages.get_mut(number).ok_or(NtStatus::END_OF_FILE)?;
            if self.0.sabotaged(Saboteur::DroppedWrite) {
                continue;
            }
            let words = chunk.as_chunks().0;
            let written = Rc::new(std::array::from_fn(|word| u64::from_le_bytes(words[word])));
            let before = std::mem::replace(page, written);
            if self.0.sabotage.is_some() {
                self.0.stale.borrow_mut().insert(number, before);
            }
        }
        if fails { Err(NtStatus::IO_DEVICE_ERROR) } else { Ok(()) }
    }
}
