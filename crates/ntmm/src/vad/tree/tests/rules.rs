//! The bits of a record, and what the auditor finds.

use super::*;

/// The flags word of a record that holds `attributes`, and the attributes read back.
fn through_record(attributes: VadAttributes) -> (u64, VadAttributes) {
    let frames = TestFrames::new(1);
    let mut tree = VadTree::<FullFrame>::new();
    tree.insert(&frames, Vad { attributes, ..vad(1, 2) }).expect("there is a frame");
    let (leaf, row) = tree.floor(&frames, 1).expect("present");
    let word = leaf.record(row).view().word(0).load(Ordering::Relaxed);
    (word, leaf.vad(row).attributes)
}

/// Words put together by hand from the columns of spec 7.2 (Server 2003, 64 bits: commit charge
/// 0-50, NoChange 51, VadType 52-54, MemCommit 55, Protection 56-60, PrivateMemory 63).
#[test]
fn flags_word_is_nts() {
    let committed =
        VadAttributes { commitment: Commitment::Committed, commit_charge: Pages::new(5), ..PLAIN };
    assert_eq!(through_record(committed).0, 0x8480_0000_0000_0005);
    let image = VadAttributes {
        kind: VadKind::ImageView,
        protection: Protection::EXECUTE_WRITECOPY,
        protection_change: ProtectionChange::Refused,
        ..PLAIN
    };
    assert_eq!(through_record(image).0, 0x0728_0000_0000_0000);
    let window = VadAttributes { kind: VadKind::AddressWindow, ..PLAIN };
    assert_eq!(through_record(window).0, 0x8430_0000_0000_0000);
}

#[test]
fn attributes_come_back() {
    for kind in KINDS {
        for protection in Protection::all() {
            let attributes = VadAttributes { kind, protection, ..PLAIN };
            assert_eq!(through_record(attributes).1, attributes);
        }
    }
}

#[test]
fn commit_charge_stops_at_its_largest() {
    let attributes = VadAttributes { commit_charge: Pages::new(u64::MAX), ..PLAIN };
    let (word, back) = through_record(attributes);
    assert_eq!(word, 0x8407_FFFF_FFFF_FFFF);
    assert_eq!(back.commit_charge, Pages::new((1 << 51) - 1));
}

/// A tree of three levels, the frame of its root and that of its first leaf.
fn sample(frames: &TestFrames) -> (VadTree<Narrow>, Pfn, Pfn) {
    let mut tree = VadTree::new();
    for start in 0..16 {
        tree.insert(frames, vad(start * 10, start * 10 + 4)).expect("ranges are apart");
    }
    let (level, root) = tree.root().expect("not empty");
    assert!(level > 0);
    let mut first = root;
    for _ in 0..level {
        first = Inner::new(frames.node(first)).child(0);
    }
    (tree, root, first)
}

#[test]
fn auditor_finds_what_is_broken() {
    type Damage = fn(&TestFrames, Pfn, Pfn);
    type Defect = fn(Pfn, Pfn) -> TreeDefect;
    let damages: [(Damage, Defect); 9] = [
        (
            |frames, _, leaf| Leaf::new(frames.node(leaf)).header().set_level(1),
            |_, leaf| TreeDefect::Level(leaf),
        ),
        (
            |frames, _, leaf| Leaf::new(frames.node(leaf)).header().set_length(0),
            |_, leaf| TreeDefect::Length(leaf),
        ),
        (
            |frames, _, leaf| Leaf::new(frames.node(leaf)).header().set_length(5),
            |_, leaf| TreeDefect::Length(leaf),
        ),
        (
            |frames, root, _| Inner::new(frames.node(root)).header().set_length(1),
            |root, _| TreeDefect::Length(root),
        ),
        (
            |frames, _, leaf| Leaf::new(frames.node(leaf)).set_range(0, 0, 10),
            |_, leaf| TreeDefect::Order(leaf),
        ),
        (
            |frames, _, leaf| Leaf::new(frames.node(leaf)).set_range(1, 12, 11),
            |_, leaf| TreeDefect::Order(leaf),
        ),
        (
            |frames, _, leaf| {
                let leaf = Leaf::new(frames.node(leaf));
                leaf.set_range(leaf.len(), 500, 501);
            },
            |_, leaf| TreeDefect::Order(leaf),
        ),
        (
            |frames, root, _| {
                let inner = Inner::new(frames.node(root));
                let summary = inner.child_summary(1);
                inner.set_child_summary(1, Summary { gap: summary.gap + 1, ..summary });
            },
            |root, _| TreeDefect::Summary(root),
        ),
        (
            |frames, _, leaf| {
                let words = frames.node(leaf);
                let key = |row: usize| &words[8 + row];
                let slot = key(0).load(Ordering::Relaxed) & 0xFF;
                let other = key(1).load(Ordering::Relaxed) & !0xFF;
                key(1).store(other | slot, Ordering::Relaxed);
            },
            |_, leaf| TreeDefect::Slots(leaf),
        ),
    ];
    for (damage, defect) in damages {
        let frames = TestFrames::new(20);
        let (tree, root, leaf) = sample(&frames);
        assert_eq!(tree.check(&frames), Ok(()));
        damage(&frames, root, leaf);
        assert_eq!(tree.check(&frames), Err(defect(root, leaf)));
    }
}

#[test]
fn auditor_counts() {
    let frames = TestFrames::new(20);
    let (mut tree, ..) = sample(&frames);
    tree.count += 1;
    assert_eq!(tree.check(&frames), Err(TreeDefect::Count { found: 16, recorded: 17 }));
    tree.count -= 1;
    let found = tree.nodes;
    tree.nodes -= 1;
    let defect = TreeDefect::Nodes { found, recorded: found - 1 };
    assert_eq!(tree.check(&frames), Err(defect));
}
