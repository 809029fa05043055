//! The project's own manifests, applied to the cluster as they are.

use std::fs;
use std::path::Path;

use policy_compiler::document::{Node, Value as Written};
use policy_manifest::yaml;
use serde_json::{Map, Value};

use super::client::Call;
use super::{Cluster, failed};
use crate::error::LabError;

/// Who policyd is, and what it may do.
const ACCOUNT: [&str; 3] =
    ["base/serviceaccount.yaml", "base/clusterrole.yaml", "base/clusterrolebinding.yaml"];

/// Where roles are.
pub const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
/// Where they are bound.
pub const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

impl Cluster {
    /// Makes the account of policyd with the role that the manifests give it.
    ///
    /// # Errors
    /// Where a manifest cannot be read, or the API server refuses it.
    pub fn apply_account(&self) -> Result<(), LabError> {
        ACCOUNT.iter().try_for_each(|file| self.apply(file))
    }

    /// Makes the objects of a file below `manifests/`.
    ///
    /// # Errors
    /// Where it cannot be read, or the API server refuses it.
    pub fn apply(&self, file: &str) -> Result<(), LabError> {
        for object in objects(file)? {
            let collection = collection(&object)?;
            self.client().call(Call::Create { collection, object })?;
        }
        Ok(())
    }
}

/// The objects of a file below `manifests/`.
///
/// # Errors
/// Where it cannot be read.
pub fn objects(file: &str) -> Result<Vec<Value>, LabError> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests").join(file);
    let text = fs::read_to_string(&path)
        .map_err(|error| failed(&format!("read {}", path.display()), error))?;
    let documents = yaml::parse(&text).map_err(|error| failed(&format!("read {file}"), error))?;
    Ok(documents.iter().map(json).collect())
}

fn json(node: &Node) -> Value {
    match &node.value {
        Written::Null => Value::Null,
        Written::Bool(value) => (*value).into(),
        Written::Int(value) => (*value).into(),
        Written::Float(value) => (*value).into(),
        Written::String(value) => value.clone().into(),
        Written::List(items) => items.iter().map(json).collect(),
        Written::Map(entries) => {
            let fields = entries.iter().map(|entry| (entry.key.clone(), json(&entry.node)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

/// Where an object of its kind is made.
fn collection(object: &Value) -> Result<String, LabError> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let namespace = text("/metadata/namespace").unwrap_or("default");
    match text("/kind") {
        Some("ServiceAccount") => Ok(format!("/api/v1/namespaces/{namespace}/serviceaccounts")),
        Some("ClusterRole") => Ok(ROLES.to_owned()),
        Some("ClusterRoleBinding") => Ok(BINDINGS.to_owned()),
        kind => Err(failed("apply a manifest", format!("no place for the kind {kind:?}"))),
    }
}
