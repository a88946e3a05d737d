//! What the machine says of itself: lines that begin with `@`, a word and a JSON object.

use ntmm::frames::{FrameUse, PageLocation};
use ntmm::{AddressSpaceId, NtStatus};

use crate::{kernel, processor, say, time};

/// Figures of a process that is over.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Its number, from 1 on.
    pub id: usize,
    /// Its program.
    pub name: &'static str,
    /// How it ended.
    pub status: NtStatus,
    /// References it says it made.
    pub references: u64,
    /// Bytes it says it compared.
    pub verified: u64,
}

/// Frames of the manager.
pub fn frames() -> u64 {
    kernel().manager.memory_figures().lent.into()
}

fn slots() -> (u64, u64) {
    let files = kernel().manager.paging_file_figures();
    files.fold((0, 0), |(peak, slots), file| (peak + file.peak.get(), slots + file.size.get() - 1))
}

/// The machine is up.
pub fn ready(ram_frames: u64) {
    say!(
        "@ready {{\"cpus\":{},\"frames\":{ram_frames},\"manager_frames\":{},\"paging_file\":{}}}",
        processor::online().count(),
        frames(),
        slots().1,
    );
}

/// A process is over; its address space is still there.
pub fn process(figures: &Figures, space: AddressSpaceId) {
    let manager = &kernel().manager;
    let Some(view) = manager.space_view(space) else { return };
    let header = view.header();
    say!(
        "@process {{\"id\":{},\"name\":\"{}\",\"status\":{},\"references\":{},\"verified\":{},\
         \"pages\":{},\"faults\":{{\"demand_zero\":{},\"transition\":{},\"page_file\":{}}},\
         \"working_set_peak\":{},\"working_set\":{}}}",
        figures.id,
        figures.name,
        figures.status.code(),
        figures.references,
        figures.verified,
        header.commit_peak(),
        header.demand_zero_faults(),
        header.transition_faults(),
        header.page_file_faults(),
        header.peak(),
        header.size(),
    );
}

/// Everything is over.
pub fn result() {
    let manager = &kernel().manager;
    let counters = manager.counters();
    let figures = manager.memory_figures();
    let located = |wanted: PageLocation| {
        let there = manager.frame_views().filter(|view| view.location == wanted);
        there.filter(|view| view.usage != FrameUse::Absent).count()
    };
    let (peak_slots, slots) = slots();
    let now = time::now().0;
    say!(
        "@result {{\"seconds\":{}.{:07},\"faults\":{{\"demand_zero\":{},\"transition\":{},\
         \"page_file\":{},\"collided\":{},\"total\":{}}},\
         \"paging_file\":{{\"reads\":{},\"pages_read\":{},\"writes\":{},\"pages_written\":{},\
         \"peak_slots\":{peak_slots},\"slots\":{slots}}},\
         \"machine\":{{\"paging\":\"amd64\",\"cpus\":{},\"frames\":{},\"zeroed\":{},\"free\":{},\
         \"standby\":{},\"modified\":{},\"modified_no_write\":{},\"bad\":{},\"active\":{},\
         \"transition\":{},\"committed\":{},\"commit_limit\":{}}}}}",
        now / 10_000_000,
        now % 10_000_000,
        counters.demand_zero.get(),
        counters.transition.get(),
        counters.page_file.get(),
        counters.collided.get(),
        counters.page_faults.get(),
        counters.page_read_ios.get(),
        counters.pages_read.get(),
        counters.page_write_ios.get(),
        counters.pages_written.get(),
        processor::online().count(),
        frames(),
        figures.zeroed,
        figures.free,
        figures.standby,
        figures.modified,
        figures.modified_no_write,
        figures.bad,
        located(PageLocation::Active),
        located(PageLocation::Transition),
        figures.committed.get(),
        figures.commit_limit.get(),
    );
}
