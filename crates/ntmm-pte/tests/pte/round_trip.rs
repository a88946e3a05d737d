//! A state survives its word, and a word survives its state in every bit the form defines.

use ntmm_pte::{
    Amd64, Dirtiness, I386, ListEntry, ListLink, Owner, Pae, PageFileOffset, PagingFileNumber,
    PagingMode, Pfn, Protection, PrototypePointer, PrototypeState, PteState, RunShape,
    TransitionPte, UsedEntries, Va,
};
use proptest::prelude::*;

use crate::reference::{Place, classify, defined_bits};
use crate::strategies::{prototype_state, state, word};

fn state_survives<M: PagingMode>(state: PteState) -> Result<(), TestCaseError> {
    let word = M::encode(&state);
    prop_assert!(M::ENTRY_BYTES == 8 || word <= 0xFFFF_FFFF);
    prop_assert_eq!(M::decode(word), state, "word {:#x}", word);
    Ok(())
}

fn prototype_survives<M: PagingMode>(state: PrototypeState) -> Result<(), TestCaseError> {
    let word = M::encode_prototype(&state);
    prop_assert!(M::ENTRY_BYTES == 8 || word <= 0xFFFF_FFFF);
    prop_assert_eq!(M::decode_prototype(word), state, "word {:#x}", word);
    Ok(())
}

fn word_survives<M: PagingMode>(word: u64) -> Result<(), TestCaseError> {
    let class = classify(M::NAME, Place::PageTable, word);
    let kept = word & defined_bits(M::NAME, Place::PageTable, class);
    prop_assert_eq!(M::encode(&M::decode(word)), kept, "{:#x} is {:?}", word, class);

    let class = classify(M::NAME, Place::PrototypeArray, word);
    let kept = word & defined_bits(M::NAME, Place::PrototypeArray, class);
    prop_assert_eq!(
        M::encode_prototype(&M::decode_prototype(word)),
        kept,
        "prototype {:#x} is {:?}",
        word,
        class
    );
    Ok(())
}

fn list_survives<M: PagingMode>(index: u32) -> Result<(), TestCaseError> {
    let nexts = [ListLink::End, ListLink::Index(index % (M::MAX_LIST_INDEX + 1))];
    for next in nexts {
        for shape in [RunShape::Single, RunShape::Several] {
            let entry = ListEntry { next, shape };
            let word = M::encode_list(entry);
            prop_assert_eq!(M::decode_list(word), entry);
            // Neither Valid nor Prototype, so that a stray access faults.
            prop_assert_eq!(word & 0x401, 0);
        }
    }
    Ok(())
}

macro_rules! round_trips {
    ($name:ident, $mode:ty) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig::with_cases(2048))]

                #[test]
                fn of_states(state in state::<$mode>()) {
                    state_survives::<$mode>(state)?;
                }

                #[test]
                fn of_prototype_states(state in prototype_state::<$mode>()) {
                    prototype_survives::<$mode>(state)?;
                }

                #[test]
                fn of_words(word in word::<$mode>()) {
                    word_survives::<$mode>(word)?;
                }

                #[test]
                fn of_list_entries(index in any::<u32>()) {
                    list_survives::<$mode>(index)?;
                }
            }
        }
    };
}

round_trips!(i386, I386);
round_trips!(pae, Pae);
round_trips!(amd64, Amd64);

/// All 32 masks in all states that carry one, in page tables and prototype arrays, at
/// both ends of every other field.
fn every_protection_in_every_state<M: PagingMode>() {
    let i386 = M::NAME == "i386";
    for protection in Protection::all() {
        let mut states = vec![PteState::PrototypeLookup { protection }];
        let mut prototypes = Vec::new();
        if protection != Protection::ZERO_ACCESS {
            states.push(PteState::DemandZero { protection });
            prototypes.push(PrototypeState::DemandZero { protection });
        }
        for slot in [1, M::MAX_PAGE_FILE_OFFSET] {
            for number in [0, 15] {
                let file = PagingFileNumber::new(number).unwrap();
                let offset = PageFileOffset::new(slot).unwrap();
                let used_entries = UsedEntries::new(if i386 { 0 } else { 0x3FF }).unwrap();
                states.push(PteState::PageFile { file, offset, protection, used_entries });
                prototypes.push(PrototypeState::PageFile { file, offset, protection });
            }
        }
        for pfn in [Pfn::new(0), M::MAX_PFN] {
            for owner in [Owner::Kernel, Owner::User] {
                let transition = TransitionPte { pfn, protection, owner, ..Default::default() };
                states.push(PteState::Transition(transition));
                prototypes.push(PrototypeState::Transition(transition));
            }
            // A valid word says what hardware enforces, so only that part of the mask.
            if protection.is_mappable() {
                let word = M::valid_user(pfn, protection, Dirtiness::Clean);
                states.push(M::decode(word));
                assert_eq!(M::encode(&M::decode(word)), word);
            }
        }
        states.push(PteState::PrototypePointer(PrototypePointer {
            address: M::prototype_address(M::PAGED_POOL_START).unwrap(),
            read_only: true,
            protection: if i386 { Protection::ZERO_ACCESS } else { protection },
        }));
        let pool = if M::NAME == "amd64" { 0xFFFF_FA80_0000_0000 } else { 0x8000_0000 };
        prototypes.push(PrototypeState::Subsection {
            address: M::subsection_address(Va::new(pool)).unwrap(),
            protection,
        });

        for state in states {
            state_survives::<M>(state).unwrap();
        }
        for state in prototypes {
            prototype_survives::<M>(state).unwrap();
        }
    }
}

/// Demand zero without access is the zero word and nothing else.
fn demand_zero_without_access_is_zero<M: PagingMode>() {
    let protection = Protection::ZERO_ACCESS;
    assert_eq!(M::encode(&PteState::DemandZero { protection }), 0);
    assert_eq!(M::decode(0), PteState::Zero);
    assert_eq!(M::encode_prototype(&PrototypeState::DemandZero { protection }), 0);
    assert_eq!(M::decode_prototype(0), PrototypeState::Zero);
}

crate::in_every_mode! {
    protections => every_protection_in_every_state;
    zero => demand_zero_without_access_is_zero;
}
