//! What a failing call leaves as it was: regions, physical pages with their mappings, commitment.

use ntmm::AddressSpaceId;
use ntmm::frames::entry::FrameFlags;
use ntmm::nt::{
    BasicInformation, Caller, Information, QueryParameters, QueryVirtualMemory, Target,
};
use ntmm::tables::EntryRef;
use ntmm_machine::Hardware;
use ntmm_pte::{Pages, Pfn};

use super::{Harm, Hostile};
use crate::model::numbers::GUARD;
use crate::subject::Stopped;

/// What a failing call leaves as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digest {
    regions: Vec<BasicInformation>,
    physical_pages: Vec<PhysicalPage>,
    committed: Pages,
}

/// A physical page that a process has allocated. Queries tell nothing of it: a window reads as
/// reserved whatever is mapped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PhysicalPage {
    pub(super) owner: AddressSpaceId,
    pub(super) pfn: Pfn,
    /// The entry that maps it; nowhere without a mapping.
    pub(super) mapped_by: EntryRef,
    /// One for the owner, and one for the mapping.
    pub(super) share: u32,
    pub(super) references: u16,
    /// Claims of calls among them.
    pub(super) flags: FrameFlags,
}

impl Digest {
    /// Whether a physical page is mapped.
    pub(super) fn has_mappings(&self) -> bool {
        self.physical_pages.iter().any(|page| page.share > 1)
    }

    /// What is left of it when this may have changed.
    pub(super) fn without(&self, harm: Harm) -> Self {
        let mut digest = self.clone();
        if harm == Harm::Touches {
            for page in &mut digest.physical_pages {
                page.flags.remove(FrameFlags::MODIFIED);
            }
            let mut regions: Vec<BasicInformation> = Vec::new();
            for mut region in digest.regions {
                region.protection &= !GUARD;
                match regions.last_mut() {
                    Some(last)
                        if last.base + last.size == region.base
                            && (last.allocation_base, last.state, last.protection)
                                == (region.allocation_base, region.state, region.protection) =>
                    {
                        last.size += region.size;
                    }
                    _ => regions.push(region),
                }
            }
            digest.regions = regions;
        }
        digest
    }
}

impl<M: Hardware> Hostile<M> {
    /// What the processes' memory looks like.
    pub(super) fn digest(&mut self) -> Result<Digest, Stopped> {
        let mut regions = Vec::new();
        for space in [self.current, self.other] {
            let mut address = 0;
            while address <= self.rules.highest_allocated_address() {
                let region = self.region(space, address)?;
                address = region.base + region.size;
                regions.push(region);
            }
        }
        let physical_pages = self.physical_pages();
        let committed = self.host.manager().memory_figures().committed;
        Ok(Digest { regions, physical_pages, committed })
    }

    /// The region that `address` lies in.
    pub(super) fn region(
        &mut self,
        space: AddressSpaceId,
        address: u64,
    ) -> Result<BasicInformation, Stopped> {
        let parameters = QueryParameters {
            process: Ok(Target::current(space)),
            address,
            class: 0,
            buffer: Ok(()),
            length: 0x30,
            return_length: Ok(()),
        };
        let caller = Caller::program::<M>(self.rules.version.profile());
        let call = QueryVirtualMemory::new(caller, parameters, &mut []);
        match self.host.complete(call)?.information {
            Some(Information::Basic(basic)) => Ok(basic),
            other => Err(format!("{address:#x} is {other:?}")),
        }
    }
}
