//! Has everything been given back? A machine's figures before its processes were made and
//! after they are gone are the same, once the retire engine has nothing left to do.

use ntmm::Manager;
use ntmm::frames::PageLocation;
use ntmm::platform::Platform;

use super::defect::Defect;

/// Figures of a machine at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    figures: [(&'static str, u64); FIGURES],
}

const FIGURES: usize = 9;

impl Baseline {
    /// The figures of `manager` now.
    #[must_use]
    pub fn of<P: Platform>(manager: &Manager<P>) -> Self {
        let mut located = [0; 8];
        for frame in manager.frame_views() {
            located[frame.location as usize] += 1;
        }
        let at = |location: PageLocation| located[location as usize];
        let slots = manager.paging_file_figures().map(|file| file.in_use.get()).sum();
        Self {
            figures: [
                ("free and zeroed frames", at(PageLocation::Free) + at(PageLocation::Zeroed)),
                ("standby frames", at(PageLocation::Standby)),
                ("modified frames", at(PageLocation::Modified)),
                ("modified-no-write frames", at(PageLocation::ModifiedNoWrite)),
                ("active frames", at(PageLocation::Active)),
                ("frames in transition", at(PageLocation::Transition)),
                ("charged pages", manager.memory_figures().committed.get()),
                ("slots of paging files", slots),
                ("address spaces", manager.spaces().count() as u64),
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
