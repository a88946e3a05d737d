//! Memory taken away from a process, as other programs do it that need much.
//!
//! All pages that can leave its working set do; then one process takes all memory it can get for
//! good, another touches pages of its own, for which frames have to be taken off the pages that
//! left; and both end.

use ntmm::nt::{AllocateParameters, AllocateVirtualMemory, Caller, Profile, Target};
use ntmm::virtual_memory::{AllocatePhysicalPages, ReadMemory};
use ntmm::working_set::limits::EmptyWorkingSet;
use ntmm::{AddressSpaceId, DeleteAddressSpace};
use ntmm_machine::Hardware;
use ntmm_pte::{Pfn, Va};

use super::{FRAMES, Host, Stopped};
use crate::model::numbers::{COMMIT, PAGE, READWRITE, RESERVE};

/// Pages that are touched: all that could have left, and those the manager keeps available.
const TOUCHED: u64 = 1024;

impl<M: Hardware> Host<M> {
    /// Takes memory away from `space`.
    pub(super) fn squeeze(&mut self, space: AddressSpaceId) -> Result<(), Stopped> {
        self.complete(EmptyWorkingSet::new(space))?;
        let (keeper, toucher) = (self.create_space()?, self.create_space()?);
        let mut room = vec![Pfn::new(0); FRAMES as usize];
        // That there is not a single page for it is no matter.
        let mut take = AllocatePhysicalPages::new(keeper, &mut room);
        let _ = self.simulation.complete(&mut take).map_err(|halt| halt.to_string())?;
        let parameters = AllocateParameters {
            process: Ok(Target::current(toucher)),
            base: Ok(0),
            zero_bits: 0,
            size: Ok(TOUCHED * PAGE),
            kind: RESERVE | COMMIT,
            protection: READWRITE,
        };
        let caller = Caller::program::<M>(Profile::Legacy);
        let made = self.complete(AllocateVirtualMemory::new(caller, parameters))?;
        let base = made.output.ok_or_else(|| format!("no memory: {}", made.status))?.base;
        for page in 0..TOUCHED {
            let at = Va::new(base + page * PAGE);
            self.complete(ReadMemory::new(toucher, at, &mut [0]))?;
        }
        for space in [keeper, toucher] {
            self.complete(DeleteAddressSpace::new(space))?;
        }
        Ok(())
    }
}
