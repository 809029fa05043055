//! How far the reading of a cluster is, on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line on standard error that goes when this is dropped; none where that is no terminal.
pub(super) struct Progress(ProgressBar);

impl Progress {
    pub(super) fn start() -> Self {
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} reading {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// So many of so many (where the server says) have come.
    pub(super) fn at(&self, what: &str, read: usize, total: Option<usize>) {
        self.0.set_message(match total {
            Some(total) => format!("{what}: {read} of {total}"),
            None => format!("{what}: {read}"),
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
