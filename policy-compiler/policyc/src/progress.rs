//! How far long work is: a bar on standard error, on a terminal only, once it has taken a second.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that takes no longer than this shows no bar.
const SHORT: Duration = Duration::from_secs(1);

/// A bar that goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
}

impl Progress {
    /// Begins work of `total` steps, called `what`.
    #[must_use]
    pub fn start(what: &'static str, total: usize) -> Self {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self { bar, begun: Instant::now() }
    }

    /// So many steps are done.
    pub fn at(&self, done: usize) {
        if self.bar.is_hidden() && self.begun.elapsed() > SHORT {
            // Hidden still where standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
