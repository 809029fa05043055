//! What comes out of the inbox: objects for the engine, how their source fares, and questions.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::Sync;
use super::scoping::Scoping;
use crate::source::{Change, Input, Kind, Question};

/// How long inputs are taken in before something else has its turn.
const INTAKE: Duration = Duration::from_millis(100);

/// What a look into the inbox has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Changes at most.
    Nothing,
    /// Something that readiness depends on.
    News,
    End,
}

impl Sync {
    /// Takes in what waits, for which it waits itself until something is due.
    pub(super) fn take_in(
        &mut self,
        inbox: &Receiver<Input>,
        questions: &mut Vec<Question>,
    ) -> Came {
        let mut next = match inbox.recv_timeout(self.idle_for()) {
            Ok(input) => Some(input),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Came::End,
        };
        let until = Instant::now() + INTAKE;
        let mut came = Came::Nothing;
        // Of several listings that wait, only the last still holds.
        let mut newest = None;
        while let Some(input) = next {
            match input {
                Input::Stop => return Came::End,
                Input::Asked(question) => questions.push(question),
                Input::SourceEnded => self.intake.end(),
                Input::Unchanged => self.intake.heard(),
                Input::Listed(listing) => {
                    self.intake.heard();
                    came = Came::News;
                    newest = Some(listing);
                }
                Input::Standing(standing) => {
                    self.intake.heard();
                    came = Came::News;
                    self.outlets.metrics.standing(&standing);
                    self.intake.stand(standing);
                }
                Input::Changed(change) => {
                    self.intake.heard();
                    self.change(*change);
                }
                Input::Watched(watched) => {
                    self.intake.heard();
                    if let Some(scoping) = &mut self.scoping
                        && let Some(seen) =
                            scoping.take(*watched, &mut self.intake, &mut self.engine)
                    {
                        self.awaited.arrive(Kind::Pod, seen);
                    }
                }
            }
            next = if Instant::now() < until { inbox.try_recv().ok() } else { None };
        }
        if let Some(listing) = newest {
            self.intake.take(*listing, &mut self.engine);
        }
        if self.follow_scope() {
            came = Came::News;
        }
        self.intake.listened();
        if self.intake.has_ended() { Came::End } else { came }
    }

    /// Takes in what is said of one object, or of all of a kind.
    fn change(&mut self, change: Change) {
        let change = match &mut self.scoping {
            Some(scoping) => scoping.hold(change, &self.engine),
            None => Some(change),
        };
        let Some(change) = change else { return };
        let (kind, seen, one) = (change.subject.kind, change.seen, change.subject.object.is_some());
        let event = change.event.as_ref();
        let scoped = self.scoping.is_some()
            && event.is_some_and(|event| Scoping::depends_on(event, &self.engine));
        if self.intake.apply(change, &mut self.engine) {
            if let Some(scoping) = self.scoping.as_mut().filter(|_| scoped) {
                scoping.notice();
            }
            if one {
                self.awaited.arrive(kind, seen);
            }
        }
    }

    /// Watches what has come into the scope, and forgets what has left it. Whether the pods that are
    /// watched stand otherwise than before.
    fn follow_scope(&mut self) -> bool {
        let Some(scoping) = &mut self.scoping else { return false };
        scoping.follow(&mut self.intake, &mut self.engine, &self.outlets.metrics);
        let standing = scoping.standing();
        if self.intake.standing().get(&Kind::Pod) == Some(&standing) {
            return false;
        }
        self.outlets.metrics.standing(&standing);
        self.intake.stand(standing);
        true
    }
}
