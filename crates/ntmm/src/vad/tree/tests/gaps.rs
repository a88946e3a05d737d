//! A hole found is the lowest or highest there is, as a scan of every page finds it.

use super::*;

const PAGES: u64 = 2048;

/// Whether a hole at `start` meets the request, looking at every page of it.
fn meets(used: &[bool], request: &GapRequest, start: u64) -> bool {
    let end = start + request.pages.get() - 1;
    start.is_multiple_of(request.alignment.get())
        && start >= request.low.get()
        && end <= request.high.get()
        && (start..=end).all(|page| !used.get(page as usize).copied().unwrap_or(false))
}

fn any_request() -> impl Strategy<Value = GapRequest> {
    (
        prop_oneof![1_u64..12, 1_u64..200],
        prop::sample::select(&[1_u64, 2, 16, 16, 3, 64][..]),
        prop_oneof![Just(0), 0..PAGES],
        prop_oneof![Just(PAGES + 100), 0..PAGES],
    )
        .prop_map(|(pages, alignment, low, high)| GapRequest {
            pages: Pages::new(pages),
            alignment: Pages::new(alignment),
            low: Vpn::new(low),
            high: Vpn::new(high),
        })
}

/// Ranges and the holes before them, from dense to sparse.
fn layout() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let dense = prop::collection::vec((0_u64..3, 1_u64..4), 0..700);
    let granular = prop::collection::vec((0_u64..40, 1_u64..20), 0..100);
    prop_oneof![dense, granular]
}

fn compare<F: Fanout>(layout: &[(u64, u64)], requests: &[GapRequest]) {
    let frames = TestFrames::new(600);
    let mut tree = VadTree::<F>::new();
    let mut used = std::vec![false; PAGES as usize];
    let mut next = 0;
    for &(hole, pages) in layout {
        let start = next + hole;
        next = start + pages;
        if next > PAGES {
            break;
        }
        tree.insert(&frames, vad(start, next - 1)).expect("ranges are apart");
        used[start as usize..next as usize].fill(true);
    }
    for request in requests {
        let ascending = || 0..=PAGES + 100;
        let lowest = ascending().find(|&start| meets(&used, request, start));
        assert_eq!(tree.lowest_gap(&frames, *request), lowest.map(Vpn::new), "{request:?}");
        let highest = ascending().rev().find(|&start| meets(&used, request, start));
        assert_eq!(tree.highest_gap(&frames, *request), highest.map(Vpn::new), "{request:?}");
    }
}

proptest! {
    #[test]
    fn gaps_agree_with_a_scan(
        layout in layout(),
        requests in prop::collection::vec(any_request(), 24),
    ) {
        compare::<Narrow>(&layout, &requests);
        compare::<FullFrame>(&layout, &requests);
    }
}

#[test]
fn requests_that_cannot_be_met() {
    let frames = TestFrames::new(1);
    let mut tree = VadTree::<FullFrame>::new();
    tree.insert(&frames, vad(0x10, 0x1F)).expect("there is a frame");
    let whole =
        GapRequest { pages: Pages::ONE, alignment: Pages::ONE, low: Vpn::new(0), high: Vpn::MAX };
    let refused = [
        GapRequest { pages: Pages::ZERO, ..whole },
        GapRequest { pages: Pages::new(u64::MAX), ..whole },
        GapRequest { alignment: Pages::ZERO, ..whole },
        GapRequest { low: Vpn::new(8), high: Vpn::new(7), ..whole },
        GapRequest { low: Vpn::new(0x10), high: Vpn::new(0x1F), ..whole },
    ];
    for request in refused {
        assert_eq!(tree.lowest_gap(&frames, request), None, "{request:?}");
        assert_eq!(tree.highest_gap(&frames, request), None, "{request:?}");
    }
    let far = GapRequest { alignment: Pages::new(u64::MAX), low: Vpn::new(1), ..whole };
    assert_eq!(tree.lowest_gap(&frames, far), None);
    assert_eq!(tree.highest_gap(&frames, whole), Some(Vpn::MAX));
    assert_eq!(tree.lowest_gap(&frames, whole), Some(Vpn::new(0)));
}

/// A hole large enough in pages that the alignment makes useless does not end the search.
#[test]
fn misaligned_hole_is_passed_over() {
    let frames = TestFrames::new(1);
    let mut tree = VadTree::<FullFrame>::new();
    for (start, end) in [(0x10, 0x10), (0x2F, 0x2F), (0x40, 0x7F)] {
        tree.insert(&frames, vad(start, end)).expect("there is a frame");
    }
    let request = GapRequest {
        pages: Pages::new(0x10),
        alignment: Pages::new(0x10),
        low: Vpn::new(0x10),
        high: Vpn::MAX,
    };
    assert_eq!(tree.lowest_gap(&frames, request), Some(Vpn::new(0x30)));
    let below = GapRequest { high: Vpn::new(0x7F), low: Vpn::new(0), ..request };
    assert_eq!(tree.highest_gap(&frames, below), Some(Vpn::new(0x30)));
}
