//! The API server of a cluster.
//!
//! ```text
//!  pods, namespaces, networkpolicies (nodes)    one Follower each, all on one thread; of pods
//!                                               one for each part, where they are followed in parts,
//!                                               and then nodes too
//!     watcher ──event──> slim::Object ──decode──> Change ──> inbox
//!     patience ──a watch is held──> Standing ──> inbox
//! ```
//!
//! Each kind is listed, then watched, on a connection of its own; a list reaches the loop as one
//! change at its end, and the engine finds out what is different. Nothing is cached here.
//! Whatever fails is said in [`Standing`](super::Standing) and tried again, ever more slowly, up to
//! every half a minute; what was last known goes on. Only what the operator must mend before anything
//! can work is an [`ApiError`], when the source is made.

mod connection;
mod delays;
mod follow;
mod kinds;
mod patience;
mod pause;
mod reason;
mod scoped;
mod slim;
mod stage;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use kube::Client;
use policy_compiler::cluster::Pod;
use policy_compiler::decode::Decoding;
use policy_compiler::name::NodeName;
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

pub use self::connection::ApiError;
use self::connection::Connection;
use self::delays::Delays;
use self::follow::{Asking, Follower, Gone, Part};
use self::kinds::{Followed, Namespaces, Nodes, Pods, Policies};
use super::scoped::PodWatches;
use super::{Input, RESCAN, Source};
use crate::metrics::{Metrics, Received};

/// What to follow and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiOptions {
    /// The kubeconfig; the service account of this pod where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it, where not its current one.
    pub context: Option<String>,
    /// Whether lists are asked for as streams, which spares servers that know it (Kubernetes 1.32 by
    /// default). Of one that does not, pages are asked for after all.
    pub streaming_lists: bool,
    /// Whether Node objects are followed too.
    pub nodes: bool,
    /// Of those only this one.
    pub own_node: Option<NodeName>,
}

/// Reads a pod out of what an API server sends, as the one who follows pods does: what policy has no
/// use for is skipped in the text.
///
/// # Errors
/// Where the text is no JSON.
pub fn read_pod(json: &[u8]) -> serde_json::Result<Decoding<Pod>> {
    let object: slim::Object<Pods> = serde_json::from_slice(json)?;
    Ok(Pods::decode(&object.node))
}

/// The API server as a source.
#[derive(Clone, Debug)]
pub struct ApiServer {
    connection: Connection,
    options: ApiOptions,
    /// Where it is counted what comes.
    metrics: Arc<Metrics>,
    /// Which pods of other nodes to follow, and which node that is; all pods where nobody says.
    scope: Option<(NodeName, watch::Receiver<PodWatches>)>,
}

impl ApiServer {
    /// Finds out where it is and who we are to it, without a connection.
    ///
    /// # Errors
    /// Where that is not known, or the credentials cannot be used: the operator must mend it.
    pub fn configure(options: &ApiOptions) -> Result<Self, ApiError> {
        let connection = Connection::configure(options)?;
        Ok(Self { connection, options: options.clone(), metrics: Metrics::new(), scope: None })
    }

    /// Counts there what comes.
    #[must_use]
    pub fn counting(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// Follows the pods of `node`, and of others only those that are wanted.
    #[must_use]
    pub fn scoped(mut self, node: NodeName, wanted: watch::Receiver<PodWatches>) -> Self {
        self.scope = Some((node, wanted));
        self
    }

    /// Where the server is, for a person.
    #[must_use]
    pub fn server(&self) -> String {
        self.connection.server()
    }

    /// A client to ask something else of the server. It belongs to the tokio runtime in which this is
    /// called, and must be.
    ///
    /// # Errors
    /// Where the credentials cannot be used any more.
    pub fn client(&self) -> Result<Client, ApiError> {
        self.connection.client(watch::Sender::new(None), Received::default())
    }

    /// Follows the objects of a kind.
    fn spawn<T>(
        &self,
        tasks: &mut JoinSet<Gone>,
        inbox: &Sender<Input>,
        fields: Option<String>,
        part: Option<Part>,
    ) -> Result<AbortHandle, Gone>
    where
        T: Followed,
    {
        let connection = self.connection.clone();
        let streaming = self.options.streaming_lists;
        let received = self.metrics.received(T::FOLLOWED);
        let asking = Asking {
            server: connection.server(),
            fields,
            part,
            received: received.clone(),
            streaming,
            delays: Delays::default(),
        };
        let connect = move |taken| connection.client(taken, received.clone());
        Ok(tasks.spawn(Follower::<T, _>::new(inbox.clone(), asking, connect)?.run()))
    }

    async fn follow(&self, inbox: &Sender<Input>) -> Result<(), Gone> {
        let mut tasks = JoinSet::new();
        self.spawn::<Namespaces>(&mut tasks, inbox, None, None)?;
        self.spawn::<Policies>(&mut tasks, inbox, None, None)?;
        match self.scope.clone() {
            None => drop(self.spawn::<Pods>(&mut tasks, inbox, None, None)?),
            Some((node, wanted)) => {
                let server = self.clone();
                tasks.spawn(server.follow_scope(node, wanted, inbox.clone()));
            }
        }
        if self.options.nodes {
            let own = self.options.own_node.as_ref().map(|name| format!("metadata.name={name}"));
            self.spawn::<Nodes>(&mut tasks, inbox, own, None)?;
        }
        tasks.spawn(beat(inbox.clone()));
        // None of them ends while somebody listens: one that does has failed in a way that nobody
        // foresaw, and without it changes would be missed in silence.
        if let Some(Err(end)) = tasks.join_next().await {
            error!(error = %end, "the API server is not followed any more");
        }
        Ok(())
    }
}

impl Source for ApiServer {
    fn run(self, inbox: &Sender<Input>) {
        info!(server = self.server(), "following the API server");
        if self.connection.is_unverified() {
            warn!("the kubeconfig says not to verify the API server's certificate");
        }
        match runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => drop(runtime.block_on(self.follow(inbox))),
            Err(error) => error!(%error, "cannot follow the API server"),
        }
    }
}

/// Says that this thread is alive.
async fn beat(inbox: Sender<Input>) -> Gone {
    let mut ticks = interval(RESCAN / 2);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if inbox.send(Input::Unchanged).is_err() {
            return Gone;
        }
    }
}
