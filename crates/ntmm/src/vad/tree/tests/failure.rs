//! An insertion that gets too few frames leaves everything as it was.

use super::*;

/// Inserts `ranges`, each first with every number of frames that is too few.
fn insert_with_shortages<F: Fanout>(starts: &[u64]) {
    let frames = TestFrames::new(600);
    let mut tree = VadTree::<F>::new();
    for &start in starts {
        let new = vad(start * 4, start * 4 + 2);
        let wanted = tree.frames_for_insert(&frames, new.start);
        if tree.find(&frames, new.start).is_some() {
            frames.allow(wanted);
            assert_eq!(tree.insert(&frames, new), Err(InsertError::Overlap));
            continue;
        }
        let before = (tree.to_words(), frames.image(&tree), frames.taken.get());
        for given in 0..wanted {
            frames.allow(given);
            assert_eq!(tree.insert(&frames, new), Err(InsertError::NoFrames));
            frames.allow_all();
            let after = (tree.to_words(), frames.image(&tree), frames.taken.get());
            assert_eq!(after, before, "{given} of {wanted} frames");
        }
        frames.allow(wanted);
        assert_eq!(tree.insert(&frames, new), Ok(()));
        assert_eq!(frames.taken.get(), before.2 + wanted);
        assert_eq!(tree.check(&frames), Ok(()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn shortage_changes_nothing(starts in prop::collection::vec(0_u64..1000, 1..300)) {
        insert_with_shortages::<Narrow>(&starts);
    }
}

#[test]
fn shortage_changes_nothing_in_full_nodes() {
    let mixed: Vec<u64> = (0..3000).map(|i| i * 7919 % 3001).collect();
    insert_with_shortages::<FullFrame>(&mixed);
}

#[test]
fn inverted_range_is_refused() {
    let frames = TestFrames::new(1);
    let mut tree = VadTree::<FullFrame>::new();
    assert_eq!(tree.insert(&frames, vad(5, 4)), Err(InsertError::Inverted));
    assert_eq!(frames.taken.get(), 0);
}
