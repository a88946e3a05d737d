//! The hash of entries that are not direct (spec 6.5, 6.6). Private pages are always direct, so
//! the entries are injected: a page's entry is made indirect, as a page shared with another
//! space would have it.

use ntmm_pte::{Amd64, I386, Pae, PagingMode, Va};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec;

use super::host::{EAGER, Host, page_at};
use super::machine::Machine;
use crate::AddressSpaceId;
use crate::working_set::WorkingSetGuard;
use crate::working_set::entry::WorkingSetEntry;

fn grow<M: PagingMode>(host: &Host<M>, space: AddressSpaceId) -> bool {
    let mut reservation = host.manager.try_reserve_pages(1).expect("a page");
    host.locked(space, |set| set.grow_hash(&mut reservation))
}

/// Gives the page at `va`, which need not exist, an entry that is not direct.
fn insert<M: PagingMode>(set: &mut WorkingSetGuard<'_, '_, Machine<M>>, va: Va) -> u32 {
    let index = set.reserve_entry().index();
    set.set_entry(index, WorkingSetEntry::indirect(va.vpn()));
    set.header().set_non_direct(set.header().non_direct() + 1);
    set.hash_insert(index);
    index
}

/// No frame has this hint.
const NO_HINT: u32 = u32::MAX;

in_every_mode! {
    fn indirect_entry_is_found_through_the_hash_and_removed_from_it<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        assert!(grow(&host, space));
        let va = Va::new(0x10_0000);
        let index = host.locked(space, |set| {
            let index = insert(set, va);
            assert!(set.entry(index).is_hashed());
            assert_eq!(set.hash_lookup(va.vpn()), Some(index));
            assert_eq!(set.locate(va, NO_HINT), Some(index));
            index
        });
        host.locked(space, |set| {
            set.release_entry(index);
            assert_eq!(set.hash_lookup(va.vpn()), None);
            assert_eq!(set.locate(va, NO_HINT), None);
            assert_eq!(set.header().non_direct(), 0);
        });
    }

    fn hint_comes_before_the_hash_and_the_list_after_it<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        let va = host.allocate(space, 1);
        host.write(space, va, 1);
        let index = host.index_of(space, va);
        host.locked(space, |set| {
            assert_eq!(set.locate(va, index), Some(index), "the hint");
            assert_eq!(set.locate(va, NO_HINT), Some(index), "the list, without a hash");
            assert_eq!(set.locate(page_at(va, 1), index), None, "the hint is of another page");
        });
    }

    fn entry_reserved_and_given_back_unused_is_no_indirect_one<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let space = host.space();
        assert!(grow(&host, space));
        host.locked(space, |set| {
            insert(set, Va::new(0x10_0000));
            let index = set.reserve_entry().index();
            set.release_entry(index);
            assert_eq!(set.header().non_direct(), 1);
        });
    }

    fn page_of_the_hash_is_charged_and_returned<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let before = host.manager.memory_figures();
        let space = host.space();
        let charged = host.manager.memory_figures().committed;
        assert!(grow(&host, space) && grow(&host, space));
        let after = host.manager.memory_figures().committed;
        assert_eq!(after.get(), charged.get() + 2, "two pages hold the hash");
        host.delete(space);
        let end = host.manager.memory_figures();
        assert_eq!((end.available, end.committed), (before.available, before.committed));
    }

    fn frames_of_the_hash_return_with_the_space<M>() {
        let host = Host::<M>::bare(96, EAGER);
        let before = host.manager.memory_figures().available;
        let space = host.space();
        assert!(grow(&host, space) && grow(&host, space));
        host.delete(space);
        assert_eq!(host.manager.memory_figures().available, before);
    }
}

/// What the hash must know: every indirect page and where its entry is.
fn agrees<M: PagingMode>(
    host: &Host<M>,
    space: AddressSpaceId,
    model: &BTreeMap<Va, u32>,
    pages: &[Va],
) {
    host.locked(space, |set| {
        for &va in pages {
            assert_eq!(set.hash_lookup(va.vpn()), model.get(&va).copied(), "{va:?}");
        }
    });
}

/// Pages whose hash values meet often: `size - 1` slots, four slots apart.
fn pages() -> Vec<Va> {
    let near = (0..20).map(|number| Va::new((number + 16) << 12));
    let colliding = (1..20).map(|number| Va::new((number * 511 + 16) << 12));
    near.chain(colliding).collect()
}

fn hash_is_a_map<M: PagingMode>(actions: Vec<(u8, usize, usize)>) {
    let host = Host::<M>::bare(96, EAGER);
    let space = host.space();
    assert!(grow(&host, space));
    let pages = pages();
    let mut model = BTreeMap::new();
    let mut grown = 1;
    for (action, pick, other) in actions {
        let va = pages[pick % pages.len()];
        match action {
            0..=4 => {
                model.entry(va).or_insert_with(|| host.locked(space, |set| insert(set, va)));
            }
            5..=6 => {
                if let Some(index) = model.remove(&va) {
                    host.locked(space, |set| set.release_entry(index));
                }
            }
            7 => {
                let with = pages[other % pages.len()];
                if let (Some(&a), Some(&b)) = (model.get(&va), model.get(&with)) {
                    host.locked(space, |set| set.swap_entries(a, b));
                    model.insert(va, b);
                    model.insert(with, a);
                }
            }
            8 => {
                // Into a free entry, further up the list.
                if let Some(&from) = model.get(&va) {
                    let to = 100 + (other % 100) as u32;
                    let free = host.locked(space, |set| !set.entry(to).is_valid());
                    if free {
                        host.locked(space, |set| set.swap_entries(from, to));
                        model.insert(va, to);
                    }
                }
            }
            _ if grown < 3 => {
                grown += 1;
                // The new page of the hash becomes permanent; entries move to make room.
                assert!(grow(&host, space));
                host.locked(space, |set| {
                    for (va, index) in &mut model {
                        let last = set.header().last_entry();
                        *index = (0..=last)
                            .find(|&at| {
                                set.entry(at).is_valid() && set.entry(at).page() == va.vpn()
                            })
                            .expect("the entry is somewhere");
                    }
                });
            }
            _ => {}
        }
        agrees(&host, space, &model, &pages);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hash_is_a_map_of_the_indirect_pages(
        actions in proptest::collection::vec((0_u8..10, any::<usize>(), any::<usize>()), 1..120)
    ) {
        hash_is_a_map::<I386>(actions.clone());
        hash_is_a_map::<Pae>(actions.clone());
        hash_is_a_map::<Amd64>(actions);
    }
}
