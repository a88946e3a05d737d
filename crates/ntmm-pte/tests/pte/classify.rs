//! Words are told apart in the order of spec 2.1, in every mode and both places.

use ntmm_pte::{Amd64, I386, Pae, PagingMode};
use proptest::prelude::*;

use crate::reference::{self, Class, Place, class_of_prototype, class_of_state, classify};
use crate::strategies::word;

fn agrees_with_reference<M: PagingMode>(word: u64) -> Result<(), TestCaseError> {
    let state = M::decode(word);
    let class = classify(M::NAME, Place::PageTable, word);
    prop_assert_eq!(class_of_state(&state), class);
    prop_assert_eq!(
        class_of_prototype(&M::decode_prototype(word)),
        classify(M::NAME, Place::PrototypeArray, word)
    );

    prop_assert_eq!(M::is_valid(word), class == Class::Valid);
    prop_assert_eq!(M::is_transition(word), class == Class::Transition);
    prop_assert_eq!(M::is_page_file(word), class == Class::PageFile);
    prop_assert_eq!(M::page_file_location(word).is_some(), class == Class::PageFile);
    prop_assert_eq!(M::is_prototype(word), matches!(class, Class::Lookup | Class::Pointer));
    prop_assert_eq!(
        M::resident_pfn(word).is_some(),
        matches!(class, Class::Valid | Class::Transition)
    );
    prop_assert_eq!(M::is_mapping(word), reference::is_mapping(M::NAME, word));
    prop_assert_eq!(state.is_mapping(), M::is_mapping(word));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn i386(word in word::<I386>()) {
        agrees_with_reference::<I386>(word)?;
    }

    #[test]
    fn pae(word in word::<Pae>()) {
        agrees_with_reference::<Pae>(word)?;
    }

    #[test]
    fn amd64(word in word::<Amd64>()) {
        agrees_with_reference::<Amd64>(word)?;
    }
}

/// Every combination of the low twelve bits, with nothing and everything above.
fn low_bits_decide<M: PagingMode>() {
    let width = if M::ENTRY_BYTES == 4 { 0xFFFF_FFFF } else { u64::MAX };
    for low in 0..0x1000 {
        for high in [0, 0xFFFF_FFFF_FFFF_F000, 0x0000_0001_0000_1000, 0xFFFF_FFFE_FFFF_E000] {
            agrees_with_reference::<M>((low | high) & width).unwrap();
        }
    }
}

crate::in_every_mode! {
    low_bits => low_bits_decide;
}
