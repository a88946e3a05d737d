//! Has everything been given back? A machine's figures before its processes were made and
//! after they are gone are the same, once the engines have nothing left to do.
//!
//! Sections leave something behind, once there has been one: the tables of records, and the space
//! that prototypes lie in with nothing in it. That is counted on its own and left out.

use ntmm::Manager;
use ntmm::frames::PageLocation;
use ntmm::platform::Platform;

use super::defect::Defect;

/// Figures of a machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    figures: [(&'static str, u64); FIGURES],
}

const FIGURES: usize = 12;

impl Baseline {
    /// The figures of `manager` now.
    #[must_use]
    pub fn of<P: Platform>(manager: &Manager<P>) -> Self {
        let mut located = [0; 8];
        for frame in manager.frame_views() {
            located[frame.location as usize] += 1;
        }
        let at = |location: PageLocation| located[location as usize];
        let system = manager.space_of_prototypes().and_then(|space| manager.space_view(space));
        let spaces = manager.spaces().count() as u64 - u64::from(system.is_some());
        let mut kept = system.map_or(0, |space| space.header().commit());
        manager.for_each_section_record_frame(|_| kept += 1);
        let [areas, subsections, objects] =
            manager.section_records().map(|records| u64::from(records.in_use));
        let slots = manager.paging_file_figures().map(|file| file.in_use.get()).sum();
        Self {
            figures: [
                (
                    "free and zeroed frames",
                    at(PageLocation::Free) + at(PageLocation::Zeroed) + kept,
                ),
                ("standby frames", at(PageLocation::Standby)),
                ("modified frames", at(PageLocation::Modified)),
                ("modified-no-write frames", at(PageLocation::ModifiedNoWrite)),
                ("active frames", at(PageLocation::Active) - kept),
                ("frames in transition", at(PageLocation::Transition)),
                ("charged pages", manager.memory_figures().committed.get() - kept),
                ("slots of paging files", slots),
                ("address spaces", spaces),
                ("control areas", areas),
                ("subsections", subsections),
                ("section objects", objects),
            ],
        }
    }
}

/// Compares a machine with what it was at `baseline`. Meant for a machine that
/// [`audit`](super::audit()) finds in order.
///
/// # Errors
/// The first figure that is not what it was.
pub fn audit_teardown<P: Platform>(
    manager: &Manager<P>,
    baseline: &Baseline,
) -> Result<(), Defect> {
    let now = Baseline::of(manager);
    for ((what, expected), (_, found)) in baseline.figures.into_iter().zip(now.figures) {
        if expected != found {
            return Err(Defect::Leak { what, expected, found });
        }
    }
    Ok(())
}
