//! The VAD tree against `BTreeMap` among 4096 descriptors: lookup, insertion with removal, and
//! the search for a hole.
//!
//! `cargo bench -p ntmm --bench vad_tree`

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ntmm::vad::tree::{
    Commitment, GapRequest, NodeFrames, Placeholder, ProtectionChange, Secured, Vad, VadAttributes,
    VadKind, VadTree,
};
use ntmm_pte::{Pages, Pfn, Protection, Vpn};
use ntmm_sync::atomic::AtomicU64;
use ntmm_sync::frame::FrameWords;

const VADS: u64 = 4096;

/// Frames of ordinary memory.
struct Frames {
    words: Vec<FrameWords>,
    free: RefCell<Vec<Pfn>>,
}

impl Frames {
    fn new(count: u32) -> Self {
        let zero = |_| std::array::from_fn(|_| AtomicU64::new(0));
        Self {
            words: (0..count).map(zero).collect(),
            free: RefCell::new((0..count).map(Pfn::new).collect()),
        }
    }
}

impl NodeFrames for Frames {
    fn node(&self, pfn: Pfn) -> &FrameWords {
        &self.words[pfn.get() as usize]
    }

    fn allocate(&self) -> Option<Pfn> {
        self.free.borrow_mut().pop()
    }

    fn free(&self, pfn: Pfn) {
        self.free.borrow_mut().push(pfn);
    }
}

/// What a `BTreeMap` keeps under the first page.
#[derive(Clone, Copy)]
struct Value {
    end: Vpn,
    attributes: VadAttributes,
}

const ATTRIBUTES: VadAttributes = VadAttributes {
    kind: VadKind::Private,
    protection: Protection::READWRITE,
    commitment: Commitment::Committed,
    protection_change: ProtectionChange::Allowed,
    placeholder: Placeholder::Never,
    secured: Secured::No,
    commit_charge: Pages::ONE,
    view: None,
};

/// A fixed sequence of numbers without pattern (splitmix64).
fn numbers() -> impl Iterator<Item = u64> {
    (1_u64..).map(|i| {
        let mut z = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// Ranges of 1 to 48 pages at multiples of 64 pages, in an order without pattern. One place in
/// five stays empty.
fn vads() -> Vec<Vad> {
    let places = VADS * 5 / 4;
    let mut starts: Vec<u64> = (0..places).map(|place| place * 64 + 0x10).collect();
    for (i, random) in (1..starts.len()).rev().zip(numbers()) {
        starts.swap(i, (random % (i as u64 + 1)) as usize);
    }
    starts.truncate(VADS as usize);
    starts
        .into_iter()
        .zip(numbers())
        .map(|(start, random)| Vad {
            start: Vpn::new(start),
            end: Vpn::new(start + random % 48),
            attributes: ATTRIBUTES,
        })
        .collect()
}

struct Maps {
    frames: Frames,
    tree: VadTree,
    map: BTreeMap<Vpn, Value>,
    vads: Vec<Vad>,
}

fn maps() -> Maps {
    let frames = Frames::new(256);
    let mut tree = VadTree::new();
    let mut map = BTreeMap::new();
    let vads = vads();
    for &vad in &vads {
        tree.insert(&frames, vad).expect("ranges are apart and frames enough");
        map.insert(vad.start, Value { end: vad.end, attributes: vad.attributes });
    }
    tree.check(&frames).expect("the tree is sound");
    Maps { frames, tree, map, vads }
}

fn lookup(criterion: &mut Criterion) {
    let Maps { frames, tree, map, vads } = maps();
    let pages: Vec<Vpn> = vads
        .iter()
        .cycle()
        .zip(numbers())
        .take(1 << 16)
        .map(|(vad, random)| {
            Vpn::new(vad.start.get() + random % (vad.end.get() - vad.start.get() + 1))
        })
        .collect();
    let mut group = criterion.benchmark_group("lookup_4096");
    let mut page = pages.iter().cycle();
    group.bench_function("vad_tree", |bencher| {
        bencher.iter(|| {
            let &vpn = page.next().expect("endless");
            tree.find(&frames, black_box(vpn))
        });
    });
    let mut page = pages.iter().cycle();
    group.bench_function("btree_map", |bencher| {
        bencher.iter(|| {
            let &vpn = page.next().expect("endless");
            map.range(..=black_box(vpn))
                .next_back()
                .filter(|(_, value)| value.end >= vpn)
                .map(|(&start, value)| Vad { start, end: value.end, attributes: value.attributes })
        });
    });
    group.finish();
}

fn insert_and_remove(criterion: &mut Criterion) {
    let Maps { frames, mut tree, mut map, vads } = maps();
    let mut group = criterion.benchmark_group("remove_insert_4096");
    let mut next = vads.iter().cycle();
    group.bench_function("vad_tree", |bencher| {
        bencher.iter(|| {
            let vad = next.next().expect("endless");
            let removed = tree.remove(&frames, black_box(vad.start)).expect("present");
            tree.insert(&frames, removed).expect("was there before");
        });
    });
    let mut next = vads.iter().cycle();
    group.bench_function("btree_map", |bencher| {
        bencher.iter(|| {
            let vad = next.next().expect("endless");
            let removed = map.remove(&black_box(vad.start)).expect("present");
            map.insert(vad.start, removed);
        });
    });
    group.finish();
}

fn gap_search(criterion: &mut Criterion) {
    let Maps { frames, tree, .. } = maps();
    let request = |pages| GapRequest {
        pages: Pages::new(pages),
        alignment: Pages::new(16),
        low: Vpn::new(0x10),
        high: Vpn::new(0x7_FFFF),
    };
    let mut group = criterion.benchmark_group("gap_4096");
    for (name, pages) in [("16_pages", 16), ("256_pages", 256), ("only_after_all", 1 << 16)] {
        group.bench_function(format!("lowest_{name}"), |bencher| {
            bencher.iter(|| tree.lowest_gap(&frames, black_box(request(pages))));
        });
    }
    group.bench_function("highest_256_pages", |bencher| {
        let below = GapRequest { high: Vpn::new(VADS * 64), ..request(256) };
        bencher.iter(|| tree.highest_gap(&frames, black_box(below)));
    });
    group.finish();
}

criterion_group!(benches, lookup, insert_and_remove, gap_search);
criterion_main!(benches);
