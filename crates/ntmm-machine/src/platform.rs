//! The platform traits of the manager, implemented by the simulated machine.

use ntmm::events::{Event, Notification};
use ntmm::operation::WaitKey;
use ntmm::platform::{
    Engine, Executive, FileId, FlushScope, FlushTicket, FrameRange, Irql, Mmu, PagingIo,
    PagingRequest, Platform, Ram, SystemTime, Trace,
};
use ntmm::status::{BugCheck, NtStatus};
use ntmm_pte::Pfn;
use ntmm_sync::frame::FrameWords;

use crate::format::Hardware;
use crate::halt::{Halt, Violation};
use crate::machine::{Machine, tag_of};
use crate::switch::{Pause, Suspension};
use crate::transfers::{Transfer, TransferFrames};

impl<M: Hardware, T: Trace> Platform for Machine<M, T> {
    type Paging = M;
}

impl<M: Hardware, T: Trace> Ram for Machine<M, T> {
    #[inline]
    fn frame(&self, pfn: Pfn) -> &FrameWords {
        self.ram.lend(self.slot(pfn))
    }

    fn zero(&self, pfn: Pfn) {
        self.ram.zero(self.slot(pfn));
    }

    fn memory(&self) -> impl Iterator<Item = FrameRange> {
        let lent = self.config.lent_at_boot.as_ref().unwrap_or(&self.config.memory);
        lent.iter().copied()
    }

    fn cache_colors(&self) -> u32 {
        self.config.cache_colors
    }
}

impl<M: Hardware, T: Trace> Mmu for Machine<M, T> {
    fn flush(&self, scope: FlushScope<'_>) -> FlushTicket {
        match scope {
            FlushScope::Pages { space, pages } => self.begin_flush(tag_of(space), Some(pages)),
            FlushScope::Space { space } => self.begin_flush(tag_of(space), None),
        }
    }

    fn acknowledged(&self, ticket: FlushTicket) -> bool {
        self.is_acknowledged(ticket)
    }
}

impl<M: Hardware, T: Trace> PagingIo for Machine<M, T> {
    fn submit(&self, request: &PagingRequest<'_>) {
        let irql = self.current().irql();
        if irql != Irql::PASSIVE {
            Violation::SubmittedWithLock { cpu: self.current.get(), irql }.raise();
        }
        let mut transfers = self.transfers.borrow_mut();
        let &PagingRequest { file, offset, length, .. } = request;
        let frames = request.frames.len();
        if !transfers.storage().accepts(file, offset, length, frames) {
            Violation::BadTransfer { file: file.0, frames, offset, length }.raise();
        }
        let transfer = Transfer {
            direction: request.direction,
            file,
            offset,
            length: length as usize,
            frames: request.frames.iter().map(|pfn| self.slot(*pfn)).collect::<TransferFrames>(),
        };
        transfers.submit(request.token, transfer, self.clock.nanoseconds(), &self.ram);
    }

    fn file_size(&self, file: FileId) -> Result<u64, NtStatus> {
        self.enter_file_system();
        self.transfers.borrow().storage().file_size(file)
    }

    fn set_file_size(&self, file: FileId, size: u64) -> Result<(), NtStatus> {
        self.enter_file_system();
        self.transfers.borrow_mut().storage_mut().set_file_size(file, size)
    }
}

impl<M: Hardware, T: Trace> Executive for Machine<M, T> {
    fn now(&self) -> SystemTime {
        self.clock.now()
    }

    #[inline]
    fn raise(&self) -> Irql {
        let irql = &self.current().irql;
        irql.replace(irql.get().max(Irql::DISPATCH))
    }

    #[inline]
    fn lower(&self, previous: Irql) {
        let irql = &self.current().irql;
        let from = irql.get();
        // While a halted machine unwinds, guards lower levels in whatever order they go.
        if (previous > from || from < Irql::DISPATCH) && !std::thread::panicking() {
            Violation::Lowered { cpu: self.current.get(), from, to: previous }.raise();
        }
        irql.set(previous);
    }

    fn relax(&self) {
        match self.suspend(Pause::Spinning) {
            Suspension::Resumed => self.deliver_shootdowns(),
            Suspension::NoFiber => Violation::Deadlock { cpu: self.current.get() }.raise(),
        }
    }

    #[inline]
    fn interleave(&self) {
        self.preemption_point();
    }

    fn fail_allocation(&self) -> bool {
        self.refuses_allocation()
    }

    fn wake(&self, key: WaitKey) {
        self.scheduler.borrow_mut().wake(key);
    }

    fn request(&self, engine: Engine) {
        self.scheduler.borrow_mut().request(engine);
    }

    fn random(&self) -> u64 {
        self.executive_random.next()
    }

    fn notify(&self, notification: Notification) {
        self.notifications.borrow_mut().push(notification);
        self.count(|statistics| statistics.notifications += 1);
    }

    fn bug_check(&self, bug_check: BugCheck) -> ! {
        Halt::BugCheck(bug_check).raise()
    }
}

impl<M: Hardware, T: Trace> Trace for Machine<M, T> {
    const ENABLED: bool = T::ENABLED;

    #[inline]
    fn event(&self, event: &Event) {
        self.tracer().event(event);
    }
}
