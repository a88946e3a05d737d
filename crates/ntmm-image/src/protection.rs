//! What may be done with the pages of a section (spec API 15.5, internals 8.8).
//!
//! Three bits of a section's characteristics count: execute, read, write. A writable page is
//! copied before it is written, unless the section is shared. Whether a section calls itself code
//! or data changes nothing. `IMAGE_SCN_MEM_NOT_CACHED` adds the modifier it asks for.

use ntmm_pte::{Access, Modifier, Protection};
use object::pe::{
    IMAGE_SCN_MEM_EXECUTE, IMAGE_SCN_MEM_NOT_CACHED, IMAGE_SCN_MEM_READ, IMAGE_SCN_MEM_SHARED,
    IMAGE_SCN_MEM_WRITE, SectionFlags,
};

use crate::subsection::Sharing;

const fn has(characteristics: SectionFlags, flag: SectionFlags) -> bool {
    characteristics.0 & flag.0 != 0
}

/// Whether a section's written pages are seen by every process that maps the image.
pub(crate) const fn sharing(characteristics: SectionFlags) -> Sharing {
    if has(characteristics, IMAGE_SCN_MEM_SHARED) { Sharing::Shared } else { Sharing::Private }
}

/// The protection of a section's pages.
pub(crate) const fn protection(characteristics: SectionFlags) -> Protection {
    let execute = has(characteristics, IMAGE_SCN_MEM_EXECUTE);
    let read = has(characteristics, IMAGE_SCN_MEM_READ);
    let write = has(characteristics, IMAGE_SCN_MEM_WRITE);
    let access = match (execute, write, sharing(characteristics)) {
        (false, true, Sharing::Private) => Access::WriteCopy,
        (false, true, Sharing::Shared) => Access::ReadWrite,
        (true, true, Sharing::Private) => Access::ExecuteWriteCopy,
        (true, true, Sharing::Shared) => Access::ExecuteReadWrite,
        (true, false, _) if read => Access::ExecuteRead,
        (true, false, _) => Access::Execute,
        (false, false, _) if read => Access::ReadOnly,
        (false, false, _) => return Protection::NO_ACCESS,
    };
    let modifier = if has(characteristics, IMAGE_SCN_MEM_NOT_CACHED) {
        Modifier::NoCache
    } else {
        Modifier::Cached
    };
    Protection::new(access, modifier)
}

/// The protection with nothing executable about it, as sections with `SEC_IMAGE_NO_EXECUTE` have
/// it. What could only be executed can be read then.
pub(crate) const fn without_execute(protection: Protection) -> Protection {
    let access = match protection.access() {
        Access::Execute | Access::ExecuteRead => Access::ReadOnly,
        Access::ExecuteReadWrite => Access::ReadWrite,
        Access::ExecuteWriteCopy => Access::WriteCopy,
        Access::None | Access::ReadOnly | Access::ReadWrite | Access::WriteCopy => {
            return protection;
        }
    };
    Protection::new(access, protection.modifier())
}
