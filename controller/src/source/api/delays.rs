//! How long the source waits, and for what.

use std::time::Duration;

/// How long the source waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delays {
    /// For an answer to begin. The server itself gives a request a minute, which one that is busy may
    /// need for the first page of a large list.
    pub(super) answer: Duration,
    /// For more of a list.
    pub(super) list: Duration,
    /// For more of a watch. The server sends a bookmark each minute, so that a longer silence means a
    /// connection that is dead, or at worst a server without bookmarks.
    pub(super) watch: Duration,
    /// For a refusal after all of a watch that the server has taken: one that begins too long ago is
    /// refused at once.
    pub(super) grace: Duration,
    /// For more of a streamed list, before it is asked for in pages.
    pub(super) stall: Duration,
    /// After how long a failure a watch is not taken up where it was: the server may since have been
    /// put back to an earlier state, and would not say so.
    pub(super) forget: Duration,
    /// Before the next attempt: first, and at most. Chance shortens it by up to half.
    pub(super) pause: (Duration, Duration),
    /// How long it must have worked for the pauses to begin anew.
    pub(super) sound: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            answer: Duration::from_mins(1),
            list: Duration::from_mins(1),
            watch: Duration::from_secs(75),
            grace: Duration::from_millis(500),
            stall: Duration::from_secs(30),
            forget: Duration::from_mins(5),
            pause: (Duration::from_millis(400), Duration::from_secs(30)),
            sound: Duration::from_secs(30),
        }
    }
}
