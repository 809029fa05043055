//! What is said over the agent's socket: a line of JSON for the question, a line for the answer.
//!
//! Both carry a version, which changes where an older reader would misunderstand; an answer may gain
//! fields without that. Whatever the other side sends, reading is bounded in size and in time, and
//! writing in time.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::desired::Desired;
use super::pod::PodDetail;
use super::status::Status;
use crate::denied::Denial;

/// The version of what is said.
pub const VERSION: u32 = 1;
/// The longest question, in bytes.
pub(super) const QUESTION_LIMIT: usize = 16 * 1024;
/// The longest answer, in bytes; a ruleset of 100,000 rules is a tenth of it.
pub(super) const ANSWER_LIMIT: usize = 256 * 1024 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// What is in force.
    Status,
    /// What the kernel should hold.
    Desired,
    /// What is denied from now on, an answer for each packet.
    Trace,
    /// What is in force for a pod of this node, by `NAMESPACE/NAME`.
    Pod(String),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Why there is no answer.
    Refused(String),
    /// What is in force.
    Status(Box<Status>),
    /// What the kernel should hold.
    Desired(Box<Desired>),
    /// A packet was denied.
    Denied(Box<Denial>),
    /// Nothing was denied for a while.
    Quiet,
    /// What is in force for a pod of this node.
    Pod(Box<PodDetail>),
}

/// A question or an answer with its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message<T> {
    version: u32,
    #[serde(rename = "is")]
    content: T,
}

/// What is read before anything else.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// Why nothing was understood, or nothing could be said.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// It ended before a whole line had come.
    #[error("it closed the connection without a whole line")]
    Closed,
    /// A line without end.
    #[error("it sent a line of more than {limit} bytes")]
    TooLong {
        /// The longest that is read.
        limit: usize,
    },
    /// Nothing, or not enough, in time.
    #[error("it kept us waiting for more than {}s", limit.as_secs())]
    TimedOut {
        /// How long it was given.
        limit: Duration,
    },
    /// Another version.
    #[error("it speaks version {theirs}, and we version {VERSION}: use the same policyd")]
    Version {
        /// Theirs.
        theirs: u32,
    },
    /// No JSON, or not of the expected form.
    #[error("it sent what we do not understand")]
    Malformed(#[source] serde_json::Error),
    /// The socket.
    #[error("the connection failed")]
    Socket(#[source] io::Error),
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    /// What has come and is not used yet.
    come: Vec<u8>,
}

impl Line {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, come: Vec::new() }
    }

    /// Says one thing, within `time`.
    ///
    /// # Errors
    /// Where the other side does not take it.
    pub(super) fn say<T: Serialize>(
        &mut self,
        content: T,
        time: Duration,
    ) -> Result<(), WireError> {
        let message = Message { version: VERSION, content };
        let mut text = serde_json::to_vec(&message).map_err(WireError::Malformed)?;
        text.push(b'\n');
        let clock = Clock::start(time);
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(clock.left()?)).map_err(WireError::Socket)?;
            match self.stream.write(rest) {
                Ok(0) => return Err(WireError::Closed),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) => bear(error)?,
            }
        }
        Ok(())
    }

    /// Hears one thing of at most `limit` bytes, within `time`.
    ///
    /// # Errors
    /// Where that does not come, or is nothing that we know.
    pub(super) fn hear<T: DeserializeOwned>(
        &mut self,
        limit: usize,
        time: Duration,
    ) -> Result<T, WireError> {
        let line = self.line(limit, Clock::start(time))?;
        let Version { version } = serde_json::from_slice(&line).map_err(WireError::Malformed)?;
        if version != VERSION {
            return Err(WireError::Version { theirs: version });
        }
        let message: Message<T> = serde_json::from_slice(&line).map_err(WireError::Malformed)?;
        Ok(message.content)
    }

    fn line(&mut self, limit: usize, clock: Clock) -> Result<Vec<u8>, WireError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.come[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.come.split_off(searched + end + 1);
                return Ok(std::mem::replace(&mut self.come, rest));
            }
            searched = self.come.len();
            if searched > limit {
                return Err(WireError::TooLong { limit });
            }
            self.stream.set_read_timeout(Some(clock.left()?)).map_err(WireError::Socket)?;
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(WireError::Closed),
                Ok(count) => self.come.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) => bear(error)?,
            }
        }
    }
}

/// How long the other side has in all, however small its pieces are.
#[derive(Clone, Copy)]
struct Clock {
    end: Instant,
    limit: Duration,
}

impl Clock {
    fn start(limit: Duration) -> Self {
        Self { end: Instant::now() + limit, limit }
    }

    fn left(self) -> Result<Duration, WireError> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(WireError::TimedOut { limit: self.limit }) } else { Ok(left) }
    }
}

/// Goes on after what only means that time has passed.
fn bear(error: io::Error) -> Result<(), WireError> {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    match error.kind() {
        Interrupted | TimedOut | WouldBlock => Ok(()),
        _ => Err(WireError::Socket(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::{config, damaged};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample;

    /// What is waited for in vain.
    const SOON: Duration = Duration::from_secs(1);
    /// Longer than anything here takes, however busy the machine.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn pair() -> (UnixStream, Line) {
        let (one, other) = UnixStream::pair().unwrap();
        (one, Line::new(other))
    }

    #[test]
    fn what_is_said_is_heard_one_line_after_the_other() {
        let (one, mut other) = pair();
        let mut one = Line::new(one);
        one.say(Question::Status, PATIENCE).unwrap();
        one.say(Question::Pod("shop/a\n".to_owned()), PATIENCE).unwrap();
        let mut hear = || other.hear::<Question>(QUESTION_LIMIT, PATIENCE).unwrap();
        assert_eq!([hear(), hear()], [Question::Status, Question::Pod("shop/a\n".to_owned())]);
    }

    #[test]
    fn whatever_else_comes_is_an_error_in_bounded_time_and_size() {
        let long = format!("{}\n", "x".repeat(40_000));
        for (sent, expected) in [
            ("", "it closed the connection without a whole line"),
            ("{\"version\":1", "it closed the connection without a whole line"),
            ("\n", "it sent what we do not understand"),
            ("[1]\n", "it sent what we do not understand"),
            ("{\"version\":1,\"is\":\"everything\"}\n", "it sent what we do not understand"),
            ("\u{7f}\0{}\n", "it sent what we do not understand"),
            (
                "{\"version\":2,\"is\":{\"new\":[]}}\n",
                "it speaks version 2, and we version 1: use the same policyd",
            ),
            (&long, "it sent a line of more than 16384 bytes"),
        ] {
            let (mut one, mut other) = pair();
            one.write_all(sent.as_bytes()).unwrap();
            drop(one);
            let error = other.hear::<Question>(QUESTION_LIMIT, PATIENCE).unwrap_err();
            assert_eq!(error.to_string(), expected, "{sent:.40}");
        }
    }

    #[test]
    fn neither_one_who_sends_slowly_nor_one_who_does_not_read_is_waited_for() {
        let (mut one, mut other) = pair();
        let begun = Instant::now();
        let dribble = std::thread::spawn(move || while one.write_all(b"x").is_ok() {});
        let error = other.hear::<Question>(usize::MAX - 1, SOON).unwrap_err();
        assert!(matches!(error, WireError::TimedOut { .. }), "{error}");
        drop(other);
        dribble.join().unwrap();

        let (_held, mut other) = pair();
        let answer = Answer::Refused("x".repeat(4_000_000));
        let error = other.say(answer, SOON).unwrap_err();
        assert!(matches!(error, WireError::TimedOut { .. }), "{error}");
        assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    }
    /// What a question looks like on the wire, and an answer.
    const SAID: [&str; 3] = [
        "{\"version\":1,\"is\":\"status\"}\n",
        "{\"version\":1,\"is\":{\"pod\":\"shop/a\"}}\n",
        "{\"version\":1,\"is\":{\"refused\":\"no\"}}\n",
    ];

    proptest! {
        #![proptest_config(config(500))]

        #[test]
        fn whatever_comes_is_heard_or_refused(
            sent in prop_oneof![
                vec(any::<u8>(), 0..300),
                sample::select(&SAID[..]).prop_flat_map(|said| damaged(said.as_bytes().to_vec())),
                (0..3_000_usize, "[\\[{\"]").prop_map(|(depth, open)| {
                    format!("{{\"version\":1,\"is\":{}\n", open.repeat(depth)).into_bytes()
                }),
            ],
        ) {
            let (mut one, mut other) = pair();
            one.write_all(&sent).unwrap();
            drop(one);
            let lines = sent.split(|byte| *byte == b'\n').count() - 1;
            let mut heard = 0;
            while !matches!(
                other.hear::<Question>(QUESTION_LIMIT, PATIENCE),
                Err(WireError::Closed)
            ) {
                heard += 1;
                prop_assert!(heard <= lines);
            }
            prop_assert_eq!(heard, lines);
        }
    }

    #[test]
    fn no_more_is_kept_of_a_line_without_end_than_its_limit() {
        let (mut one, mut other) = pair();
        let endless = std::thread::spawn(move || while one.write_all(&[b'x'; 4096]).is_ok() {});
        let error = other.hear::<Question>(QUESTION_LIMIT, PATIENCE).unwrap_err();
        assert!(matches!(error, WireError::TooLong { .. }), "{error}");
        assert!(other.come.len() <= 2 * QUESTION_LIMIT + 1, "{}", other.come.len());
        drop(other);
        endless.join().unwrap();
    }
}
