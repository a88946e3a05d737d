//! ZeroBits: how many high bits of a chosen address must be zero (nt-api 2).
//!
//! Up to 21 the value counts bits from bit 31 down; below what 21 leaves there is no address at
//! all. From 32 on, where addresses have more than 32 bits, it is a mask of which only the highest
//! bit matters. Numbers between mean nothing.

use ntmm_pte::{PagingMode, Va};

use super::profile::Behaviour;
use crate::status::NtStatus;

/// The highest address that the last byte of a chosen range may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressLimit {
    /// That of user space.
    None,
    /// This one.
    Last(Va),
}

impl AddressLimit {
    /// Reads a ZeroBits value.
    ///
    /// # Errors
    /// `illegal`, the status of the call for a value that means nothing; or what the version
    /// says of one that nothing satisfies.
    pub const fn parse<M: PagingMode>(
        zero_bits: u64,
        behaviour: &Behaviour,
        illegal: NtStatus,
    ) -> Result<Self, NtStatus> {
        match zero_bits {
            0 => Ok(Self::None),
            1..=20 => Ok(Self::Last(Va::new((1 << (32 - zero_bits)) - 1))),
            21 => match behaviour.twenty_one_zero_bits {
                None => Ok(Self::Last(Va::new((1 << 11) - 1))),
                Some(status) => Err(status),
            },
            22..=31 => Err(illegal),
            _ if M::ADDRESS_BITS == 32 => Err(illegal),
            mask => Ok(Self::Last(Va::new(u64::MAX >> mask.leading_zeros()))),
        }
    }
}
