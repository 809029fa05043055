//! Pods in parts: those of the node itself, and of others what the loop asks for.
//!
//! The parts are told apart by the field `spec.nodeName`, which the server indexes. One that is not
//! asked for any more is ended at once, with its connection.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use policy_compiler::name::{NamespaceName, NodeName};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error};

use super::ApiServer;
use super::follow::{Gone, Part};
use super::kinds::Pods;
use crate::source::Input;
use crate::source::scoped::{OWN, PodWatch, PodWatches};

impl ApiServer {
    /// Follows what is wanted, until nobody listens.
    pub(super) async fn follow_scope(
        self,
        node: NodeName,
        mut wanted: watch::Receiver<PodWatches>,
        inbox: Sender<Input>,
    ) -> Gone {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<u64, AbortHandle> = BTreeMap::new();
        let own = Part { watch: OWN, namespace: None, labels: None };
        let fields = format!("spec.nodeName={node}");
        if self.spawn::<Pods>(&mut tasks, &inbox, Some(fields), Some(own)).is_err() {
            return Gone;
        }
        loop {
            let now = wanted.borrow_and_update().clone();
            running.retain(|watch, task| {
                let goes_on = now.contains_key(watch);
                if !goes_on {
                    debug!(watch, "pods are not watched any more");
                    task.abort();
                }
                goes_on
            });
            for (number, watch) in now {
                if running.contains_key(&number) {
                    continue;
                }
                debug!(watch = number, asked = ?watch, "watching pods");
                let fields = format!("spec.nodeName!={node}");
                let part = part(number, &watch);
                match self.spawn::<Pods>(&mut tasks, &inbox, Some(fields), Some(part)) {
                    Ok(task) => drop(running.insert(number, task)),
                    Err(gone) => return gone,
                }
            }
            tokio::select! {
                changed = wanted.changed() => if changed.is_err() { return Gone },
                Some(end) = tasks.join_next() => match end {
                    Err(end) if end.is_cancelled() => {}
                    // Without it changes would be missed in silence.
                    Err(end) => {
                        error!(error = %end, "pods are not followed any more");
                        return Gone;
                    }
                    Ok(gone) => return gone,
                },
            }
        }
    }
}

fn part(number: u64, watch: &PodWatch) -> Part {
    let narrow = !watch.selector.is_everything();
    Part {
        watch: number,
        namespace: watch.namespace.as_ref().map(NamespaceName::to_string),
        labels: narrow.then(|| watch.selector.to_string()),
    }
}
