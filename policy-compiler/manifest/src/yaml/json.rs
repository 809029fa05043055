//! JSON that YAML's grammar refuses, without positions inside but with every key that was written.

use std::fmt;

use policy_compiler::document::{Entry, Node, Position, Value};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Failure, YamlErrorKind};

/// All values of `text`, one after another.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Failure> {
    // serde_json bounds the depth itself, at 128 levels.
    let stream = serde_json::Deserializer::from_str(text).into_iter::<Json>();
    let nodes = stream.collect::<Result<Vec<Json>, _>>().map_err(|error| {
        let position = Position {
            line: u32::try_from(error.line()).unwrap_or(u32::MAX).max(1),
            column: u32::try_from(error.column()).unwrap_or(u32::MAX).max(1),
        };
        let message = error.to_string();
        // The place is told apart; the text need not repeat it.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        (YamlErrorKind::Json(message), position)
    })?;
    Ok(nodes.into_iter().map(|json| json.0).filter(|node| !node.is_null()).collect())
}

struct Json(Node);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(|value| Json(Node { value, position: None }))
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E>(self, i: i64) -> Result<Value, E> {
        Ok(Value::Int(i))
    }

    fn visit_u64<E>(self, u: u64) -> Result<Value, E> {
        #[allow(clippy::cast_precision_loss, reason = "beyond 64 bits JSON numbers are floats")]
        Ok(i64::try_from(u).map_or(Value::Float(u as f64), Value::Int))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Value, E> {
        Ok(Value::Float(x))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Json(node)) = seq.next_element()? {
            items.push(node);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, Json(node))) = map.next_entry::<String, Json>()? {
            entries.push(Entry { key, position: None, node });
        }
        Ok(Value::Map(entries))
    }
}
