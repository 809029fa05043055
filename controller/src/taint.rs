//! Taking the startup taint off this node.
//!
//! A node that joins with a taint gets no pods but those that tolerate it. policyd takes the taint off
//! once the policies are in force for the first time, so that no pod runs there before. It does so
//! with the resource version that it read: what somebody else changed meanwhile is not overwritten.
//!
//! Until the loop is ready nothing is asked of the API server. Whatever fails is tried again, ever more
//! slowly, and is a note meanwhile: the policies of the pods that run are in force all the same. Other
//! taints stay, whatever their fields.

use std::fmt;
use std::io;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Client, Error as ApiFailure};
use policy_compiler::name::NodeName;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::{info, warn};

use crate::again::Again;
use crate::dataplane::error_chain;
use crate::health::{Note, Notes};
use crate::source::Input;

/// How often the loop is asked whether it is ready.
const ASK: Duration = Duration::from_millis(500);
/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(15);
/// The first and the longest pause before it is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(2));

/// Why the taint is still there.
#[derive(Debug, thiserror::Error)]
pub enum TaintError {
    /// There is no client to ask with.
    #[error("there is no way to the API server: {0}")]
    Connect(String),
    /// The node could not be read.
    #[error("cannot read node {node}{}", advice(.source))]
    Read {
        /// Which.
        node: NodeName,
        /// Why not.
        source: ApiFailure,
    },
    /// The node could not be changed.
    #[error("cannot change node {node}{}", advice(.source))]
    Change {
        /// Which.
        node: NodeName,
        /// Why not.
        source: ApiFailure,
    },
    /// No answer came.
    #[error("the API server has not answered for {LIMIT:?}")]
    NoAnswer,
}

/// What to do about a refusal, where that is known.
fn advice(error: &ApiFailure) -> &'static str {
    match error {
        ApiFailure::Api(status) if status.code == 403 => {
            " (--remove-taint needs a role that allows `get` and `patch` on `nodes`)"
        }
        ApiFailure::Api(status) if status.code == 404 => {
            " (--node must be the name of this node's Node object)"
        }
        _ => "",
    }
}

/// What became of the taint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It was there and is no more.
    Removed,
    /// It was not there.
    Absent,
}

/// The taint of this node that goes when policyd is ready.
#[derive(Clone)]
pub struct StartupTaint {
    node: NodeName,
    key: Arc<str>,
    /// What stands in the way, and since when.
    trouble: Arc<Mutex<Option<(String, Instant)>>>,
}

impl fmt::Debug for StartupTaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartupTaint")
            .field("node", &self.node)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl StartupTaint {
    /// The taint of that key on `node`, whatever its effect.
    #[must_use]
    pub fn new(node: NodeName, key: &str) -> Self {
        Self { node, key: Arc::from(key), trouble: Arc::default() }
    }

    /// What stands in the way of its removal.
    #[must_use]
    pub fn notes(&self) -> Notes {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let note = |(text, since)| {
            let text = format!("taint {} is still on this node: {text}", self.key);
            ("taint".to_owned(), Note { text, since: Some(since) })
        };
        trouble.map(note).into_iter().collect()
    }

    /// Begins to ask the loop behind `inbox` whether it is ready, and then removes the taint with what
    /// `connect` gives, on a thread of its own.
    ///
    /// # Errors
    /// Where there can be no thread.
    pub fn start<E: fmt::Display>(
        &self,
        inbox: Sender<Input>,
        connect: impl Fn() -> Result<Client, E> + Send + 'static,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let taint = self.clone();
        thread::Builder::new().name("taint".to_owned()).spawn(move || {
            runtime.block_on(async {
                if is_ready_at_last(&inbox).await {
                    taint.remove_at_last(&connect, RETRY).await;
                }
            });
        })?;
        Ok(())
    }

    /// Tries until it is gone.
    async fn remove_at_last<E: fmt::Display>(
        &self,
        connect: &impl Fn() -> Result<Client, E>,
        pauses: (Duration, Duration),
    ) {
        let mut retry = Again::new(pauses);
        loop {
            let outcome = match connect() {
                Ok(client) => {
                    timeout(LIMIT, self.remove(client)).await.unwrap_or(Err(TaintError::NoAnswer))
                }
                Err(error) => Err(TaintError::Connect(error.to_string())),
            };
            match outcome {
                Ok(removal) => {
                    self.report(None);
                    match removal {
                        Removal::Removed => info!(taint = &*self.key, "startup taint removed"),
                        Removal::Absent => info!(taint = &*self.key, "no startup taint to remove"),
                    }
                    return;
                }
                Err(error) => self.report(Some(error_chain(&error))),
            }
            retry.put_off();
            if let Some(at) = retry.at() {
                sleep_until(at.into()).await;
            }
        }
    }

    /// Remembers what stands in the way, and logs it where it is something else than before.
    fn report(&self, trouble: Option<String>) {
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take();
        *last = trouble.map(|text| match before {
            Some((same, since)) if same == text => (same, since),
            before => {
                warn!(taint = &*self.key, error = text, "startup taint not removed");
                (text, before.map_or_else(Instant::now, |(_, since)| since))
            }
        });
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// Where the API server refuses, or the node has changed meanwhile.
    pub async fn remove(&self, client: Client) -> Result<Removal, TaintError> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("", "v1", "Node"), "nodes");
        let nodes: Api<DynamicObject> = Api::all_with(client, &resource);
        let name = self.node.as_str();
        let found = nodes.get(name).await;
        let found = found.map_err(|source| TaintError::Read { node: self.node.clone(), source })?;
        let Some(patch) = self.patch(&found) else { return Ok(Removal::Absent) };
        let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map_err(|source| TaintError::Change { node: self.node.clone(), source })?;
        Ok(Removal::Removed)
    }

    /// What takes the taint off the node as it was read; `None` where it is not on it.
    fn patch(&self, node: &DynamicObject) -> Option<Value> {
        let taints = node.data.get("spec")?.get("taints")?.as_array()?;
        let is_other =
            |taint: &&Value| taint.get("key").and_then(Value::as_str) != Some(&*self.key);
        let others: Vec<&Value> = taints.iter().filter(is_other).collect();
        if others.len() == taints.len() {
            return None;
        }
        Some(json!({
            "metadata": {"resourceVersion": node.metadata.resource_version},
            "spec": {"taints": others},
        }))
    }
}

/// Waits until the loop is ready; `false` where it has ended instead.
async fn is_ready_at_last(inbox: &Sender<Input>) -> bool {
    loop {
        let (tell, told) = oneshot::channel();
        let question = Input::Asked(Box::new(move |view| {
            // Whoever asked may be gone.
            let _ = tell.send(view.health.is_ready());
        }));
        if inbox.send(question).is_err() {
            return false;
        }
        match told.await {
            Ok(true) => return true,
            Ok(false) => sleep(ASK).await,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests;
