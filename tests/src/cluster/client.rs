//! Reading and writing the cluster's objects as the administrator.
//!
//! A thread that has entered the control plane's namespace runs the Kubernetes client; everybody
//! else hands it requests and waits. Objects are JSON as the API has it.

use std::sync::{Arc, mpsc};
use std::thread;

use futures_util::StreamExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use serde_json::Value;
use tokio::sync::mpsc as queue;

use super::failed;
use crate::error::LabError;
use crate::namespace::Namespace;

/// How many requests are under way at once.
const AT_ONCE: usize = 16;

/// One request.
#[derive(Clone, Debug)]
pub enum Call {
    /// Makes an object in a collection, such as `/api/v1/namespaces/x/pods`.
    Create {
        /// The collection.
        collection: String,
        /// The object.
        object: Value,
    },
    /// Merges a patch into an object, or into a subresource of it.
    Merge {
        /// The collection.
        collection: String,
        /// The object's name.
        name: String,
        /// `status`.
        subresource: Option<&'static str>,
        /// What is to be different.
        patch: Value,
    },
    /// Replaces the subresource `finalize` of a namespace: what its finalizers would do is done.
    Finalize {
        /// The namespace.
        name: String,
    },
    /// Removes an object at once.
    Delete {
        /// The collection.
        collection: String,
        /// The object's name.
        name: String,
    },
    /// Asks whether the server serves.
    Ready,
    /// Reads a collection whole.
    List {
        /// The collection.
        collection: String,
    },
}

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Value, LabError>;
type Job = (Vec<Call>, mpsc::Sender<Vec<Answer>>);

/// The administrator's client.
#[derive(Clone, Debug)]
pub struct Client {
    jobs: queue::UnboundedSender<Job>,
}

impl Client {
    /// A client in `namespace`, for the server and as the user of `kubeconfig`. It need not run yet.
    ///
    /// # Errors
    /// Where the kubeconfig is none.
    pub fn new(namespace: Arc<Namespace>, kubeconfig: &str) -> Result<Self, LabError> {
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig)
            .map_err(|error| failed("read the administrator's kubeconfig", error))?;
        let (jobs, inbox) = queue::unbounded_channel();
        thread::spawn(move || {
            // Whoever asks is told by the end of the channel.
            let _ = namespace.enter(|| serve(kubeconfig, inbox));
        });
        Ok(Self { jobs })
    }

    /// Carries out calls, several at a time, in no order; the answers are in the order of the calls.
    ///
    /// # Errors
    /// Where the client has ended. The answers have their own.
    pub fn try_all(&self, calls: Vec<Call>) -> Result<Vec<Answer>, LabError> {
        let (sender, answers) = mpsc::channel();
        let gone = |_| failed("ask the API server", "the client has ended");
        self.jobs.send((calls, sender)).map_err(|_| gone(mpsc::RecvError))?;
        answers.recv().map_err(gone)
    }

    /// Carries out calls, several at a time, in no order.
    ///
    /// # Errors
    /// The first answer that is one.
    pub fn all(&self, calls: Vec<Call>) -> Result<Vec<Value>, LabError> {
        self.try_all(calls)?.into_iter().collect()
    }

    /// Carries out one call.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub fn call(&self, call: Call) -> Result<Value, LabError> {
        self.all(vec![call]).map(|mut answers| answers.pop().unwrap_or_default())
    }

    /// The objects of a collection.
    ///
    /// # Errors
    /// Where the server cannot be reached, or refuses.
    pub fn list(&self, collection: &str) -> Result<Vec<Value>, LabError> {
        let mut list = self.call(Call::List { collection: collection.to_owned() })?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }
}

/// Serves until nobody is left who asks.
fn serve(kubeconfig: Kubeconfig, mut inbox: queue::UnboundedReceiver<Job>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        let client = kube::Client::try_from(config)?;
        while let Some((calls, answers)) = inbox.recv().await {
            let client = client.clone();
            tokio::spawn(async move {
                let done = futures_util::stream::iter(calls)
                    .map(|call| carry_out(client.clone(), call))
                    .buffered(AT_ONCE)
                    .collect()
                    .await;
                // Whoever asked has given up.
                let _ = answers.send(done);
            });
        }
        Ok(())
    })
}

async fn carry_out(client: kube::Client, call: Call) -> Answer {
    let operation = format!("carry out {call:?}");
    request(client, call).await.map_err(|error| failed(&operation, error))
}

async fn request(client: kube::Client, call: Call) -> Result<Value, Failure> {
    let (post, merge) = (PostParams::default(), PatchParams::default());
    let request = match &call {
        Call::Ready => {
            // The answer is no JSON, and being one is enough.
            let request = Request::new("/readyz").list(&ListParams::default())?;
            return Ok(Value::String(client.request_text(request).await?));
        }
        Call::Create { collection, object } => {
            Request::new(collection).create(&post, serde_json::to_vec(object)?)?
        }
        Call::Merge { collection, name, subresource, patch } => {
            let (object, patch) = (Request::new(collection), Patch::Merge(patch));
            match subresource {
                None => object.patch(name, &merge, &patch)?,
                Some(part) => object.patch_subresource(part, name, &merge, &patch)?,
            }
        }
        Call::Finalize { name } => {
            let body = serde_json::json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
                "spec": {"finalizers": []},
            });
            let path = Request::new("/api/v1/namespaces");
            path.replace_subresource("finalize", name, &post, serde_json::to_vec(&body)?)?
        }
        Call::Delete { collection, name } => {
            Request::new(collection).delete(name, &DeleteParams::default().grace_period(0))?
        }
        Call::List { collection } => Request::new(collection).list(&ListParams::default())?,
    };
    Ok(client.request(request).await?)
}
