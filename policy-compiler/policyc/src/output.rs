//! Where results go and in which form.

use std::io::Write as _;

use serde::Serialize;
use serde_json::Value;

use crate::args::Color;
use crate::error::CommandError;
use crate::text;
use crate::yaml;

/// The version in the header of every JSON and YAML answer.
pub const API_VERSION: &str = "policyc.dev/v1";

/// Standard output and standard error with the choice of colours made.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color: anstream::ColorChoice,
    /// How wide text may be.
    pub width: usize,
}

impl Output {
    /// The process's own streams.
    #[must_use]
    pub fn new(color: Color) -> Self {
        let color = match color {
            Color::Auto => anstream::ColorChoice::Auto,
            Color::Always => anstream::ColorChoice::Always,
            Color::Never => anstream::ColorChoice::Never,
        };
        Self { color, width: text::width_of_stdout() }
    }

    /// Writes a result.
    ///
    /// # Errors
    /// Where standard output does not take it. A reader that went away is no error: it has seen
    /// enough.
    pub fn result(self, text: &str) -> Result<(), CommandError> {
        let mut stream = anstream::AutoStream::new(std::io::stdout().lock(), self.color);
        match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(CommandError::Write { what: "to standard output".to_owned(), source: e })
            }
            _ => Ok(()),
        }
    }

    /// Writes a diagnostic. What standard error does not take is lost: there is nowhere to say so.
    pub fn diagnostic(self, text: &str) {
        let mut stream = anstream::AutoStream::new(std::io::stderr().lock(), self.color);
        let _ = stream.write_all(text.as_bytes());
    }
}

/// `body` behind the header that names its kind and the version of its schema.
#[must_use]
pub fn document(kind: &str, body: &impl Serialize) -> Value {
    let mut map = serde_json::Map::new();
    map.insert("apiVersion".to_owned(), Value::from(API_VERSION));
    map.insert("kind".to_owned(), Value::from(kind));
    // Answers hold only strings, numbers, lists and structs, which always can be written.
    if let Ok(Value::Object(fields)) = serde_json::to_value(body) {
        map.extend(fields);
    }
    Value::Object(map)
}

/// JSON for people and programs: indented, ending in a line end.
#[must_use]
pub fn json(value: &Value) -> String {
    format!("{value:#}\n")
}

/// The same as YAML.
#[must_use]
pub fn yaml(value: &Value) -> String {
    yaml::document(value)
}
