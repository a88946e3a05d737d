//! Random operations on the tree and on plain maps give the same.

use super::*;

#[derive(Clone, Debug)]
enum Action {
    Insert { start: u64, pages: u64, attributes: VadAttributes },
    Remove { pick: usize },
    RemoveBeside { pick: usize },
    Resize { pick: usize, front: u64, back: u64 },
    Update { pick: usize, attributes: VadAttributes },
}

/// Pages in a few clusters, so that ranges meet.
fn clustered() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0_u64..4, 0_u64..400).prop_map(|(cluster, page)| cluster * 0x1_0000 + page),
        1 => 0_u64..0x4_0000,
        1 => (Vpn::MAX.get() - 300)..=Vpn::MAX.get(),
    ]
}

fn action(removals: u32) -> impl Strategy<Value = Action> {
    prop_oneof![
        20 => (clustered(), 1_u64..6, any_attributes())
            .prop_map(|(start, pages, attributes)| Action::Insert { start, pages, attributes }),
        removals => any::<usize>().prop_map(|pick| Action::Remove { pick }),
        1 => any::<usize>().prop_map(|pick| Action::RemoveBeside { pick }),
        2 => (any::<usize>(), 0_u64..4, 0_u64..4)
            .prop_map(|(pick, front, back)| Action::Resize { pick, front, back }),
        2 => (any::<usize>(), any_attributes())
            .prop_map(|(pick, attributes)| Action::Update { pick, attributes }),
    ]
}

/// A history that grows, shrinks and grows again.
fn history(longest: usize) -> impl Strategy<Value = Vec<Action>> {
    let phase = |removals| prop::collection::vec(action(removals), 0..longest);
    (phase(2), phase(60), phase(10))
        .prop_map(|(grow, shrink, mixed)| [grow, shrink, mixed].concat())
}

/// Does `action` to both and compares what they say.
fn apply<F: Fanout>(
    tree: &mut VadTree<F>,
    frames: &TestFrames,
    oracle: &mut Oracle,
    action: Action,
) {
    match action {
        Action::Insert { start, pages, attributes } => {
            let end = (start + pages - 1).min(Vpn::MAX.get());
            let new = Vad { start: Vpn::new(start), end: Vpn::new(end), attributes };
            let expected = match oracle.first_overlap(start, end) {
                Some(_) => Err(InsertError::Overlap),
                None => Ok(()),
            };
            let wanted = tree.frames_for_insert(frames, new.start);
            let before = frames.taken.get();
            assert_eq!(tree.insert(frames, new), expected);
            if expected.is_ok() {
                oracle.0.insert(start, (end, attributes));
                assert_eq!(frames.taken.get() - before, wanted);
            } else {
                assert_eq!(frames.taken.get(), before);
            }
        }
        Action::Remove { pick } => {
            let Some(start) = oracle.pick(pick) else {
                return;
            };
            let (end, attributes) = oracle.0.remove(&start).expect("picked");
            let removed = tree.remove(frames, Vpn::new(start));
            assert_eq!(removed, Some(Vad { attributes, ..vad(start, end) }));
        }
        Action::RemoveBeside { pick } => {
            let Some(start) = oracle.pick(pick) else {
                return;
            };
            for beside in [start.saturating_sub(1), start + 1] {
                if !oracle.0.contains_key(&beside) && beside <= Vpn::MAX.get() {
                    let image = frames.image(tree);
                    assert_eq!(tree.remove(frames, Vpn::new(beside)), None);
                    let update = |_: &mut VadAttributes| unreachable!("there is none");
                    assert_eq!(tree.update(frames, Vpn::new(beside), update), None);
                    assert_eq!(frames.image(tree), image);
                }
            }
        }
        Action::Resize { pick, front, back } => {
            let Some(start) = oracle.pick(pick) else {
                return;
            };
            let (end, attributes) = oracle.0[&start];
            let (new_start, new_end) = (start + front, end.saturating_sub(back));
            let resized =
                tree.resize(frames, Vpn::new(start), Vpn::new(new_start), Vpn::new(new_end));
            if new_start <= new_end && new_start <= Vpn::MAX.get() {
                assert_eq!(resized, Ok(Vad { attributes, ..vad(new_start, new_end) }));
                oracle.0.remove(&start);
                oracle.0.insert(new_start, (new_end, attributes));
            } else {
                assert_eq!(resized, Err(ResizeError::NotWithin));
            }
        }
        Action::Update { pick, attributes } => {
            let Some(start) = oracle.pick(pick) else {
                return;
            };
            let entry = oracle.0.get_mut(&start).expect("picked");
            entry.1 = attributes;
            let updated = tree.update(frames, Vpn::new(start), |old| *old = attributes);
            assert_eq!(updated, Some(Vad { attributes, ..vad(start, entry.0) }));
        }
    }
}

/// Compares every kind of lookup around `page`.
fn compare_lookups<F: Fanout>(
    tree: &VadTree<F>,
    frames: &TestFrames,
    oracle: &Oracle,
    page: u64,
    pages: u64,
) {
    let (vpn, last) = (Vpn::new(page), Vpn::new((page + pages).min(Vpn::MAX.get())));
    assert_eq!(tree.find(frames, vpn), oracle.first_overlap(page, page));
    assert_eq!(tree.first_overlap(frames, vpn, last), oracle.first_overlap(page, last.get()));
    let next = oracle.vads().find(|vad| vad.start >= vpn);
    assert_eq!(tree.next_at_or_after(frames, vpn), next);
    let previous = oracle.vads().rev().find(|vad| vad.start < vpn);
    assert_eq!(tree.previous_before(frames, vpn), previous);
    if oracle.first_overlap(page, last.get()).is_none() {
        let ends = (previous.map(|vad| vad.end), next.map(|vad| vad.start));
        assert_eq!(tree.neighbours(frames, vpn, last), ends);
    }
}

fn run<F: Fanout>(actions: Vec<Action>, probes: &[(u64, u64)]) {
    let frames = TestFrames::new(400);
    let mut tree = VadTree::<F>::new();
    let mut oracle = Oracle::default();
    let mut probe = probes.iter().cycle();
    for action in actions {
        apply(&mut tree, &frames, &mut oracle, action);
        assert_eq!(tree.check(&frames), Ok(()));
        assert_eq!(tree.len(), oracle.0.len() as u64);
        assert_eq!(tree.node_count() as usize, frames.taken.get());
        let &(page, pages) = probe.next().expect("there are probes");
        compare_lookups(&tree, &frames, &oracle, page, pages);
    }
    assert!(tree.iter(&frames).eq(oracle.vads()));
    for vad in oracle.vads() {
        assert_eq!(tree.remove(&frames, vad.start), Some(vad));
    }
    assert_eq!(tree.to_words(), [0, 0]);
    assert_eq!(frames.taken.get(), 0, "every frame is back");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn narrow_tree_agrees_with_maps(
        actions in history(400),
        probes in prop::collection::vec((clustered(), 0_u64..40), 64),
    ) {
        run::<Narrow>(actions, &probes);
    }

    #[test]
    fn full_tree_agrees_with_maps(
        actions in history(1500),
        probes in prop::collection::vec((clustered(), 0_u64..40), 64),
    ) {
        run::<FullFrame>(actions, &probes);
    }
}
