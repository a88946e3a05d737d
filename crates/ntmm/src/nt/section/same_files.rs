//! NtAreMappedFilesTheSame (nt-api 14.9).

use ntmm_pte::Va;

use crate::address_space::AddressSpaceId;
use crate::manager::Manager;
use crate::nt::Caller;
use crate::operation::{Operation, Step};
use crate::platform::Platform;
use crate::status::NtStatus;
use crate::vad::VadKind;
use crate::virtual_memory::{AllocationInformation, QueryAllocation};

/// The call. Yields its status.
#[derive(Debug)]
#[must_use]
pub struct AreMappedFilesTheSame {
    caller: Caller,
    space: AddressSpaceId,
    addresses: [u64; 2],
}

impl AreMappedFilesTheSame {
    /// Compares what `image` and `file`, addresses in the caller's own space, lie in.
    pub const fn new(caller: Caller, space: AddressSpaceId, image: u64, file: u64) -> Self {
        Self { caller, space, addresses: [image, file] }
    }

    /// What is at an address.
    fn find<P: Platform>(
        &self,
        manager: &Manager<P>,
        address: u64,
    ) -> Result<AllocationInformation, NtStatus> {
        match QueryAllocation::new(self.space, Va::new(address)).step(manager) {
            Step::Done(found) => found.ok_or(NtStatus::INVALID_ADDRESS),
            Step::Raise(status) => Err(status),
            // The question is answered at once.
            Step::Wait(_) => Err(NtStatus::INVALID_ADDRESS),
        }
    }

    fn compare<P: Platform>(&self, manager: &Manager<P>) -> NtStatus {
        let [image, file] = self.addresses;
        let (image, file) = match (self.find(manager, image), self.find(manager, file)) {
            (Ok(image), Ok(file)) => (image, file),
            (Err(status), _) | (_, Err(status)) => return status,
        };
        let is_view = |found: &AllocationInformation| {
            matches!(found.kind, VadKind::View | VadKind::ImageView | VadKind::LargePageView)
        };
        if !is_view(&image) || !is_view(&file) {
            return NtStatus::CONFLICTING_ADDRESSES;
        }
        if image.region == file.region {
            return self.caller.behaviour().one_view;
        }
        NtStatus::NOT_SAME_DEVICE
    }
}

impl<P: Platform> Operation<P> for AreMappedFilesTheSame {
    type Output = NtStatus;

    fn step(&mut self, manager: &Manager<P>) -> Step<NtStatus> {
        Step::Done(self.compare(manager))
    }

    fn abandon(self, _manager: &Manager<P>) {}
}
