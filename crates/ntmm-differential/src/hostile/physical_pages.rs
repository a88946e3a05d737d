//! Hostile calls on physical pages (AWE): counts, arrays and addresses of all kinds, and the
//! numbers of pages that were granted, were freed, or are somebody else's. For such calls to find
//! something, windows are made now and then with pages mapped into them.

use ntmm::nt::constants::{MEM_PHYSICAL, MEM_RELEASE, MEM_RESERVE};
use ntmm::nt::{
    AllocatePagesParameters, AllocateParameters, AllocateUserPhysicalPages, AllocateVirtualMemory,
    Caller, FreePagesParameters, FreeParameters, FreeUserPhysicalPages, FreeVirtualMemory,
    MapAddresses, MapPagesParameters, MapUserPhysicalPages, Privileges, Target,
};
use ntmm_machine::Hardware;
use ntmm_pte::Pfn;

use super::digest::PhysicalPage;
use super::{Ended, Hostile};
use crate::model::numbers::{PAGE, READWRITE};
use crate::subject::Stopped;

/// Most pages a call that is not odd is about.
const MOST: u64 = 6;

impl<M: Hardware> Hostile<M> {
    fn pages(&mut self) -> u64 {
        if self.is_odd() { self.number() } else { self.random.below(MOST + 1) }
    }

    /// The number of a page, as often as not of one that was granted once.
    fn page(&mut self) -> u64 {
        match self.granted.len() as u64 {
            granted @ 1.. if !self.is_odd() => self.granted[self.random.below(granted) as usize],
            _ => self.number(),
        }
    }

    fn array(&mut self, item: fn(&mut Self) -> u64) -> Vec<u64> {
        (0..self.random.below(MOST + 2)).map(|_| item(self)).collect()
    }

    /// The physical pages of the processes as the manager's records have them.
    pub(super) fn physical_pages(&self) -> Vec<PhysicalPage> {
        let manager = self.host.manager();
        let mut pages = Vec::new();
        for owner in [self.current, self.other] {
            let Some(space) = manager.space_view(owner) else { continue };
            space.for_each_physical_page(|pfn| {
                let view = manager.frame_view(pfn);
                pages.extend(view.map(|view| PhysicalPage {
                    owner,
                    pfn,
                    mapped_by: view.container,
                    share: view.share,
                    references: view.references,
                    flags: view.flags,
                }));
            });
        }
        pages
    }

    pub(super) fn allocate_pages(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let count = self.pages();
        let parameters = AllocatePagesParameters {
            process: self.process(),
            count: self.captured(count),
            array: self.captured(()),
        };
        let mut room = [Pfn::new(0); MOST as usize];
        let call = AllocateUserPhysicalPages::new(caller, parameters, &mut room);
        let outcome = self.host.complete(call)?;
        let granted = &room[..outcome.output.unwrap_or(0) as usize];
        self.granted.extend(granted.iter().map(|pfn| u64::from(pfn.get())));
        Ok(Ended::new(outcome.status, outcome.output.is_some()))
    }

    /// Reserves a window where calls meet, allocates pages for it and maps them, with no mistake.
    /// The first of these calls may fail, for the place may be taken, and so may the second, when
    /// memory is short; the window goes then. A program can rely on the third.
    pub(super) fn make_window(&mut self) -> Result<Ended, Stopped> {
        let space = self.random.pick(&[self.current, self.other]);
        let process = Ok(Target::current(space));
        let privileges = Privileges::LOCK_MEMORY;
        let caller = Caller { privileges, ..Caller::program::<M>(self.rules.version.profile()) };
        let pages = 1 + self.random.below(MOST);
        let parameters = AllocateParameters {
            process,
            base: Ok(self.place()),
            zero_bits: 0,
            size: Ok(pages * PAGE),
            kind: MEM_RESERVE | MEM_PHYSICAL,
            protection: READWRITE,
        };
        let reserved = self.host.complete(AllocateVirtualMemory::new(caller, parameters))?;
        let Some(window) = reserved.output else { return Ok(Ended::new(reserved.status, false)) };
        let mut room = [Pfn::new(0); MOST as usize];
        let parameters = AllocatePagesParameters { process, count: Ok(pages), array: Ok(()) };
        let call = AllocateUserPhysicalPages::new(caller, parameters, &mut room);
        let outcome = self.host.complete(call)?;
        let count = outcome.output.unwrap_or(0);
        if count == 0 {
            let (base, size) = (Ok(window.base), Ok(0));
            let parameters = FreeParameters { process, base, size, kind: MEM_RELEASE };
            self.host.complete(FreeVirtualMemory::new(caller, parameters))?;
            return Ok(Ended::new(outcome.status, false));
        }
        let frames: Vec<u64> =
            room.iter().take(count as usize).map(|pfn| u64::from(pfn.get())).collect();
        self.granted.extend(&frames);
        let parameters = MapPagesParameters {
            addresses: MapAddresses::From(window.base),
            count,
            frames: Ok(Some(&frames)),
        };
        let status = self.host.complete(MapUserPhysicalPages::new(caller, space, parameters))?;
        if !status.is_success() {
            return Err(format!("{count} pages of its own at {:#x}: {status}", window.base));
        }
        Ok(Ended::new(status, true))
    }

    pub(super) fn free_pages(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let (count, frames) = (self.pages(), self.array(Self::page));
        let parameters = FreePagesParameters {
            process: self.process(),
            count: self.captured(count),
            array: self.captured(&frames),
        };
        let outcome = self.host.complete(FreeUserPhysicalPages::new(caller, parameters))?;
        Ok(Ended::new(outcome.status, outcome.output.is_some()))
    }

    pub(super) fn map_pages(&mut self, caller: Caller) -> Result<Ended, Stopped> {
        let (addresses, listed) = (self.array(Self::number), self.array(Self::page));
        let frames = (!self.random.one_in(4)).then_some(&listed[..]);
        let parameters = MapPagesParameters {
            addresses: if self.random.one_in(2) {
                MapAddresses::From(self.number())
            } else {
                MapAddresses::Scattered(self.captured(&addresses))
            },
            count: if self.is_odd() { self.pages() } else { frames.map_or(1, <[u64]>::len) as u64 },
            frames: self.captured(frames),
        };
        let space = self.random.pick(&[self.current, self.other]);
        let call = MapUserPhysicalPages::new(caller, space, parameters);
        Ok(Ended::new(self.host.complete(call)?, false))
    }
}
