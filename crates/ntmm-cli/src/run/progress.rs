//! The progress bar, on a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of the simulation between two looks at the bar.
const STEPS: u32 = 256;

/// A progress bar on standard error; nothing when that is no terminal.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
    steps: u32,
}

/// Whether a bar is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// When standard error is a terminal.
    OnTerminal,
    /// Never.
    Hidden,
}

impl Bar {
    /// A bar at its beginning.
    #[must_use]
    pub fn new(visibility: Visibility) -> Self {
        let target = match visibility {
            Visibility::OnTerminal => ProgressDrawTarget::stderr(),
            Visibility::Hidden => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        if let Ok(style) =
            ProgressStyle::with_template("{msg:>8} {wide_bar} {percent:>3}% {elapsed}")
        {
            bar.set_style(style);
        }
        Self { bar, steps: 0 }
    }

    /// Says what is going on.
    pub fn begin(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    /// Moves the bar; `progress` is asked now and then only.
    pub fn step(&mut self, progress: impl FnOnce() -> (u64, u64)) {
        self.steps += 1;
        if self.steps == STEPS {
            self.steps = 0;
            let (done, all) = progress();
            self.set(done, all);
        }
    }

    /// So much of all is done.
    pub fn set(&self, done: u64, all: u64) {
        self.bar.set_length(all);
        self.bar.set_position(done);
    }

    /// Does something that writes to the terminal.
    pub fn beside<R>(&self, action: impl FnOnce() -> R) -> R {
        self.bar.suspend(action)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
