//! Objects as they come from the API server, reduced to what policy depends on while they are parsed.
//!
//! What a [`Keep`] does not name is skipped in the text and never allocated. What it names is kept as
//! a document, whatever its type: no object can break the stream that it came in, and the decoders of
//! the compiler judge it exactly as they judge a manifest. The parser refuses only what is no JSON.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use policy_compiler::document::{Entry, Node, Value};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Which parts of a value are kept. A list is kept whole, each item by the same rule.
#[derive(Debug)]
pub(super) enum Keep {
    /// Everything.
    All,
    /// Of a mapping these keys.
    Only(&'static [(&'static str, Keep)]),
    /// Of a mapping every key, and of what is behind these so much.
    But(&'static [(&'static str, Keep)]),
}

impl Keep {
    fn of(&self, key: &str) -> Option<&Keep> {
        let named = |fields: &'static [(&'static str, Keep)]| {
            fields.iter().find(|(field, _)| *field == key).map(|(_, keep)| keep)
        };
        match self {
            Keep::All => Some(&Keep::All),
            Keep::Only(fields) => named(fields),
            Keep::But(fields) => Some(named(fields).unwrap_or(&Keep::All)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Keep {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self).map(|value| Node { value, position: None })
    }
}

impl<'de> Visitor<'de> for &Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Node::from(serde_json::Value::from(number)).value)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key(self))? {
            match key {
                None => drop(entries.next_value::<IgnoredAny>()?),
                Some((key, keep)) => {
                    let node = entries.next_value_seed(keep)?;
                    map.push(Entry { key, position: None, node });
                }
            }
        }
        Ok(Value::Map(map))
    }
}

/// A key of a mapping, and what is kept behind it; nothing where it is not kept.
struct Key<'k>(&'k Keep);

impl<'de, 'k> DeserializeSeed<'de> for Key<'k> {
    type Value = Option<(String, &'k Keep)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'k> Visitor<'_> for Key<'k> {
    type Value = Option<(String, &'k Keep)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.of(key).map(|keep| (key.to_owned(), keep)))
    }
}

/// A kind of object as the API server serves it.
pub(super) trait Served: Clone + fmt::Debug + Send + Sync + 'static {
    /// Whether its objects live in a namespace or not.
    type Scope;
    /// The API group, empty for the core one.
    const GROUP: &'static str;
    /// The version in that group.
    const VERSION: &'static str;
    /// The kind.
    const KIND: &'static str;
    /// As it stands in paths.
    const PLURAL: &'static str;
    /// Whether the server is asked for metadata alone.
    const METADATA_ONLY: bool = false;
    /// What is kept of it. `metadata` must keep `resourceVersion`, from which a watch goes on.
    const KEEP: &'static Keep;
}

/// An object of the kind `T`. What it says of its own kind is not asked: in a list it says nothing,
/// and as metadata alone something else.
#[derive(Clone, Debug)]
pub(super) struct Object<T> {
    /// Has nothing but the resource version.
    meta: ObjectMeta,
    /// What is kept.
    pub(super) node: Node,
    kind: PhantomData<T>,
}

impl<'de, T: Served> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut node = T::KEEP.deserialize(deserializer)?;
        let version = node.get("metadata").and_then(|metadata| metadata.get("resourceVersion"));
        let resource_version = version.and_then(Node::as_str).map(str::to_owned);
        if let Value::Map(entries) = &mut node.value {
            entries.retain(|entry| entry.key != "kind" && entry.key != "apiVersion");
            entries.push(text("kind", T::KIND.to_owned()));
            entries.push(text("apiVersion", Self::api_version(&()).into_owned()));
        }
        let meta = ObjectMeta { resource_version, ..ObjectMeta::default() };
        Ok(Self { meta, node, kind: PhantomData })
    }
}

fn text(key: &str, text: String) -> Entry {
    let node = Node { value: Value::String(text), position: None };
    Entry { key: key.to_owned(), position: None, node }
}

impl<T: Served> Resource for Object<T> {
    type DynamicType = ();
    type Scope = T::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn metadata_api() -> bool {
        T::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
