//! One virtual address descriptor: the decoded value and its record in a leaf.
//!
//! A record is six words. The first is NT's 64-bit flags word and the fifth the second flags word,
//! bit for bit (spec 7.2); the second and third are zero for private memory and say of a view what it
//! shows (control area, first page; NT keeps the first and last prototype PTE). The page range itself is not in the record but in
//! the sorted columns of the leaf, and secured ranges are in a table of the space.
//!
//! Records change under the locks of the tree, see [the tree](super).

use ntmm_pte::{Pages, Protection, Vpn};
use ntmm_sync::atomic::Ordering;

use crate::section::ControlAreaId;

/// Words of a record.
pub(super) const RECORD_WORDS: usize = 6;

/// The word that holds NT's second flags word.
const SECOND_FLAGS: u16 = 4;

/// Largest commit charge a record can hold, in pages: 51 bits.
const COMMIT_CHARGE_MAX: u64 = (1 << 51) - 1;

ntmm_sync::record! {
    /// A descriptor's record in a leaf: NT's flags word (`MMVAD_FLAGS`, spec 7.2).
    pub record VadRecord [RECORD_WORDS] {
        /// Pages charged to this range.
        commit_charge, set_commit_charge: u64 = 0, 0, 51;
        /// 1: the protection may not be changed.
        no_change, set_no_change: u8 = 0, 51, 1;
        /// NT's `VadType`.
        vad_type, set_vad_type: u8 = 0, 52, 3;
        /// 1: zero PTEs of the range are committed.
        mem_commit, set_mem_commit: u8 = 0, 55, 1;
        /// The 5-bit protection mask the range was allocated with.
        protection, set_protection: u8 = 0, 56, 5;
        /// Whether the range is a placeholder (1), or replaced one (2).
        placeholder, set_placeholder: u8 = 0, 61, 2;
        /// 1: the pages belong to this address space alone.
        private_memory, set_private_memory: u8 = 0, 63, 1;
        /// Control area of a view.
        control_area, set_control_area: u32 = 1, 0, 32;
        /// 1: the range is a view.
        is_view, set_is_view: u8 = 1, 32, 1;
        /// 1: children made by duplicating the process get the view (`Inherit`).
        inherit, set_inherit: u8 = 1, 33, 1;
        /// The page of the section that the view begins with.
        first_page, set_first_page: u64 = 2, 0, 64;
        /// 1: one range of these pages is secured (`OneSecured`).
        one_secured, set_one_secured: u8 = 4, 25, 1;
        /// 1: several are (`MultipleSecured`).
        multiple_secured, set_multiple_secured: u8 = 4, 26, 1;
    }
}

/// What a descriptor describes: NT's `VadType` together with `PrivateMemory` (spec 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VadKind {
    /// Memory of this address space alone, paged to a paging file.
    Private,
    /// Device memory or an MDL mapped for the user; its PTEs are always valid.
    PhysicalMapping,
    /// A view of an image.
    ImageView,
    /// A window of Address Windowing Extensions.
    AddressWindow,
    /// Private memory whose written pages are recorded.
    WriteWatch,
    /// Private memory mapped by large pages.
    LargePages,
    /// A view that can be switched between aperture memory and ordinary pages.
    Rotate,
    /// A view of a section of large pages.
    LargePageView,
    /// A view of a data file or of a section backed by paging files.
    View,
}

impl VadKind {
    /// NT's `VadType`, 0-7.
    #[must_use]
    pub const fn vad_type(self) -> u8 {
        match self {
            Self::Private | Self::View => 0,
            Self::PhysicalMapping => 1,
            Self::ImageView => 2,
            Self::AddressWindow => 3,
            Self::WriteWatch => 4,
            Self::LargePages => 5,
            Self::Rotate => 6,
            Self::LargePageView => 7,
        }
    }

    /// NT's `PrivateMemory` flag.
    #[must_use]
    pub const fn private_memory(self) -> u8 {
        match self {
            Self::Private
            | Self::PhysicalMapping
            | Self::AddressWindow
            | Self::WriteWatch
            | Self::LargePages => 1,
            Self::View | Self::ImageView | Self::Rotate | Self::LargePageView => 0,
        }
    }

    /// The kind with these flags. `PrivateMemory` only tells private memory from a data view;
    /// every other type implies it.
    const fn decode(vad_type: u8, private_memory: u8) -> Self {
        match vad_type {
            0 if private_memory == 0 => Self::View,
            1 => Self::PhysicalMapping,
            2 => Self::ImageView,
            3 => Self::AddressWindow,
            4 => Self::WriteWatch,
            5 => Self::LargePages,
            6 => Self::Rotate,
            7 => Self::LargePageView,
            _ => Self::Private,
        }
    }
}

/// What a zero PTE of the range means: NT's `MemCommit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Commitment {
    /// Not committed: an access is a violation until the page is committed on its own.
    Reserved,
    /// Committed with the protection of the descriptor.
    Committed,
}

/// Whether the protection of the range may be changed: NT's `NoChange` (spec 7.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProtectionChange {
    /// It may.
    Allowed,
    /// Only to what it already is.
    Refused,
}

/// Whether a range is a placeholder, which holds addresses for an allocation to come (API 3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// It never was one.
    Never,
    /// It is one.
    Empty,
    /// It has replaced one, and can become one again.
    Replaced,
}

/// Whether ranges of a descriptor are secured: NT's `OneSecured` and `MultipleSecured` (spec 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secured {
    /// None is.
    No,
    /// One is.
    One,
    /// Several are.
    Multiple,
}

/// What becomes of a view when its process is duplicated (`SECTION_INHERIT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inherit {
    /// ViewShare: the child has it too.
    Share,
    /// ViewUnmap: the child does not.
    Unmap,
}

/// What a view shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Of what.
    pub area: ControlAreaId,
    /// The page of the section that it begins with.
    pub first: Pages,
    /// What becomes of it when its process is duplicated.
    pub inherit: Inherit,
}

/// Everything a descriptor says about its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VadAttributes {
    /// What the range is.
    pub kind: VadKind,
    /// Protection the range was allocated with.
    pub protection: Protection,
    /// What a zero PTE means.
    pub commitment: Commitment,
    /// Whether the protection may be changed.
    pub protection_change: ProtectionChange,
    /// Whether the range is a placeholder.
    pub placeholder: Placeholder,
    /// Whether parts of the range are secured.
    pub secured: Secured,
    /// Pages charged to the range; cut to 51 bits in the record.
    pub commit_charge: Pages,
    /// What the range shows, when it is a view.
    pub view: Option<View>,
}

/// A virtual address descriptor: a decoded copy of a record, NT's `MMVAD` (spec 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vad {
    /// First page.
    pub start: Vpn,
    /// Last page, inclusive.
    pub end: Vpn,
    /// What is said about these pages.
    pub attributes: VadAttributes,
}

impl VadRecord<'_> {
    /// The attributes in the record.
    pub(super) fn decode(&self) -> VadAttributes {
        let word = self.view().word(0).load(Ordering::Relaxed);
        let second = self.view().word(SECOND_FLAGS).load(Ordering::Relaxed);
        let [
            charge,
            no_change,
            vad_type,
            mem_commit,
            protection,
            placeholder,
            private,
            _,
            _,
            _,
            _,
            one_secured,
            multiple_secured,
        ] = Self::FIELDS;
        VadAttributes {
            kind: VadKind::decode(vad_type.get(word) as u8, private.get(word) as u8),
            protection: Protection::from_low_bits(protection.get(word)),
            commitment: match mem_commit.get(word) {
                0 => Commitment::Reserved,
                _ => Commitment::Committed,
            },
            protection_change: match no_change.get(word) {
                0 => ProtectionChange::Allowed,
                _ => ProtectionChange::Refused,
            },
            placeholder: match placeholder.get(word) {
                0 => Placeholder::Never,
                1 => Placeholder::Empty,
                _ => Placeholder::Replaced,
            },
            secured: match (one_secured.get(second), multiple_secured.get(second)) {
                (0, 0) => Secured::No,
                (_, 0) => Secured::One,
                _ => Secured::Multiple,
            },
            commit_charge: Pages::new(charge.get(word)),
            view: self.decode_view(),
        }
    }

    fn decode_view(&self) -> Option<View> {
        (self.is_view() != 0).then(|| View {
            area: ControlAreaId(self.control_area()),
            first: Pages::new(self.first_page()),
            inherit: if self.inherit() != 0 { Inherit::Share } else { Inherit::Unmap },
        })
    }

    fn encode_view(&self, view: View) {
        self.set_is_view(1);
        self.set_control_area(view.area.0);
        self.set_first_page(view.first.get());
        self.set_inherit(u8::from(view.inherit == Inherit::Share));
    }

    /// Writes the attributes.
    pub(super) fn encode(&self, attributes: &VadAttributes) {
        let commitment = match attributes.commitment {
            Commitment::Reserved => 0,
            Commitment::Committed => 1,
        };
        let refused = match attributes.protection_change {
            ProtectionChange::Allowed => 0,
            ProtectionChange::Refused => 1,
        };
        let history = match attributes.placeholder {
            Placeholder::Never => 0,
            Placeholder::Empty => 1,
            Placeholder::Replaced => 2,
        };
        let (one, multiple) = match attributes.secured {
            Secured::No => (0, 0),
            Secured::One => (1, 0),
            Secured::Multiple => (0, 1),
        };
        let [charge, no_change, vad_type, mem_commit, protection, placeholder, private, ..] =
            Self::FIELDS;
        let mut word = charge.set(0, attributes.commit_charge.get().min(COMMIT_CHARGE_MAX));
        word = no_change.set(word, refused);
        word = vad_type.set(word, attributes.kind.vad_type().into());
        word = mem_commit.set(word, commitment);
        word = protection.set(word, attributes.protection.bits().into());
        word = placeholder.set(word, history);
        word = private.set(word, attributes.kind.private_memory().into());
        self.view().word(0).store(word, Ordering::Relaxed);
        match attributes.view {
            Some(view) => self.encode_view(view),
            None => self.view().word(1).store(0, Ordering::Relaxed),
        }
        self.set_one_secured(one);
        self.set_multiple_secured(multiple);
    }
}
