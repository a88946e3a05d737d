//! Constructors and tests on raw words against spec 2.13 and against full decoding.

use ntmm_pte::{
    Amd64, Dirtiness, I386, Pae, PagingMode, Pfn, Protection, PteState, TransitionPte, ValidPte,
    WorkingSetHint,
};
use proptest::prelude::*;

use crate::strategies::{pfn, state, valid};

const NX: u64 = 1 << 63;

/// The bits of spec 2.13 for the eight accesses: i386, then PAE and amd64.
const RIGHTS: [(u64, u64); 8] = [
    (0, 0),
    (0, NX),
    (0, 0),
    (0, 0),
    (0x2, 0x2 | NX),
    (0x200, 0x200 | NX),
    (0x2, 0x2),
    (0x200, 0x200),
];

fn mappable() -> impl Iterator<Item = Protection> {
    Protection::all().filter(|protection| protection.is_mappable())
}

fn rights<M: PagingMode>(protection: Protection) -> u64 {
    let (narrow, wide) = RIGHTS[usize::from(protection.bits() & 7)];
    let cache = match protection.bits() & 0x18 {
        0x08 => 0x18,
        0x18 => 0x10,
        _ => 0,
    };
    cache | if M::NAME == "i386" { narrow } else { wide }
}

fn rights_follow_the_table<M: PagingMode>() {
    for protection in Protection::all() {
        assert_eq!(M::hardware_bits(protection), rights::<M>(protection), "{protection:?}");
    }
}

fn valid_words_are_built_as_said<M: PagingMode>() {
    let pfn = Pfn::new(0x123);
    for protection in mappable() {
        let base = 0x12_3021 | rights::<M>(protection);
        // Dirty only where the page itself may be written.
        let dirty = if base & 2 != 0 { base | 0x40 } else { base };
        let [clean_word, dirty_word] = [Dirtiness::Clean, Dirtiness::Dirty];
        assert_eq!(M::valid_user(pfn, protection, clean_word), base | 4, "{protection:?}");
        assert_eq!(M::valid_user(pfn, protection, dirty_word), dirty | 4, "{protection:?}");
        assert_eq!(M::valid_kernel(pfn, protection, clean_word), base | 0x100);
        assert_eq!(M::valid_kernel(pfn, protection, dirty_word), dirty | 0x100);
        assert_eq!(M::valid_kernel_local(pfn, protection, clean_word), base);
        assert_eq!(M::valid_kernel_local(pfn, protection, dirty_word), dirty);
    }
    assert_eq!(M::valid_table(pfn), 0x12_3067);
    assert_eq!(M::valid_kernel_table(pfn), 0x12_3063);
    assert_eq!(M::valid_pdpt(pfn), 0x12_3001);
    assert_eq!(M::counter(255), 0xF_F000);
    assert_eq!(M::count_of(0xF_F000), 255);
    assert!(!M::is_valid(M::counter(255)));
}

/// Bit 7 maps a large page (spec 2.10); kept frames look like a page in transition that is
/// decommitted (spec 2.4, 2.11), which no page is.
fn large_pages_have_words_of_their_own<M: PagingMode>() {
    let pfn = Pfn::new(0x1400);
    let no_execute = if M::HAS_NO_EXECUTE { NX } else { 0 };
    let word = M::valid_user_large(pfn, Protection::READWRITE, Dirtiness::Dirty);
    assert_eq!(word, 0x140_00E7 | no_execute);
    assert!(M::is_valid(word) && M::is_large(word) && M::is_of_large_page(word));
    assert_eq!(
        M::valid_user_large(pfn, Protection::EXECUTE_READ, Dirtiness::Dirty),
        0x140_00A5,
        "what cannot be written is clean"
    );
    let last = M::LARGE_PAGE.get() - 1;
    for (page, offset) in [(0, 0), (1, 0xFFF), (last, 8)] {
        let va = ntmm_pte::Va::new(0x4000_0000 + page * 0x1000 + offset);
        assert_eq!(M::frame_in_large_page(word | 1 << 12, va), Pfn::new(0x1400 + page as u32));
    }
    let kept = M::unmapped_large(pfn);
    assert_eq!(kept, 0x140_0A00);
    assert!(!M::is_valid(kept) && M::is_of_large_page(kept));
    assert_eq!(M::transition_pfn(kept), pfn);
    for table in
        [0, M::valid_table(pfn), 0x200, M::DEMAND_ZERO_TABLE, 0x140_08C0, 0x140_0A00 | 1 << 10]
    {
        assert!(!M::is_of_large_page(table), "{table:#x}");
    }
}

crate::in_every_mode! {
    large_pages => large_pages_have_words_of_their_own;
    hardware_bits => rights_follow_the_table;
    valid_words => valid_words_are_built_as_said;
}

/// Every cheap test says of a valid word what its decoded fields say.
fn tests_agree_with_fields<M: PagingMode>(valid: ValidPte) -> Result<(), TestCaseError> {
    let word = M::encode_valid(valid);
    prop_assert!(M::is_valid(word));
    prop_assert_eq!(M::valid_pfn(word), valid.pfn);
    prop_assert_eq!(M::resident_pfn(word), Some(valid.pfn));
    prop_assert_eq!(M::is_accessed(word), valid.accessed);
    prop_assert_eq!(M::is_dirty(word), valid.dirty);
    prop_assert_eq!(M::is_writable(word), valid.writable);
    prop_assert_eq!(M::is_copy_on_write(word), valid.copy_on_write);
    prop_assert_eq!(M::is_user_owned(word), valid.owner == ntmm_pte::Owner::User);
    prop_assert_eq!(M::is_executable(word), !valid.no_execute);
    prop_assert_eq!(M::is_large(word), valid.large);
    prop_assert_eq!(M::working_set_hint(word), valid.working_set_hint);

    let decoded = |word| M::decode_valid(word);
    prop_assert_eq!(decoded(M::set_accessed(word)), ValidPte { accessed: true, ..valid });
    prop_assert_eq!(decoded(M::clear_accessed(word)), ValidPte { accessed: false, ..valid });
    prop_assert_eq!(decoded(M::set_dirty(word)), ValidPte { dirty: true, ..valid });
    prop_assert_eq!(decoded(M::clear_dirty(word)), ValidPte { dirty: false, ..valid });

    let hint = WorkingSetHint::for_index(0x5A5);
    let hinted = decoded(M::with_working_set_hint(word, hint));
    let working_set_hint = if M::NAME == "amd64" { hint } else { WorkingSetHint::NONE };
    prop_assert_eq!(hinted, ValidPte { working_set_hint, ..valid });
    Ok(())
}

/// A page that leaves a working set keeps its frame and takes its protection along.
fn leaves_valid_as_said<M: PagingMode>(
    valid: ValidPte,
    protection: Protection,
) -> Result<(), TestCaseError> {
    let word = M::valid_to_transition(M::encode_valid(valid), protection);
    prop_assert!(M::is_transition(word));
    prop_assert_eq!(M::transition_pfn(word), valid.pfn);
    prop_assert_eq!(
        M::decode(word),
        PteState::Transition(TransitionPte {
            pfn: valid.pfn,
            protection,
            write: valid.writable,
            owner: valid.owner,
            write_through: valid.write_through,
            cache_disable: valid.cache_disable,
        })
    );
    Ok(())
}

/// New rights replace the old ones and leave the rest alone.
fn reprotects_as_said<M: PagingMode>(pfn: Pfn) -> Result<(), TestCaseError> {
    for from in mappable() {
        for to in mappable() {
            let dirty = M::valid_user(pfn, from, Dirtiness::Dirty);
            let clean = M::valid_user(pfn, from, Dirtiness::Clean);
            let kept = if M::is_dirty(dirty) { Dirtiness::Dirty } else { Dirtiness::Clean };
            prop_assert_eq!(M::with_valid_protection(dirty, to), M::valid_user(pfn, to, kept));
            prop_assert_eq!(
                M::with_valid_protection(clean, to),
                M::valid_user(pfn, to, Dirtiness::Clean)
            );
            let idle = M::clear_accessed(M::valid_kernel(pfn, from, Dirtiness::Clean));
            prop_assert_eq!(
                M::with_valid_protection(idle, to),
                M::clear_accessed(M::valid_kernel(pfn, to, Dirtiness::Clean))
            );
        }
    }
    Ok(())
}

/// Protection can be read and replaced in every invalid word but a pointer.
fn software_words_take_protection<M: PagingMode>(state: PteState) -> Result<(), TestCaseError> {
    if matches!(state, PteState::Zero | PteState::Valid(_) | PteState::PrototypePointer(_)) {
        return Ok(());
    }
    let word = M::encode(&state);
    prop_assert_eq!(Some(M::software_protection(word)), state.protection());
    for protection in Protection::all().skip(1) {
        let expected = match state {
            PteState::DemandZero { .. } => PteState::DemandZero { protection },
            PteState::PrototypeLookup { .. } => PteState::PrototypeLookup { protection },
            PteState::PageFile { file, offset, used_entries, .. } => {
                PteState::PageFile { file, offset, protection, used_entries }
            }
            PteState::Transition(transition) => {
                PteState::Transition(TransitionPte { protection, ..transition })
            }
            other => other,
        };
        prop_assert_eq!(M::decode(M::with_protection(word, protection)), expected);
    }
    Ok(())
}

macro_rules! properties {
    ($name:ident, $mode:ty) => {
        mod $name {
            use super::*;

            proptest! {
                #[test]
                fn tests_agree(valid in valid::<$mode>()) {
                    tests_agree_with_fields::<$mode>(valid)?;
                }

                #[test]
                fn transition(
                    valid in valid::<$mode>(),
                    protection in crate::strategies::protection(),
                ) {
                    leaves_valid_as_said::<$mode>(valid, protection)?;
                }

                #[test]
                fn reprotect(pfn in pfn::<$mode>()) {
                    reprotects_as_said::<$mode>(pfn)?;
                }

                #[test]
                fn software_protection(state in state::<$mode>()) {
                    software_words_take_protection::<$mode>(state)?;
                }
            }
        }
    };
}

properties!(i386, I386);
properties!(pae, Pae);
properties!(amd64, Amd64);
