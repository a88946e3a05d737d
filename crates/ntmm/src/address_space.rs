//! Address spaces: creation, the table that names them, deletion (MmCreateProcessAddressSpace,
//! MmDeleteProcessAddressSpace, spec 12.3-12.6, 14.4).
//!
//! An address space is its root page table, the hyperspace tables that map its working-set
//! list, and that list, whose first page begins with the space's
//! [header](crate::working_set::header). It is built privately and then published in the space
//! table, where an [`AddressSpaceId`] finds it. Ids carry a generation, so that one kept too
//! long names nothing instead of somebody else.

mod create;
mod delete;
mod table;

pub use delete::DeleteAddressSpace;
pub use table::AddressSpaceId;
pub(crate) use table::{LOCK, SpaceTable};
