//! Classification and bit usage written straight from the tables of spec section 2,
//! with plain numbers and without the crate's help.

use ntmm_pte::{PrototypeState, PteState};

/// Where a word was found.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Place {
    PageTable,
    PrototypeArray,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Class {
    Valid,
    Zero,
    Lookup,
    Pointer,
    Subsection,
    Transition,
    PageFile,
    DemandZero,
}

fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 == 1
}

/// Bits `low` to `high`, both included.
pub fn field(low: u32, high: u32) -> u64 {
    (low..=high).map(|n| 1u64 << n).sum()
}

/// PageFileHigh of a software word.
fn page_file_high(mode: &str) -> u64 {
    match mode {
        "i386" => field(12, 31),
        "pae" | "amd64" => field(32, 63),
        _ => unreachable!(),
    }
}

fn frame(mode: &str) -> u64 {
    match mode {
        "i386" => field(12, 31),
        "pae" => field(12, 37),
        "amd64" => field(12, 39),
        _ => unreachable!(),
    }
}

/// The table of spec 2.1, row by row.
pub fn classify(mode: &str, place: Place, word: u64) -> Class {
    let high = page_file_high(mode);
    if bit(word, 0) {
        return Class::Valid;
    }
    if word == 0 {
        return Class::Zero;
    }
    if bit(word, 10) && place == Place::PageTable {
        return if word & high == high { Class::Lookup } else { Class::Pointer };
    }
    if bit(word, 10) {
        return Class::Subsection;
    }
    if bit(word, 11) {
        return Class::Transition;
    }
    if word & high != 0 {
        return Class::PageFile;
    }
    Class::DemandZero
}

/// The bits that a word of this class defines in this mode (spec 2.2 to 2.10).
pub fn defined_bits(mode: &str, place: Place, class: Class) -> u64 {
    let protection = field(5, 9);
    let prototype = field(10, 10);
    match (class, mode) {
        (Class::Zero, _) => 0,
        (Class::Valid, "i386") => field(0, 31),
        (Class::Valid, "pae") => field(0, 37) | field(63, 63),
        (Class::Valid, _) => field(0, 39) | field(52, 62) | field(63, 63),
        (Class::Lookup, _) => page_file_high(mode) | prototype | protection,
        (Class::Pointer, "i386") => field(1, 7) | field(8, 8) | prototype | field(11, 31),
        (Class::Pointer, "pae") => field(8, 8) | prototype | field(11, 15) | field(32, 63),
        (Class::Pointer, _) => field(8, 8) | prototype | field(11, 15) | field(16, 63),
        (Class::Subsection, "i386") => field(1, 4) | protection | prototype | field(11, 31),
        (Class::Subsection, "pae") => protection | prototype | field(32, 63),
        (Class::Subsection, _) => protection | prototype | field(16, 63),
        (Class::Transition, _) => field(1, 4) | protection | field(11, 11) | frame(mode),
        (Class::PageFile, "i386") => field(1, 4) | protection | field(12, 31),
        (Class::PageFile, _) => {
            let used = match place {
                Place::PageTable => field(12, 21),
                Place::PrototypeArray => 0,
            };
            field(1, 4) | protection | used | field(32, 63)
        }
        (Class::DemandZero, _) => protection,
    }
}

/// "Really mapping something" as spec 2.1 says it.
pub fn is_mapping(mode: &str, word: u64) -> bool {
    if mode == "i386" {
        return word & 0xFFFF_FC01 != 0;
    }
    bit(word, 0) || bit(word, 10) || bit(word, 11) || word & page_file_high(mode) != 0
}

pub fn class_of_state(state: &PteState) -> Class {
    match state {
        PteState::Zero => Class::Zero,
        PteState::Valid(_) => Class::Valid,
        PteState::DemandZero { .. } => Class::DemandZero,
        PteState::PageFile { .. } => Class::PageFile,
        PteState::Transition(_) => Class::Transition,
        PteState::PrototypePointer(_) => Class::Pointer,
        PteState::PrototypeLookup { .. } => Class::Lookup,
    }
}

pub fn class_of_prototype(state: &PrototypeState) -> Class {
    match state {
        PrototypeState::Zero => Class::Zero,
        PrototypeState::Valid(_) => Class::Valid,
        PrototypeState::DemandZero { .. } => Class::DemandZero,
        PrototypeState::PageFile { .. } => Class::PageFile,
        PrototypeState::Transition(_) => Class::Transition,
        PrototypeState::Subsection { .. } => Class::Subsection,
    }
}
