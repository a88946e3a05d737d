//! What the tests of the tree share: frames that can run short, a fanout of four, and an oracle
//! of plain maps.

extern crate std;

mod failure;
mod gaps;
mod model;
mod rules;
mod shape;

use std::boxed::Box;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::vec::Vec;

use ntmm_pte::{Pages, Pfn, Protection, Vpn};
use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::FrameWords;
use proptest::prelude::*;

use super::*;
use crate::section::ControlAreaId;

/// Nodes of at most four rows, so that a few hundred descriptors make a deep tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Narrow {}

impl sealed::Sealed for Narrow {}

impl Fanout for Narrow {
    const LEAF: usize = 4;
    const INNER: usize = 4;
}

/// Frames full of old contents, of which a limited number may be taken at a time.
struct TestFrames {
    words: Vec<Box<FrameWords>>,
    free: RefCell<Vec<u32>>,
    taken: Cell<usize>,
    limit: Cell<usize>,
}

impl TestFrames {
    fn new(frames: u32) -> Self {
        let stale = |_| Box::new(std::array::from_fn(|_| AtomicU64::new(0xDEAD_BEEF_DEAD_BEEF)));
        Self {
            words: (0..frames).map(stale).collect(),
            free: RefCell::new((0..frames).collect()),
            taken: Cell::new(0),
            limit: Cell::new(frames as usize),
        }
    }

    /// Lets `more` frames be taken from now on.
    fn allow(&self, more: usize) {
        self.limit.set(self.taken.get() + more);
    }

    fn allow_all(&self) {
        self.limit.set(self.words.len());
    }

    /// The contents of every node of `tree`, to tell whether anything has changed.
    fn image<F: Fanout>(&self, tree: &VadTree<F>) -> Vec<(Pfn, Vec<u64>)> {
        let mut image = Vec::new();
        tree.for_each_node(self, |pfn| {
            let words = self.node(pfn).iter().map(|word| word.load(Ordering::Relaxed));
            image.push((pfn, words.collect()));
        });
        image
    }
}

impl NodeFrames for TestFrames {
    fn node(&self, pfn: Pfn) -> &FrameWords {
        assert!(!self.free.borrow().contains(&pfn.get()), "a freed frame is used");
        &self.words[pfn.get() as usize]
    }

    fn allocate(&self) -> Option<Pfn> {
        if self.taken.get() == self.limit.get() {
            return None;
        }
        let pfn = self.free.borrow_mut().pop()?;
        self.taken.set(self.taken.get() + 1);
        Some(Pfn::new(pfn))
    }

    fn free(&self, pfn: Pfn) {
        assert!(!self.free.borrow().contains(&pfn.get()), "a frame is freed twice");
        self.taken.set(self.taken.get() - 1);
        self.free.borrow_mut().push(pfn.get());
    }
}

const KINDS: [VadKind; 9] = [
    VadKind::Private,
    VadKind::View,
    VadKind::PhysicalMapping,
    VadKind::ImageView,
    VadKind::AddressWindow,
    VadKind::WriteWatch,
    VadKind::LargePages,
    VadKind::Rotate,
    VadKind::LargePageView,
];

const PLAIN: VadAttributes = VadAttributes {
    kind: VadKind::Private,
    protection: Protection::READWRITE,
    commitment: Commitment::Reserved,
    protection_change: ProtectionChange::Allowed,
    placeholder: Placeholder::Never,
    secured: Secured::No,
    commit_charge: Pages::ZERO,
    view: None,
};

fn vad(start: u64, end: u64) -> Vad {
    Vad { start: Vpn::new(start), end: Vpn::new(end), attributes: PLAIN }
}

fn any_attributes() -> impl Strategy<Value = VadAttributes> {
    (
        prop::sample::select(&KINDS[..]),
        0_u64..32,
        prop::sample::select(&[Commitment::Reserved, Commitment::Committed][..]),
        prop::sample::select(&[ProtectionChange::Allowed, ProtectionChange::Refused][..]),
        prop::sample::select(&[Placeholder::Never, Placeholder::Empty, Placeholder::Replaced][..]),
        prop::sample::select(&[Secured::No, Secured::One, Secured::Multiple][..]),
        0_u64..1 << 51,
        any_view(),
    )
        .prop_map(
            |(
                kind,
                protection,
                commitment,
                protection_change,
                placeholder,
                secured,
                charge,
                view,
            )| {
                VadAttributes {
                    kind,
                    protection: Protection::from_low_bits(protection),
                    commitment,
                    protection_change,
                    placeholder,
                    secured,
                    commit_charge: Pages::new(charge),
                    view,
                }
            },
        )
}

fn any_view() -> impl Strategy<Value = Option<View>> {
    let inherit = prop::sample::select(&[Inherit::Share, Inherit::Unmap][..]);
    let view = (any::<u32>(), any::<u64>(), inherit).prop_map(|(area, first, inherit)| View {
        area: ControlAreaId(area),
        first: Pages::new(first),
        inherit,
    });
    prop::option::of(view)
}

/// What the tree must hold: last page and attributes by first page.
#[derive(Default)]
struct Oracle(BTreeMap<u64, (u64, VadAttributes)>);

impl Oracle {
    fn vads(&self) -> impl DoubleEndedIterator<Item = Vad> + '_ {
        self.0.iter().map(|(&start, &(end, attributes))| Vad {
            start: Vpn::new(start),
            end: Vpn::new(end),
            attributes,
        })
    }

    fn first_overlap(&self, start: u64, end: u64) -> Option<Vad> {
        self.vads().find(|vad| vad.start.get() <= end && vad.end.get() >= start)
    }

    /// The first page of the descriptor number `pick`, counted round.
    fn pick(&self, pick: usize) -> Option<u64> {
        let count = self.0.len();
        (count > 0).then(|| *self.0.keys().nth(pick % count).expect("below the count"))
    }
}
