//! Asks the loop from another thread.

use std::fmt;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use crate::source::Input;
use crate::sync::View;

/// How long the loop may take; a write of very many rules can take longer.
pub(crate) const THOUGHT: Duration = Duration::from_secs(10);

/// Why the loop did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It is busy.
    Busy,
    /// It has ended.
    Ended,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unanswered::Busy => {
                write!(f, "policyd was busy for more than {}s, try again", THOUGHT.as_secs())
            }
            Unanswered::Ended => f.write_str("policyd is ending"),
        }
    }
}

/// What the loop behind `inbox` sees, by a question that it can answer quickly.
pub(crate) fn look<T: Send + 'static>(
    inbox: &Sender<Input>,
    question: impl FnOnce(&View<'_>) -> T + Send + 'static,
) -> Result<T, Unanswered> {
    let (to, answer) = mpsc::sync_channel(1);
    let asked = Input::Asked(Box::new(move |view| {
        // Whoever asked may have given up.
        let _ = to.send(question(view));
    }));
    inbox.send(asked).map_err(|_| Unanswered::Ended)?;
    answer.recv_timeout(THOUGHT).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => Unanswered::Busy,
        mpsc::RecvTimeoutError::Disconnected => Unanswered::Ended,
    })
}
