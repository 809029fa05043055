//! How far long work is: a line on standard error, on a terminal only, once it has taken a second.
//!
//! A thread waits for that second, since the work itself may be one long call; it ends with the work.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that takes no longer than this shows nothing.
const SHORT: Duration = Duration::from_secs(1);
/// How often what spins turns.
const TURN: Duration = Duration::from_millis(120);

/// A line that goes when this is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    waiting: Option<(Sender<Infallible>, JoinHandle<()>)>,
}

impl Progress {
    /// Begins work of `total` steps, called `what`.
    #[must_use]
    pub fn start(what: impl Into<Cow<'static, str>>, total: usize) -> Self {
        Self::show(what, Some(total), "{msg} {bar:30} {pos}/{len}")
    }

    /// Begins work of which nobody knows how much it is, called `what`.
    #[must_use]
    pub fn spin(what: impl Into<Cow<'static, str>>) -> Self {
        Self::show(what, None, "{spinner} {msg}")
    }

    fn show(what: impl Into<Cow<'static, str>>, total: Option<usize>, template: &str) -> Self {
        let total = total.map(|total| u64::try_from(total).unwrap_or(u64::MAX));
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        let waiting = io::stderr().is_terminal().then(|| after_a_while(&bar));
        Self { bar, waiting }
    }

    /// So many steps are done.
    pub fn at(&self, done: usize) {
        self.bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
    }

    /// What is done now.
    pub fn say(&self, what: impl Into<Cow<'static, str>>) {
        self.bar.set_message(what);
    }
}

/// Shows `bar` once it has been there for long, unless the sender goes before.
fn after_a_while(bar: &ProgressBar) -> (Sender<Infallible>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let bar = bar.clone();
    let thread = thread::spawn(move || {
        if receiver.recv_timeout(SHORT) == Err(RecvTimeoutError::Timeout) {
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TURN);
        }
    });
    (sender, thread)
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.waiting.take() {
            drop(sender);
            // It does not panic; if it did, there would be no line to clear.
            let _ = thread.join();
        }
        self.bar.finish_and_clear();
    }
}
