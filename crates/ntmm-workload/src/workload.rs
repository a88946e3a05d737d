//! Drawing requests and hearing responses.
//!
//! In the manner of swarm testing each seed draws habits of its own: how many slots it uses, how
//! often it does what, which protections it likes. Most requests aim at pages that are believed
//! to suit them, with a bias to the borders of what is alike; some aim anywhere, and a few stray
//! out of the slots. The beliefs follow from the responses alone. They need not be right: a wrong
//! one makes a request fail, and that is worth a request too.

use crate::arena::{
    Arena, Change, FENCE, FENCE_SIZE, LOW, MARGIN, PAGE, Page, Place, Rights, SLOT_PAGES, SLOTS,
    slot_start,
};
use crate::outcome::Outcome;
use crate::random::Random;
use crate::request::{
    Exception, MEM_COMMIT, MEM_DECOMMIT, MEM_RELEASE, MEM_RESERVE, PAGE_EXECUTE, PAGE_EXECUTE_READ,
    PAGE_EXECUTE_READWRITE, PAGE_GUARD, PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, Request,
    Response, STATUS_GUARD_PAGE_VIOLATION, STATUS_SUCCESS, Width,
};

/// A seeded stream of requests.
///
/// [`request`](Self::request) and [`answer`](Self::answer) take turns; [`run`](Self::run) does the
/// turns. A workload of fewer steps is the beginning of one of more steps with the same seed.
#[derive(Clone, Debug)]
pub struct Workload {
    random: Random,
    habits: Habits,
    arena: Arena,
    sweep: Option<Sweep>,
    pending: Option<Request>,
    steps: u32,
    outcome: Outcome,
}

/// What a seed likes.
#[derive(Clone, Debug)]
struct Habits {
    /// Slots it uses, at least one.
    slots: usize,
    weights: [u64; KINDS.len()],
    protections: [u32; 4],
    /// One protection of so many has a guard.
    guards: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Reserve,
    Allocate,
    Commit,
    Decommit,
    Release,
    Protect,
    Query,
    Load,
    Store,
    Empty,
}

/// Every kind, with the weights it may be given.
const KINDS: [(Kind, [u64; 3]); 10] = [
    (Kind::Reserve, [1, 2, 4]),
    (Kind::Allocate, [4, 6, 8]),
    (Kind::Commit, [2, 4, 8]),
    (Kind::Decommit, [1, 2, 4]),
    (Kind::Release, [1, 2, 4]),
    (Kind::Protect, [2, 4, 8]),
    (Kind::Query, [2, 4, 6]),
    (Kind::Load, [10, 20, 40]),
    (Kind::Store, [10, 20, 40]),
    (Kind::Empty, [0, 1, 2]),
];

/// One range in so many strays.
const STRAYS: u64 = 32;

/// Pages at the start of which reservations begin.
const GRANULE: usize = 16;

/// Most accesses of a sweep.
const LONGEST_SWEEP: usize = 32;

/// A run of accesses at the same place of one page after the other.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    touch: Touch,
    width: Width,
    address: u64,
    left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Touch {
    Load,
    Store,
}

impl Touch {
    /// Whether it is expected to be worth while on a page: it is made, or meets a guard.
    const fn suits(self, page: Page) -> bool {
        match page {
            Page::Free | Page::Reserved | Page::Committed(Rights::Nothing) => false,
            Page::Committed(Rights::Load) => matches!(self, Self::Load),
            Page::Committed(Rights::LoadAndStore) | Page::Guarded(_) => true,
        }
    }
}

/// Bytes a call is made on.
#[derive(Clone, Copy, Debug)]
struct Range {
    base: u64,
    size: u64,
}

impl Workload {
    /// The workload of a seed, of so many requests.
    #[must_use]
    pub fn new(seed: u64, steps: u32) -> Self {
        let mut random = Random::new(seed);
        let habits = Habits {
            slots: random.pick(&[1, 2, 4, 8, SLOTS, SLOTS]),
            weights: KINDS.map(|(_, weights)| random.pick(&weights)),
            protections: [(); 4].map(|()| {
                random.pick(&[
                    PAGE_READWRITE,
                    PAGE_READONLY,
                    PAGE_NOACCESS,
                    PAGE_EXECUTE,
                    PAGE_EXECUTE_READ,
                    PAGE_EXECUTE_READWRITE,
                ])
            }),
            guards: random.pick(&[4, 8, 16]),
        };
        Self {
            random,
            habits,
            arena: Arena::new(),
            sweep: None,
            pending: None,
            steps,
            outcome: Outcome::new(seed, steps),
        }
    }

    /// What is to be done next: the same until it is answered; nothing when the workload is over.
    pub fn request(&mut self) -> Option<Request> {
        if self.pending.is_none() && self.outcome.steps < self.steps {
            self.pending = Some(self.draw());
        }
        self.pending
    }

    /// Hears what came of the request. Without one nothing happens.
    pub fn answer(&mut self, response: Response) {
        let Some(request) = self.pending.take() else { return };
        self.outcome.add(request, response);
        match (request, response) {
            (
                Request::Allocate { allocation_type, protect, .. },
                Response::Range { status: STATUS_SUCCESS, base, size },
            ) => {
                let change = match allocation_type {
                    MEM_RESERVE => Change::Reserved,
                    _ => Change::Committed { protect },
                };
                self.arena.change(base, size, change);
            }
            (
                Request::Free { free_type, .. },
                Response::Range { status: STATUS_SUCCESS, base, size },
            ) => {
                let change = match free_type {
                    MEM_DECOMMIT => Change::Decommitted,
                    _ => Change::Released,
                };
                self.arena.change(base, size, change);
            }
            (
                Request::Protect { protect, .. },
                Response::Protected { status: STATUS_SUCCESS, base, size, .. },
            ) => self.arena.change(base, size, Change::Committed { protect }),
            (
                Request::Query { .. },
                Response::Information { status: STATUS_SUCCESS, information },
            ) => self.arena.found(information),
            (_, Response::Exception(exception)) => self.raised(exception),
            _ => {}
        }
    }

    /// What the workload has seen so far.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// Makes all requests that are left.
    pub fn run(mut self, mut carry_out: impl FnMut(Request) -> Response) -> Outcome {
        while let Some(request) = self.request() {
            self.answer(carry_out(request));
        }
        self.outcome
    }

    fn raised(&mut self, exception: Exception) {
        self.sweep = None;
        if exception.code == STATUS_GUARD_PAGE_VIOLATION {
            self.arena.alarmed(exception);
        }
    }

    fn draw(&mut self) -> Request {
        match self.outcome.steps as usize {
            0 => {
                return Request::Allocate {
                    base: FENCE,
                    size: FENCE_SIZE,
                    allocation_type: MEM_RESERVE,
                    protect: PAGE_NOACCESS,
                };
            }
            step if step <= self.habits.slots && !self.random.one_in(4) => {
                return Request::Allocate {
                    base: slot_start(step - 1),
                    size: SLOT_PAGES as u64 * PAGE,
                    allocation_type: MEM_RESERVE | MEM_COMMIT,
                    protect: PAGE_READWRITE,
                };
            }
            _ => {}
        }
        if let Some(sweep) = self.sweep.take() {
            return self.touch(sweep);
        }
        match self.kind() {
            Kind::Reserve | Kind::Allocate if self.is_full() && !self.random.one_in(4) => {
                self.free(MEM_RELEASE)
            }
            Kind::Reserve => self.allocate(MEM_RESERVE),
            Kind::Allocate => self.allocate(MEM_RESERVE | MEM_COMMIT),
            Kind::Commit => self.allocate(MEM_COMMIT),
            Kind::Decommit => self.free(MEM_DECOMMIT),
            Kind::Release => self.free(MEM_RELEASE),
            Kind::Protect => {
                let Range { base, size } = self.range(Page::is_committed);
                Request::Protect { base, size, protect: self.protection() }
            }
            Kind::Query => {
                let place = self.place(|_| true);
                Request::Query { address: place.address() + self.random.below(PAGE) }
            }
            Kind::Load => self.begin_sweep(Touch::Load),
            Kind::Store => self.begin_sweep(Touch::Store),
            Kind::Empty => Request::EmptyWorkingSet,
        }
    }

    fn kind(&mut self) -> Kind {
        let mut left = self.random.below(self.habits.weights.iter().sum());
        for ((kind, _), weight) in KINDS.iter().zip(self.habits.weights) {
            if left < weight {
                return *kind;
            }
            left -= weight;
        }
        Kind::Load
    }

    fn protection(&mut self) -> u32 {
        let liked = self.random.pick(&self.habits.protections);
        let protect = if self.random.one_in(2) { PAGE_READWRITE } else { liked };
        let guarded = protect != PAGE_NOACCESS && self.random.one_in(self.habits.guards);
        if guarded { protect | PAGE_GUARD } else { protect }
    }

    fn anywhere(&mut self) -> Place {
        let slot = self.random.below(self.habits.slots as u64) as usize;
        Place { slot, page: self.random.below(SLOT_PAGES as u64) as usize }
    }

    /// Whether no page is believed to be free.
    fn is_full(&self) -> bool {
        let first = Place { slot: 0, page: 0 };
        self.arena.find(first, self.habits.slots, Page::is_free).is_none()
    }

    /// A page of a slot, which mostly suits.
    fn place(&mut self, suits: impl Fn(Page) -> bool) -> Place {
        let from = self.anywhere();
        if self.random.one_in(8) {
            return from;
        }
        let place = self.arena.find(from, self.habits.slots, suits).unwrap_or(from);
        if self.random.one_in(3) { self.arena.run_start(place) } else { place }
    }

    /// An address outside the slots: where nothing ever is, or in the margin of a slot.
    fn stray(&mut self) -> u64 {
        let slot = slot_start(self.random.below(self.habits.slots as u64) as usize);
        let margin = MARGIN * PAGE;
        match self.random.below(3) {
            0 => 1 + self.random.below(LOW - 1),
            1 => slot - 1 - self.random.below(margin),
            _ => slot + SLOT_PAGES as u64 * PAGE + self.random.below(margin - 2 * PAGE),
        }
    }

    /// Pages of which the first mostly suits, and bytes that touch them.
    fn range(&mut self, suits: impl Fn(Page) -> bool) -> Range {
        if self.random.one_in(STRAYS) {
            return Range { base: self.stray(), size: 1 + self.random.below(PAGE) };
        }
        let place = self.place(suits);
        let run = self.arena.run_length(place) as u64;
        let pages = match self.random.below(4) {
            0 => run,
            1 => run + 1,
            2 => 1,
            _ => self.random.skewed(place.left() as u64),
        };
        let aligned = Range { base: place.address(), size: pages * PAGE };
        if self.random.one_in(4) {
            let (start, end) = (self.random.below(PAGE), self.random.below(PAGE));
            return Range { base: aligned.base + start, size: aligned.size - end };
        }
        aligned
    }

    fn allocate(&mut self, allocation_type: u32) -> Request {
        let Range { base, size } = match allocation_type {
            MEM_COMMIT => self.range(|page| page == Page::Reserved),
            _ if self.random.one_in(8) => self.range(Page::is_free),
            _ => self.granules(),
        };
        Request::Allocate { base, size, allocation_type, protect: self.protection() }
    }

    /// Pages from where a reservation may begin, the first of which are mostly free.
    fn granules(&mut self) -> Range {
        let mut place = self.place(Page::is_free);
        place.page -= place.page % GRANULE;
        let pages = match self.random.below(4) {
            0 => place.left(),
            1 => self.random.skewed(place.left() as u64) as usize,
            2 => GRANULE,
            _ => self.arena.run_length(place),
        };
        Range { base: place.address(), size: pages as u64 * PAGE - self.random.below(PAGE) }
    }

    fn free(&mut self, free_type: u32) -> Request {
        let whole = match free_type {
            MEM_RELEASE => self.random.one_in(3),
            _ => self.random.one_in(8),
        };
        if whole {
            let mut place = self.place(|page| !page.is_free());
            if !self.random.one_in(4) {
                place.page -= place.page % GRANULE;
            }
            return Request::Free { base: place.address(), size: 0, free_type };
        }
        let Range { base, size } = match free_type {
            MEM_DECOMMIT => self.range(Page::is_committed),
            _ => self.range(|page| !page.is_free()),
        };
        Request::Free { base, size, free_type }
    }

    fn begin_sweep(&mut self, touch: Touch) -> Request {
        let width = if self.random.one_in(3) { Width::Byte } else { Width::Quadword };
        if self.random.one_in(STRAYS) {
            let address = self.stray();
            return self.touch(Sweep { touch, width, address, left: 1 });
        }
        let place = if self.random.one_in(6) {
            self.place(|_| true)
        } else {
            self.place(|page| touch.suits(page))
        };
        // Few places in a page, so that loads meet what was stored.
        let offset = match self.random.below(8) {
            0 => PAGE - 1,
            1 => PAGE - 4,
            2 => PAGE - 8,
            3..6 => 0,
            _ => self.random.below(8) * 8,
        };
        let left = match self.random.below(4) {
            0 => self.arena.run_length(place).min(LONGEST_SWEEP),
            _ => 1,
        };
        self.touch(Sweep { touch, width, address: place.address() + offset, left })
    }

    /// The next access of a sweep.
    fn touch(&mut self, sweep: Sweep) -> Request {
        let Sweep { touch, width, address, left } = sweep;
        if left > 1 {
            self.sweep = Some(Sweep { address: address + PAGE, left: left - 1, ..sweep });
        }
        match touch {
            Touch::Load => Request::Load { address, width },
            Touch::Store => {
                let value = match width {
                    Width::Byte => self.random.next() & 0xFF,
                    Width::Quadword => self.random.next(),
                };
                Request::Store { address, width, value }
            }
        }
    }
}
