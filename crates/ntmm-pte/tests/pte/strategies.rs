//! Random words and states of a mode.

use ntmm_pte::{
    Owner, PageFileOffset, PagingFileNumber, PagingMode, Pfn, Protection, PrototypePointer,
    PrototypeState, PteState, TransitionPte, UsedEntries, Va, ValidPte, WorkingSetHint,
};
use proptest::prelude::*;

fn width<M: PagingMode>() -> u64 {
    if M::ENTRY_BYTES == 4 { 0xFFFF_FFFF } else { u64::MAX }
}

/// Words of every class about equally often; a plain random word is mostly valid or a
/// prototype.
pub fn word<M: PagingMode>() -> BoxedStrategy<u64> {
    let shaped =
        (any::<u64>(), any::<u64>(), 0usize..7).prop_map(|(word, more, shape)| match shape {
            0 => word | 1,
            1 => word & !1 | 0x400,
            2 => word & !1 & !0x400 | 0x800,
            3 => word & !0xC01,
            4 => word & 0x3FE,
            5 => (word | 0xFFFF_FFFF_FFFF_F400) & !1 & (more | 0xFFFF_FFFF_0000_0FFF),
            _ => word & more & !0xC01,
        });
    prop_oneof![
        8 => shaped,
        1 => any::<u64>(),
        1 => Just(0),
    ]
    .prop_map(|word| word & width::<M>())
    .boxed()
}

pub fn protection() -> impl Strategy<Value = Protection> {
    (0u8..32).prop_map(|bits| Protection::from_bits(bits).unwrap())
}

pub fn pfn<M: PagingMode>() -> impl Strategy<Value = Pfn> {
    (0..=M::MAX_PFN.get()).prop_map(Pfn::new)
}

fn owner() -> impl Strategy<Value = Owner> {
    prop_oneof![Just(Owner::Kernel), Just(Owner::User)]
}

pub fn file() -> impl Strategy<Value = PagingFileNumber> {
    (0u8..16).prop_map(|n| PagingFileNumber::new(n).unwrap())
}

pub fn offset<M: PagingMode>() -> impl Strategy<Value = PageFileOffset> {
    (1..=M::MAX_PAGE_FILE_OFFSET).prop_map(|n| PageFileOffset::new(n).unwrap())
}

pub fn valid<M: PagingMode>() -> impl Strategy<Value = ValidPte> {
    (pfn::<M>(), owner(), any::<[bool; 11]>(), 0u64..0x800).prop_map(|(pfn, owner, flags, hint)| {
        let [writable, write_through, cache_disable, accessed, dirty, large, ..] = flags;
        let [.., global, copy_on_write, prototype, software_write, no_execute] = flags;
        ValidPte {
            pfn,
            writable,
            owner,
            write_through,
            cache_disable,
            accessed,
            dirty,
            large,
            global,
            copy_on_write,
            prototype,
            software_write,
            no_execute: no_execute && M::NAME != "i386",
            working_set_hint: WorkingSetHint::for_index(if M::NAME == "amd64" { hint } else { 0 }),
        }
    })
}

pub fn transition<M: PagingMode>() -> impl Strategy<Value = TransitionPte> {
    (pfn::<M>(), protection(), owner(), any::<[bool; 3]>()).prop_map(
        |(pfn, protection, owner, [write, write_through, cache_disable])| TransitionPte {
            pfn,
            protection,
            write,
            owner,
            write_through,
            cache_disable,
        },
    )
}

/// Addresses that the mode's words can hold as prototype addresses.
pub fn prototype_va<M: PagingMode>() -> BoxedStrategy<Va> {
    match M::NAME {
        "i386" => (0xE100_0000u64 >> 2..=0xFFFF_FFFF >> 2).prop_map(|n| Va::new(n << 2)).boxed(),
        "pae" => (0u64..=0xFFFF_FFFF >> 3).prop_map(|n| Va::new(n << 3)).boxed(),
        _ => prop_oneof![
            (0u64..=0x7FFF_FFFF_FFFF >> 3).prop_map(|n| Va::new(n << 3)),
            (0xFFFF_8000_0000_0000u64 >> 3..=0xFFFF_FFFF_FFFE_FFFF >> 3)
                .prop_map(|n| Va::new(n << 3)),
        ]
        .boxed(),
    }
}

/// Addresses that the mode's words can hold as subsection addresses.
pub fn subsection_va<M: PagingMode>() -> BoxedStrategy<Va> {
    match M::NAME {
        "i386" => prop_oneof![
            (0x8000_0000u64 >> 3..0x8800_0000 >> 3).prop_map(|n| Va::new(n << 3)),
            (0xF7BE_0008u64 >> 3..=0xFFBE_0000 >> 3).prop_map(|n| Va::new(n << 3)),
        ]
        .boxed(),
        _ => prototype_va::<M>(),
    }
}

fn pointer<M: PagingMode>() -> impl Strategy<Value = PrototypePointer> {
    (prototype_va::<M>(), any::<bool>(), protection()).prop_map(|(va, read_only, protection)| {
        PrototypePointer {
            address: M::prototype_address(va).unwrap(),
            read_only,
            protection: if M::NAME == "i386" { Protection::ZERO_ACCESS } else { protection },
        }
    })
}

/// States that have a word of their own: demand zero without access has none.
pub fn state<M: PagingMode>() -> BoxedStrategy<PteState> {
    let used = if M::NAME == "i386" { 0..1u16 } else { 0..0x400 };
    prop_oneof![
        Just(PteState::Zero),
        valid::<M>().prop_map(PteState::Valid),
        (1u8..32).prop_map(|bits| PteState::DemandZero {
            protection: Protection::from_bits(bits).unwrap()
        }),
        (file(), offset::<M>(), protection(), used).prop_map(|(file, offset, protection, used)| {
            PteState::PageFile {
                file,
                offset,
                protection,
                used_entries: UsedEntries::new(used).unwrap(),
            }
        }),
        transition::<M>().prop_map(PteState::Transition),
        pointer::<M>().prop_map(PteState::PrototypePointer),
        protection().prop_map(|protection| PteState::PrototypeLookup { protection }),
    ]
    .boxed()
}

/// States of prototype entries that have a word of their own.
pub fn prototype_state<M: PagingMode>() -> BoxedStrategy<PrototypeState> {
    prop_oneof![
        Just(PrototypeState::Zero),
        valid::<M>().prop_map(PrototypeState::Valid),
        (1u8..32).prop_map(|bits| PrototypeState::DemandZero {
            protection: Protection::from_bits(bits).unwrap()
        }),
        (file(), offset::<M>(), protection()).prop_map(|(file, offset, protection)| {
            PrototypeState::PageFile { file, offset, protection }
        }),
        transition::<M>().prop_map(PrototypeState::Transition),
        (subsection_va::<M>(), protection()).prop_map(|(va, protection)| {
            PrototypeState::Subsection { address: M::subsection_address(va).unwrap(), protection }
        }),
    ]
    .boxed()
}
