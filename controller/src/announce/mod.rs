//! Kubernetes Events: what the owner of a policy or of a node should know without reading our log.
//!
//! Whoever announces never waits. A thread with a runtime of its own publishes, one event at a time:
//! not the same again within minutes, and so many at most (see `gate`). An announcement that
//! cannot be published is tried again for half a minute and then given up: everything that is
//! announced is also in the log, in the metrics and in `/readyz`. A failure is logged once, until one
//! succeeds again.
//!
//! Events are created by name and never edited. kube's own recorder would merge all that is said of one
//! policy into the first note, and every node would tell of it anew.

mod event;
mod gate;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use policy_compiler::cidr::Family;
use policy_compiler::name::{NodeName, ObjectKey};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use self::event::{event_of, namespace_of};
use self::gate::{Admission, Gate};
use crate::metrics::{Metrics, Told};
use crate::source::api::ApiError;

/// How many may wait to be published.
const QUEUE: usize = 64;
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure that may pass it is tried again.
const PAUSES: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(20)];

/// Something that is told as a Kubernetes Event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Announcement {
    /// A part of a policy cannot be understood, and what it concerns is denied. Regards the policy.
    PolicyFailsClosed {
        /// Which.
        policy: ObjectKey,
        /// What is wrong with it.
        reason: String,
    },
    /// Rules or sets were changed by others. Regards the node.
    DriftRepaired {
        /// Of which family.
        family: Family,
        /// What was found.
        what: String,
    },
    /// The node is set up so that rules do not hold what they say. Regards the node.
    CannotEnforce {
        /// Why.
        reasons: Vec<String>,
    },
}

/// Takes announcements; each clone is as good.
#[derive(Clone, Debug)]
pub struct Announcer {
    queue: Option<mpsc::Sender<Announcement>>,
    metrics: Arc<Metrics>,
}

impl Announcer {
    /// One that tells nobody.
    #[must_use]
    pub fn silent(metrics: Arc<Metrics>) -> Self {
        Self { queue: None, metrics }
    }

    /// One that tells the API server, over the client that `connect` makes within the runtime in which
    /// it is used. Publishing ends with the last clone.
    ///
    /// # Errors
    /// Where there can be no further thread.
    pub fn start(
        connect: impl FnOnce() -> Result<Client, ApiError> + Send + 'static,
        node: NodeName,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        Self::start_with(connect, node, metrics, PAUSES)
    }

    fn start_with(
        connect: impl FnOnce() -> Result<Client, ApiError> + Send + 'static,
        node: NodeName,
        metrics: Arc<Metrics>,
        pauses: [Duration; 2],
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Arc::clone(&metrics);
        thread::Builder::new().name("announce".to_owned()).spawn(move || {
            runtime.block_on(async {
                match connect() {
                    Ok(client) => {
                        let publisher = Publisher { client, node, metrics: counts, pauses };
                        publisher.publish_all(waiting).await;
                    }
                    Err(error) => warn!(%error, "no Kubernetes Event is published"),
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { queue: Some(queue), metrics })
    }

    /// Tells this, in a while, where it was not told of late.
    pub fn announce(&self, announcement: Announcement) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(announcement).is_err() {
            self.metrics.told(Told::Dropped);
        }
    }
}

/// Why an announcement is not published.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    /// There was no answer.
    #[error("no answer within {} s", REQUEST_LIMIT.as_secs())]
    Late,
    /// The role is missing.
    #[error(
        "{message}; grant `create` on events of events.k8s.io as the ClusterRole `policyd` does, or run with \
         --events=false"
    )]
    Forbidden {
        /// What the API server says.
        message: String,
    },
    /// The API server refuses it.
    #[error("the API server answers {code}: {message}")]
    Refused {
        /// HTTP's.
        code: u16,
        /// What it says.
        message: String,
    },
    /// It cannot be reached.
    #[error("cannot reach the API server")]
    Away(#[source] Error),
}

impl PublishError {
    fn of(error: Error) -> Self {
        match error {
            Error::Api(status) if matches!(status.code, 401 | 403) => {
                Self::Forbidden { message: status.message }
            }
            Error::Api(status) => Self::Refused { code: status.code, message: status.message },
            error => Self::Away(error),
        }
    }

    /// Whether it may be otherwise soon.
    fn may_pass(&self) -> bool {
        match self {
            PublishError::Late | PublishError::Away(_) => true,
            PublishError::Forbidden { .. } => false,
            PublishError::Refused { code, .. } => *code == 429 || *code >= 500,
        }
    }
}

/// Publishes what was announced.
struct Publisher {
    client: Client,
    node: NodeName,
    metrics: Arc<Metrics>,
    pauses: [Duration; 2],
}

impl Publisher {
    async fn publish_all(&self, mut waiting: mpsc::Receiver<Announcement>) {
        let mut gate = Gate::new(Instant::now());
        let mut failing = false;
        while let Some(announcement) = waiting.recv().await {
            match gate.admit(&announcement, Instant::now()) {
                Admission::Publish => {}
                Admission::Repeated => continue,
                Admission::TooMany => {
                    self.metrics.told(Told::Dropped);
                    debug!(?announcement, "too many Kubernetes Events; this one is not published");
                    continue;
                }
            }
            match self.publish_patiently(&announcement).await {
                Ok(()) => {
                    failing = false;
                    self.metrics.told(Told::Published);
                }
                Err(error) => {
                    gate.forget(&announcement);
                    self.metrics.told(Told::Failed);
                    let error = crate::dataplane::error_chain(&error);
                    if failing {
                        debug!(error, ?announcement, "cannot publish a Kubernetes Event");
                    } else {
                        warn!(
                            error,
                            "cannot publish Kubernetes Events; what they say is in this log"
                        );
                    }
                    failing = true;
                }
            }
        }
    }

    async fn publish_patiently(&self, announcement: &Announcement) -> Result<(), PublishError> {
        for pause in self.pauses {
            match self.publish(announcement).await {
                Err(error) if error.may_pass() => sleep(pause).await,
                outcome => return outcome,
            }
        }
        self.publish(announcement).await
    }

    /// Publishes, where what it is about still exists.
    async fn publish(&self, announcement: &Announcement) -> Result<(), PublishError> {
        let uid = match announcement {
            Announcement::PolicyFailsClosed { policy, .. } => match self.uid_of(policy).await {
                Ok(None) => return Ok(()),
                Ok(Some(uid)) => Some(uid),
                // What looks for it by the policy's identity will not find it; the list of events shows it.
                Err(_) => None,
            },
            Announcement::DriftRepaired { .. } | Announcement::CannotEnforce { .. } => None,
        };
        let event = event_of(announcement, uid.as_deref(), &self.node, Timestamp::now());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace_of(announcement));
        match timeout(REQUEST_LIMIT, events.create(&PostParams::default(), &event)).await {
            Err(_) => Err(PublishError::Late),
            Ok(Ok(_)) => Ok(()),
            // Another node was first; or the namespace has gone, and the policy with it.
            Ok(Err(Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(()),
            Ok(Err(error)) => Err(PublishError::of(error)),
        }
    }

    /// By its identity dashboards find the events of an object. Nothing where there is no such policy any
    /// more.
    async fn uid_of(&self, policy: &ObjectKey) -> Result<Option<String>, PublishError> {
        let policies: Api<NetworkPolicy> =
            Api::namespaced(self.client.clone(), policy.namespace.as_str());
        let found = timeout(REQUEST_LIMIT, policies.get_metadata_opt(policy.name.as_str())).await;
        let found = found.map_err(|_| PublishError::Late)?.map_err(PublishError::of)?;
        Ok(found.map(|policy| policy.metadata.uid.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
