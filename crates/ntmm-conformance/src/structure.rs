//! Sizes of the structures that calls fill (`@sizeof`; spec API 7, 12).

use crate::case::Call;
use crate::expression::Expression;
use crate::version::Width;

/// The size of a structure in both pointer widths: 32-bit, then 64-bit.
struct Size(u64, u64);

/// The structure of each information class.
const CLASSES: [(&str, Size); 14] = [
    ("MemoryBasicInformation", Size(0x1C, 0x30)),
    ("MemoryWorkingSetInformation", Size(8, 0x10)),
    ("MemoryMappedFilenameInformation", Size(8, 0x10)),
    ("MemoryRegionInformation", Size(0x1C, 0x30)),
    ("MemoryWorkingSetExInformation", Size(8, 0x10)),
    ("MemorySharedCommitInformation", Size(4, 8)),
    ("MemoryImageInformation", Size(0xC, 0x18)),
    ("MemoryRegionInformationEx", Size(0x1C, 0x30)),
    ("MemoryPrivilegedBasicInformation", Size(0x1C, 0x30)),
    ("MemoryBasicInformationCapped", Size(0x1C, 0x30)),
    ("SectionBasicInformation", Size(0x10, 0x18)),
    ("SectionImageInformation", Size(0x30, 0x40)),
    ("VmPrefetchInformation", Size(4, 4)),
    ("OBJECT_ATTRIBUTES", Size(0x18, 0x30)),
];

/// The size of a structure, by information class or by name.
#[must_use]
pub fn size_of(name: &str, width: Width) -> Option<u64> {
    let (_, Size(narrow, wide)) = CLASSES.iter().find(|(known, _)| *known == name)?;
    Some(match width {
        Width::Bits32 => *narrow,
        Width::Bits64 => *wide,
    })
}

/// The structure that `@sizeof` means in a call: that of its information class, or
/// OBJECT_ATTRIBUTES.
#[must_use]
pub fn structure_of(call: &Call) -> Option<&str> {
    let text = |name| match call.arguments.get(name) {
        Some(Expression::Text(class)) => Some(class.as_str()),
        _ => None,
    };
    ["MemoryInformationClass", "SectionInformationClass", "VmInformationClass"]
        .into_iter()
        .find_map(text)
        .or_else(|| call.arguments.contains_key("ObjectAttributes").then_some("OBJECT_ATTRIBUTES"))
}

/// The `@n` of a call: the entries of its list of addresses.
#[must_use]
pub fn entries_of(call: &Call) -> Option<u64> {
    match call.arguments.get("VirtualAddresses") {
        Some(Expression::List(items)) => Some(items.len() as u64),
        _ => None,
    }
}
