//! Objects written behind the API server's back, into the etcd that it reads from.
//!
//! The API server takes some hundred requests a second here, and a pod needs two. What is written into
//! etcd it reads as if it had written it itself, tells those who watch, and forgets nothing that only a
//! controller or kubelet could set. Nothing is validated: what is written must be what the API server
//! would store.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::failed;
use crate::error::LabError;

/// How many bytes of values go together; a transaction of etcd takes a megabyte and a half, in base64.
const BYTES: usize = 600_000;
/// How many operations do; a transaction takes 128.
const OPERATIONS: usize = 100;

/// What is to be stored.
#[derive(Clone, Debug, PartialEq)]
pub enum Store {
    /// The object is now so.
    Put(Value),
    /// This object is gone.
    Delete(Value),
}

impl ControlPlane {
    /// Stores all that, many at a time and what is of one object in order, and says how many writes that
    /// were.
    ///
    /// # Errors
    /// Where etcd refuses, or an object has no name or is of another kind than pods, namespaces, nodes
    /// and policies.
    pub fn store(&self, writes: impl Iterator<Item = Store>) -> Result<usize, LabError> {
        let mut chunk = Chunk::default();
        let mut count = 0;
        for write in writes {
            if chunk.is_full() {
                self.commit(std::mem::take(&mut chunk))?;
            }
            chunk.add(&write)?;
            count += 1;
        }
        self.commit(chunk)?;
        Ok(count)
    }

    fn commit(&self, chunk: Chunk) -> Result<(), LabError> {
        for operations in chunk.transactions {
            let transaction = json!({"success": operations});
            self.ask_etcd("/v3/kv/txn", &transaction.to_string())?;
        }
        Ok(())
    }
}

/// Writes in as few transactions as can have them: one names each key once, so the second write of an
/// object is in the second.
#[derive(Default)]
struct Chunk {
    transactions: Vec<Vec<Value>>,
    /// How many writes there are of each key.
    keys: BTreeMap<String, usize>,
    operations: usize,
    bytes: usize,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.bytes >= BYTES || self.operations >= OPERATIONS
    }

    fn add(&mut self, write: &Store) -> Result<(), LabError> {
        let (Store::Put(object) | Store::Delete(object)) = write;
        let key = key(object).ok_or_else(|| failed("store", object.to_string()))?;
        let encoded = base64(key.as_bytes());
        let place = self.keys.entry(key).or_default();
        if *place == self.transactions.len() {
            self.transactions.push(Vec::new());
        }
        self.transactions[*place].push(if matches!(write, Store::Put(_)) {
            let value = object.to_string();
            self.bytes += value.len();
            json!({"requestPut": {"key": encoded, "value": base64(value.as_bytes())}})
        } else {
            json!({"requestDeleteRange": {"key": encoded}})
        });
        *place += 1;
        self.operations += 1;
        Ok(())
    }
}

/// Under which key the API server has an object.
fn key(object: &Value) -> Option<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name")?;
    let resource = match text("/kind")? {
        "Namespace" => "namespaces",
        // By its former name.
        "Node" => "minions",
        "Pod" => "pods",
        "NetworkPolicy" => "networkpolicies",
        _ => return None,
    };
    Some(match text("/metadata/namespace") {
        Some(namespace) => format!("/registry/{resource}/{namespace}/{name}"),
        None => format!("/registry/{resource}/{name}"),
    })
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place) & 63) as usize;
            text.push(if place > chunk.len() { '=' } else { char::from(ALPHABET[six]) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        let texts = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let encoded = ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"];
        assert_eq!(texts.map(|text| base64(text.as_bytes())), encoded);
    }

    #[test]
    fn writes_of_one_object_are_in_transactions_that_follow_each_other() {
        let pod = |name: &str| json!({"kind": "Pod", "metadata": {"namespace": "x", "name": name}});
        let mut chunk = Chunk::default();
        for write in [
            Store::Put(pod("a")),
            Store::Put(pod("b")),
            Store::Delete(pod("a")),
            Store::Put(pod("a")),
            Store::Put(pod("c")),
        ] {
            chunk.add(&write).unwrap();
        }
        let kinds = |transaction: &Vec<Value>| {
            let of = |operation: &Value| operation.as_object().unwrap().keys().next().cloned();
            transaction.iter().filter_map(of).collect::<Vec<_>>()
        };
        let kinds: Vec<Vec<String>> = chunk.transactions.iter().map(kinds).collect();
        let put = || "requestPut".to_owned();
        assert_eq!(
            kinds,
            [vec![put(), put(), put()], vec!["requestDeleteRange".to_owned()], vec![put()]]
        );
    }

    #[test]
    fn objects_are_kept_where_the_api_server_looks_for_them() {
        let of = |kind: &str, metadata: Value| key(&json!({"kind": kind, "metadata": metadata}));
        let keys = [
            of("Pod", json!({"namespace": "x", "name": "a"})),
            of("Namespace", json!({"name": "x"})),
            of("NetworkPolicy", json!({"namespace": "x", "name": "p"})),
            of("Node", json!({"name": "n"})),
            of("Secret", json!({"namespace": "x", "name": "s"})),
            of("Pod", json!({})),
        ];
        let expected = [
            Some("/registry/pods/x/a"),
            Some("/registry/namespaces/x"),
            Some("/registry/networkpolicies/x/p"),
            Some("/registry/minions/n"),
            None,
            None,
        ];
        assert_eq!(keys, expected.map(|key| key.map(str::to_owned)));
    }
}
