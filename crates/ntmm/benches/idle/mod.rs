//! A machine that does nothing, at once: what is measured on it is the manager's own work.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use ntmm::frames::available::Thresholds;
use ntmm::platform::{
    Executive, FileId, FlushScope, FlushTicket, FrameRange, IoToken, Irql, Mmu, PagingIo,
    PagingRequest, Ram, SystemTime, Trace,
};
use ntmm::{
    BugCheck, Config, Engine, Event, Manager, Notification, Operation, Platform, Step, WaitKey,
};
use ntmm_pte::{Pages, PagingMode, Pfn};
use ntmm_sync::frame::FrameWords;

/// Frames of the machine.
const FRAMES: u32 = 16_384;

/// What zeroing a frame does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Zeroing {
    /// Nothing, where no page is ever written to and a frame that becomes a table has been one.
    #[allow(dead_code, reason = "each benchmark has use for one of them")]
    Skipped,
    /// It zeroes the frame.
    #[allow(dead_code, reason = "each benchmark has use for one of them")]
    Done,
}

/// A machine that does nothing, at once.
pub struct Idle<M> {
    ram: Vec<FrameWords>,
    done: RefCell<Vec<IoToken>>,
    irql: Cell<Irql>,
    zeroing: Zeroing,
    mode: PhantomData<M>,
}

impl<M: PagingMode> Ram for Idle<M> {
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        &self.ram[pfn.get() as usize]
    }
    fn zero(&self, pfn: Pfn) {
        if self.zeroing == Zeroing::Done {
            self.frame(pfn).iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        std::iter::once(FrameRange { start: Pfn::new(0), count: Pages::new(FRAMES.into()) })
    }
    fn cache_colors(&self) -> u32 {
        64
    }
}

impl<M: PagingMode> Mmu for Idle<M> {
    fn flush(&self, _scope: FlushScope<'_>) -> FlushTicket {
        FlushTicket::new(0)
    }
    fn acknowledged(&self, _ticket: FlushTicket) -> bool {
        true
    }
}

impl<M: PagingMode> PagingIo for Idle<M> {
    fn submit(&self, request: &PagingRequest<'_>) {
        self.done.borrow_mut().push(request.token);
    }
}

impl<M: PagingMode> Executive for Idle<M> {
    fn now(&self) -> SystemTime {
        SystemTime(0)
    }
    fn raise(&self) -> Irql {
        self.irql.replace(Irql::DISPATCH)
    }
    fn lower(&self, previous: Irql) {
        self.irql.set(previous);
    }
    fn relax(&self) {}
    fn wake(&self, _key: WaitKey) {}
    fn request(&self, _engine: Engine) {}
    fn random(&self) -> u64 {
        4
    }
    fn notify(&self, _notification: Notification) {}
    fn bug_check(&self, bug_check: BugCheck) -> ! {
        panic!("{bug_check}")
    }
}

impl<M: PagingMode> Trace for Idle<M> {
    const ENABLED: bool = false;
    fn event(&self, _event: &Event) {}
}

impl<M: PagingMode> Platform for Idle<M> {
    type Paging = M;
}

/// A manager on such a machine, with a paging file.
pub fn manager<M: PagingMode>(zeroing: Zeroing) -> Manager<Idle<M>> {
    let machine = Idle {
        ram: (0..FRAMES).map(|_| std::array::from_fn(|_| AtomicU64::new(0))).collect(),
        done: RefCell::default(),
        irql: Cell::new(Irql::PASSIVE),
        zeroing,
        mode: PhantomData,
    };
    machine.ram.iter().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    let thresholds = Thresholds { minimum: 26, plenty: 400, low: 400, high: 1200 };
    let config =
        Config { modified_maximum: Some(1), thresholds: Some(thresholds), ..Config::default() };
    let manager = Manager::new(machine, config).expect("enough memory");
    let size = Pages::new(16_384);
    manager.create_paging_file(FileId(0), size, size).expect("a paging file");
    manager
}

/// Steps an operation to its end.
pub fn run<M: PagingMode, O: Operation<Idle<M>>>(
    manager: &Manager<Idle<M>>,
    mut operation: O,
) -> O::Output {
    loop {
        match manager.step(&mut operation) {
            Step::Done(output) => return output,
            Step::Raise(status) => panic!("{status}"),
            Step::Wait(_) => complete(manager),
        }
    }
}

/// Completes the transfers that were submitted.
pub fn complete<M: PagingMode>(manager: &Manager<Idle<M>>) {
    for token in manager.platform().done.take() {
        manager.complete_io(token, Ok(()));
    }
}
