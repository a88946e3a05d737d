//! The calls on sections: NtCreateSection, NtMapViewOfSection and their family (nt-api 11 to 14).
//!
//! A host's handle table says what a handle stands for: a section and the rights that were granted
//! ([`SectionTarget`]), a file and its rights ([`FileTarget`]). Names are the host's too; what they
//! mean for a section is in `names`, over the namespace that the host has.
//!
//! | File | Holds |
//! |---|---|
//! | `access` | rights to sections and files, and which of them a protection needs |
//! | `create` | NtCreateSection, MmCreateSection |
//! | `extend` | NtExtendSection |
//! | `map` | NtMapViewOfSection and its extended form, MmMapViewOfSection |
//! | `names` | object attributes; sections opened and created by name |
//! | `query` | NtQuerySection |
//! | `same_files` | NtAreMappedFilesTheSame |
//! | `unmap` | NtUnmapViewOfSection and its extended form |

mod access;
mod create;
mod extend;
mod map;
mod names;
mod query;
mod same_files;
mod unmap;

pub use access::{File, FileAccess, FileTarget, Section, SectionAccess, SectionTarget};
pub use create::{
    CreateSectionCall, CreateSectionOutcome, CreateSectionParameters, HandleVariable,
    KernelCreateSection, KernelSectionParameters, Manner,
};
pub use extend::ExtendSectionCall;
pub use map::{MapViewOfSection, MapViewParameters, MappedRange};
pub use names::{
    LetterCase, Named, Names, Namespace, ObjectAttributes, ObjectName, Place, name_section,
    open_section,
};
pub use query::{
    QuerySection, QuerySectionOutcome, QuerySectionParameters, SectionBasicInformation,
};
pub use same_files::AreMappedFilesTheSame;
pub use unmap::UnmapViewOfSection;
