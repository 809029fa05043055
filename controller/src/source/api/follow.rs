//! Follows the objects of one kind, for ever.
//!
//! The library's watcher lists, watches, takes up a watch that ended where it was, and lists anew
//! where the server has forgotten that place. This adds what it leaves open: how long to wait after a
//! failure, what to say of it, and when it is over. It is over when the server holds a watch for us
//! and has said nothing against it for a moment, or as soon as an event comes.
//!
//! A list that has begun is kept apart until it has ended: one that breaks off changes nothing.

use std::future::pending;
use std::pin::pin;
use std::sync::mpsc::Sender;

use futures_util::StreamExt as _;
use kube::Client;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::connection::ApiError;
use super::delays::Delays;
use super::kinds::Followed;
use super::patience::Taken;
use super::pause::Pause;
use super::reason::{About, Failure, Turn};
use super::slim::Object;
use super::stage::{self, Stage};
use crate::metrics::Received;
use crate::source::scoped::{Said, Watched};
use crate::source::{Change, Input, Standing};

/// Nobody listens any more.
#[derive(Debug)]
pub(super) struct Gone;

/// A part of the objects of a kind.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// Its number, under which it tells.
    pub(super) watch: u64,
    /// Only objects of this namespace.
    pub(super) namespace: Option<String>,
    /// Only objects with these labels.
    pub(super) labels: Option<String>,
}

/// How the server is asked.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    /// Where it is, for messages.
    pub(super) server: String,
    /// Only objects with these fields.
    pub(super) fields: Option<String>,
    /// Which part of the kind it is, where it is followed in parts.
    pub(super) part: Option<Part>,
    /// Where it is counted what comes.
    pub(super) received: Received,
    /// Whether the list comes as a stream.
    pub(super) streaming: bool,
    /// How long it may take.
    pub(super) delays: Delays,
}

impl Part {
    fn says(&self, said: Said) -> Input {
        Input::Watched(Box::new(Watched { watch: self.watch, said }))
    }
}

impl Asking {
    fn config(&self) -> watcher::Config {
        let mut config = watcher::Config::default();
        config.field_selector.clone_from(&self.fields);
        config.label_selector = self.part.as_ref().and_then(|part| part.labels.clone());
        if self.streaming { config.streaming_lists() } else { config }
    }
}

/// Follows the objects of a kind.
pub(super) struct Follower<T: Followed, C> {
    inbox: Sender<Input>,
    connect: C,
    asking: Asking,
    standing: Standing,
    pause: Pause,
    /// Between lists that the server forgets again. It answers, so that the first is not put off by
    /// the failures before.
    expiry: Pause,
    /// The list that is coming in.
    stage: Option<Stage<T>>,
    /// Until when more of it must have come.
    stalled_at: Option<Instant>,
}

impl<T, C> Follower<T, C>
where
    T: Followed,
    C: Fn(watch::Sender<Taken>) -> Result<Client, ApiError>,
{
    /// Says that this kind will be followed.
    pub(super) fn new(inbox: Sender<Input>, asking: Asking, connect: C) -> Result<Self, Gone> {
        let standing = Standing { kind: T::FOLLOWED, listed: false, failing: None };
        let (pause, expiry) = (Pause::new(&asking.delays), Pause::new(&asking.delays));
        let follower =
            Self { inbox, connect, asking, standing, pause, expiry, stage: None, stalled_at: None };
        follower.tell_standing()?;
        Ok(follower)
    }

    /// Follows it until nobody listens.
    pub(super) async fn run(mut self) -> Gone {
        loop {
            if let Err(gone) = self.follow().await {
                return gone;
            }
        }
    }

    /// Follows it from a new list on, until another is needed.
    async fn follow(&mut self) -> Result<(), Gone> {
        self.stage = None;
        self.stalled_at = None;
        let (sender, mut taken) = watch::channel(None);
        let client = match (self.connect)(sender) {
            Ok(client) => client,
            Err(error) => {
                self.fails(Failure::of_connection(&error)).await?;
                return Ok(());
            }
        };
        let namespace = self.asking.part.as_ref().and_then(|part| part.namespace.as_deref());
        let mut events = pin!(watcher(T::api(client, namespace), self.asking.config()));
        loop {
            let over_at = self.over_at(*taken.borrow_and_update());
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event)?,
                    Some(Err(error)) => {
                        let failure = Failure::of(&error, self.about());
                        if self.fails(failure).await? {
                            return Ok(());
                        }
                    }
                    None => return Ok(()),
                },
                told = taken.changed() => if told.is_err() { return Ok(()) },
                () = at(over_at) => self.works()?,
                () = at(self.stalled_at) => {
                    self.ask_in_pages("no end of the list");
                    return Ok(());
                }
            }
        }
    }

    fn about(&self) -> About<'_> {
        About { resource: T::PLURAL, group: T::GROUP, server: &self.asking.server }
    }

    /// When the failure is over, if nothing happens until then.
    fn over_at(&self, taken: Taken) -> Option<Instant> {
        let in_doubt = self.standing.failing.is_some() || !self.pause.is_sound();
        let waiting = in_doubt && self.stage.is_none() && self.standing.listed;
        taken.filter(|_| waiting).map(|since| since + self.asking.delays.grace)
    }

    fn take(&mut self, event: watcher::Event<Object<T>>) -> Result<(), Gone> {
        match event {
            watcher::Event::Init => {
                self.stage = Some(Stage::default());
                self.expect_more();
            }
            watcher::Event::InitApply(object) => {
                self.asking.received.objects.inc();
                if let Some(stage) = &mut self.stage {
                    stage.add(&object.node);
                }
                self.expect_more();
            }
            watcher::Event::InitDone => self.listed()?,
            watcher::Event::Apply(object) => {
                self.asking.received.objects.inc();
                self.works()?;
                let change = stage::applied::<T>(&object.node);
                self.tell(change)?;
            }
            watcher::Event::Delete(object) => {
                self.asking.received.objects.inc();
                self.works()?;
                self.tell(stage::deleted::<T>(&object.node))?;
            }
        }
        Ok(())
    }

    fn expect_more(&mut self) {
        self.stalled_at = self.asking.streaming.then(|| Instant::now() + self.asking.delays.stall);
    }

    fn listed(&mut self) -> Result<(), Gone> {
        self.stalled_at = None;
        let Some(stage) = self.stage.take() else { return Ok(()) };
        debug!(resource = T::PLURAL, objects = stage.len(), "listed");
        self.tell(stage.end())?;
        if !self.standing.listed {
            self.standing.listed = true;
            self.tell_standing()?;
        }
        Ok(())
    }

    /// The stream is sound.
    fn works(&mut self) -> Result<(), Gone> {
        self.pause.works();
        self.expiry.works();
        if self.standing.failing.take().is_some() {
            info!(resource = T::PLURAL, "followed again");
            self.tell_standing()?;
        }
        Ok(())
    }

    /// Tells of a failure and waits. Says whether a new list is needed.
    async fn fails(&mut self, failure: Failure) -> Result<bool, Gone> {
        let Failure { reason, retry_after, turn } = failure;
        match turn {
            Turn::Expired => {
                info!(resource = T::PLURAL, "the watch has expired, listing anew");
                sleep(self.expiry.after_failure(retry_after)).await;
                return Ok(true);
            }
            Turn::Unstreamed if self.asking.streaming => {
                self.ask_in_pages(&reason);
                return Ok(true);
            }
            Turn::GoOn | Turn::Unstreamed | Turn::Anew => self.failing(reason)?,
        }
        sleep(self.pause.after_failure(retry_after)).await;
        let since = self.standing.failing.as_ref().map(|(since, _)| Instant::from_std(*since));
        let long = since.is_some_and(|since| since.elapsed() >= self.asking.delays.forget);
        Ok(turn == Turn::Anew || long)
    }

    fn failing(&mut self, reason: String) -> Result<(), Gone> {
        let since = match &self.standing.failing {
            Some((_, known)) if *known == reason => return Ok(()),
            Some((since, _)) => *since,
            None => Instant::now().into_std(),
        };
        warn!(resource = T::PLURAL, reason, "cannot be followed; what it last held goes on");
        self.standing.failing = Some((since, reason));
        self.tell_standing()
    }

    fn ask_in_pages(&mut self, reason: &str) {
        warn!(resource = T::PLURAL, reason, "the API server streams no list; asking for pages");
        self.asking.streaming = false;
    }

    fn tell(&self, change: Change) -> Result<(), Gone> {
        self.inbox
            .send(match &self.asking.part {
                None => Input::Changed(Box::new(change)),
                Some(part) => part.says(Said::Changed(change)),
            })
            .map_err(|_| Gone)
    }

    fn tell_standing(&self) -> Result<(), Gone> {
        let standing = self.standing.clone();
        self.inbox
            .send(match &self.asking.part {
                None => Input::Standing(standing),
                Some(part) => part.says(Said::Standing(standing)),
            })
            .map_err(|_| Gone)
    }
}

/// At that time; never where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
