//! The extended parameters of NtAllocateVirtualMemoryEx (nt-api 3.6).

use ntmm_pte::{ALLOCATION_GRANULARITY, Bytes, PAGE_SIZE, PagingMode, Va};

use super::Captured;
use crate::status::NtStatus;

/// Types of extended parameters lie below this; each may be given once.
const TYPES: u64 = 7;

/// MemExtendedParameterAddressRequirements.
const ADDRESS_REQUIREMENTS: u64 = 1;

/// One MEM_EXTENDED_PARAMETER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedParameter {
    /// The number in the low eight bits of its first word.
    pub kind: u64,
    /// For address requirements what their pointer points to; ignored for other types.
    pub requirements: Captured<AddressRequirements>,
}

/// MEM_ADDRESS_REQUIREMENTS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressRequirements {
    /// LowestStartingAddress; zero for no wish.
    pub lowest: u64,
    /// HighestEndingAddress, the last byte; zero for no wish.
    pub highest: u64,
    /// Alignment in bytes; zero for no wish.
    pub alignment: u64,
}

/// What a call's extended parameters ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wishes {
    /// Lowest first byte.
    pub(super) lowest: Option<Va>,
    /// Highest last byte.
    pub(super) highest: Option<Va>,
    /// Alignment.
    pub(super) alignment: Bytes,
}

impl Wishes {
    /// No wishes.
    pub(super) const NONE: Self =
        Self { lowest: None, highest: None, alignment: Bytes::new(ALLOCATION_GRANULARITY) };

    /// What requirements ask for of a call whose base is `base`.
    pub(super) fn of<M: PagingMode>(
        requirements: Requirements,
        base: u64,
    ) -> Result<Self, NtStatus> {
        match requirements {
            None => Ok(Self::NONE),
            Some(captured) => captured?.wishes::<M>(base),
        }
    }
}

/// Address requirements, if a call has any.
pub(super) type Requirements = Option<Captured<AddressRequirements>>;

/// The address requirements among extended parameters, each of which has a known type that no
/// other has.
pub(super) fn requirements_of(parameters: &[ExtendedParameter]) -> Result<Requirements, NtStatus> {
    let mut seen = 0_u64;
    let mut requirements = None;
    for &ExtendedParameter { kind, requirements: given } in parameters {
        if !(1..TYPES).contains(&kind) || seen & (1 << kind) != 0 {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        seen |= 1 << kind;
        if kind == ADDRESS_REQUIREMENTS {
            requirements = Some(given);
        }
    }
    Ok(requirements)
}

impl AddressRequirements {
    fn wishes<M: PagingMode>(self, base: u64) -> Result<Wishes, NtStatus> {
        let Self { lowest, highest, alignment } = self;
        if self == Self::default() {
            return Ok(Wishes::NONE);
        }
        let limit = M::HIGHEST_USER_ADDRESS.get();
        let ceiling = if highest == 0 { limit } else { highest };
        let wrong_highest =
            highest != 0 && (highest % PAGE_SIZE != PAGE_SIZE - 1 || highest > limit);
        let wrong_lowest = lowest % ALLOCATION_GRANULARITY != 0 || lowest > ceiling;
        let wrong_alignment =
            alignment != 0 && (!alignment.is_power_of_two() || alignment < ALLOCATION_GRANULARITY);
        if base != 0 || wrong_highest || wrong_lowest || wrong_alignment {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        Ok(Wishes {
            lowest: (lowest != 0).then_some(Va::new(lowest)),
            highest: (highest != 0).then_some(Va::new(highest)),
            alignment: Bytes::new(alignment.max(ALLOCATION_GRANULARITY)),
        })
    }
}
