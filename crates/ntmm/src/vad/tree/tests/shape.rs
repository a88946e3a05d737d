//! How full nodes are, how deep trees get, and what splitting and merging keep.

use super::*;

/// Numbers below `count`, each once, in an order without pattern.
fn shuffled(count: u64, step: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |i| (i + 1) * step % (count + 1) - 1)
}

#[test]
fn thousands_come_and_go_in_a_deep_tree() {
    let frames = TestFrames::new(4000);
    let mut tree = VadTree::<Narrow>::new();
    // 4001 and 4099 are prime: every number comes once.
    for (i, start) in shuffled(4000, 1237).enumerate() {
        tree.insert(&frames, vad(start * 3, start * 3 + start % 3)).expect("ranges are apart");
        if i % 64 == 0 {
            assert_eq!(tree.check(&frames), Ok(()));
        }
    }
    assert_eq!(tree.len(), 4000);
    assert!(tree.height >= 6, "height {}", tree.height);
    for (i, start) in shuffled(4000, 2371).enumerate() {
        assert!(tree.remove(&frames, Vpn::new(start * 3)).is_some());
        if i % 64 == 0 {
            assert_eq!(tree.check(&frames), Ok(()));
        }
    }
    assert_eq!(tree.to_words(), [0, 0]);
    assert_eq!(frames.taken.get(), 0);
}

#[test]
fn ordered_insertion_fills_leaves() {
    let count = 20 * FullFrame::LEAF as u64;
    let ascending: Vec<u64> = (0..count).collect();
    let descending: Vec<u64> = (0..count).rev().collect();
    for order in [ascending, descending] {
        let frames = TestFrames::new(64);
        let mut tree = VadTree::<FullFrame>::new();
        for start in order {
            tree.insert(&frames, vad(start * 16, start * 16 + 9)).expect("ranges are apart");
        }
        assert_eq!(tree.check(&frames), Ok(()));
        assert_eq!(tree.node_count(), 20 + 1);
    }
}

#[test]
fn ordered_insertion_fills_every_level() {
    let ascending: Vec<u64> = (0..256).collect();
    let descending: Vec<u64> = (0..256).rev().collect();
    // Downwards an inner node keeps one row of four free: at most 64 / 3 + 64 / 9 + ...
    for (order, most) in [(ascending, 64 + 16 + 4 + 1), (descending, 64 + 32)] {
        let frames = TestFrames::new(100);
        let mut tree = VadTree::<Narrow>::new();
        for start in order {
            tree.insert(&frames, vad(start, start)).expect("ranges are apart");
        }
        assert_eq!(tree.check(&frames), Ok(()));
        assert!(tree.node_count() <= most, "{} nodes", tree.node_count());
    }
}

#[test]
fn thin_nodes_are_merged() {
    let frames = TestFrames::new(400);
    let mut tree = VadTree::<FullFrame>::new();
    for start in 0..10_000 {
        tree.insert(&frames, vad(start, start)).expect("ranges are apart");
    }
    let full = tree.node_count();
    for start in (0..10_000).filter(|start| start % 16 != 0) {
        tree.remove(&frames, Vpn::new(start)).expect("present");
    }
    assert_eq!(tree.check(&frames), Ok(()));
    // A sixteenth is left; nodes a quarter full would need a quarter of the frames.
    assert!(tree.node_count() * 4 <= full + 8, "{} of {full}", tree.node_count());
}

/// What a view shows keeps with its record wherever that goes.
#[test]
fn view_travels_with_its_record() {
    let frames = TestFrames::new(2000);
    let mut tree = VadTree::<Narrow>::new();
    let view_at = |start: u64| View {
        area: ControlAreaId(start as u32),
        first: Pages::new(start * 8),
        inherit: if start.is_multiple_of(2) { Inherit::Share } else { Inherit::Unmap },
    };
    for start in shuffled(1000, 331) {
        let plain = vad(start, start);
        tree.insert(&frames, plain).expect("ranges are apart");
        assert_eq!(tree.find(&frames, Vpn::new(start)), Some(plain), "a new record is clean");
        let change = |attributes: &mut VadAttributes| attributes.view = Some(view_at(start));
        tree.update(&frames, Vpn::new(start), change).expect("present");
    }
    for start in shuffled(1000, 173).filter(|start| start % 5 != 0) {
        tree.remove(&frames, Vpn::new(start)).expect("present");
        let change = |attributes: &mut VadAttributes| attributes.commit_charge = Pages::ONE;
        tree.update(&frames, Vpn::new(start / 5 * 5), change).expect("present");
    }
    for start in (0..1000).step_by(5) {
        let found = tree.find(&frames, Vpn::new(start)).expect("present");
        assert_eq!(found.attributes.view, Some(view_at(start)));
    }
}

#[test]
fn root_travels_as_two_words() {
    let frames = TestFrames::new(100);
    let mut tree = VadTree::<Narrow>::new();
    assert_eq!(tree.to_words(), [0, 0]);
    for start in 0..100 {
        tree.insert(&frames, vad(start, start)).expect("ranges are apart");
        let copy = VadTree::<Narrow>::from_words(tree.to_words());
        assert_eq!(copy, tree);
        assert_eq!(copy.check(&frames), Ok(()));
    }
}
