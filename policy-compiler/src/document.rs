//! A parsed document that remembers where it was written.
//!
//! Manifests arrive as YAML with positions or as JSON from the API server without; both become one
//! tree of [`Node`]s, and everything that decodes objects reads only this tree. Unknown keys
//! therefore survive until a decoder judges them, which typed structs would not allow.

use std::fmt;
use std::sync::Arc;

/// Line and column, both counted from 1, of the first character of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Where something was read: a file or other input, and the place in it, as far as either is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The input's name as the user wrote it, such as `base.yaml`, `-` for standard input.
    pub file: Option<Arc<str>>,
    /// The place in it.
    pub position: Option<Position>,
}

impl fmt::Display for Location {
    /// `file:line:column`, as much of it as is known; nothing where nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(file)?;
        }
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        Ok(())
    }
}

/// One node of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What stands here.
    pub value: Value,
    /// Where it stands, if the source had positions.
    pub position: Option<Position>,
}

/// The value of a [`Node`]: what JSON can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~`, or a key with nothing behind it.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, in the notation of the source.
    Float(f64),
    /// Text.
    String(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping in source order. A key may stand twice here; decoders diagnose that.
    Map(Vec<Entry>),
}

/// One key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key as text (a YAML key that is a number or a boolean is its notation).
    pub key: String,
    /// Where the key stands.
    pub position: Option<Position>,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The value behind `key`, where this is a mapping that has it. The last of several wins, as
    /// JSON decoders do.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries.iter().rev().find(|e| e.key == key).map(|e| &e.node),
            _ => None,
        }
    }

    /// The text, where this is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// The kind of value, in the words of a message: "a list", "text".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Float(number) if number.is_finite() && number.fract() != 0.0 => "a fraction",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::String(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

impl From<serde_json::Value> for Node {
    fn from(json: serde_json::Value) -> Self {
        let value = match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => match n.as_i64() {
                Some(i) => Value::Int(i),
                None => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(s) => Value::String(s),
            serde_json::Value::Array(items) => {
                Value::List(items.into_iter().map(Node::from).collect())
            }
            serde_json::Value::Object(map) => Value::Map(
                map.into_iter()
                    .map(|(key, value)| Entry { key, position: None, node: Node::from(value) })
                    .collect(),
            ),
        };
        Node { value, position: None }
    }
}
