//! Answers as YAML. Block style, two spaces, strings quoted wherever YAML 1.1 or 1.2 might read
//! something else into them.

use std::fmt::Write as _;

use serde_json::Value;

/// `value` as one YAML document.
#[must_use]
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => block(value, 0, &mut out),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut out),
        _ => {
            scalar(value, &mut out);
            out.push('\n');
        }
    }
    out
}

fn block(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Object(map) => {
            for (i, (key, value)) in map.iter().enumerate() {
                // The first key of a list item stands behind its dash.
                if i > 0 || !out.ends_with("- ") {
                    out.push_str(&" ".repeat(indent));
                }
                string(key, out);
                out.push(':');
                child(value, indent, out);
            }
        }
        Value::Array(items) => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push_str("- ");
                if is_block(item) && item.is_object() {
                    block(item, indent + 2, out);
                } else if is_block(item) {
                    out.push('\n');
                    block(item, indent + 2, out);
                } else {
                    scalar(item, out);
                    out.push('\n');
                }
            }
        }
        _ => scalar(value, out),
    }
}

fn child(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        block(value, if value.is_array() { indent } else { indent + 2 }, out);
    } else {
        out.push(' ');
        scalar(value, out);
        out.push('\n');
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    }
}

fn scalar(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => string(text, out),
        Value::Object(_) => out.push_str("{}"),
        Value::Array(_) => out.push_str("[]"),
        // Writing to a String does not fail; null, booleans and numbers are the same in JSON.
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// Plain where that is surely the same text, else with double quotes, whose escapes are JSON's.
fn string(text: &str, out: &mut String) {
    let first = text.bytes().next().unwrap_or(b' ');
    let plain = first.is_ascii_alphabetic()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" _-./()=[],".contains(&b))
        && !text.ends_with(' ')
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(text);
    } else {
        let _ = write!(out, "{}", Value::String(text.to_owned()));
    }
}

/// Words that some YAML reader takes for a boolean or null.
const RESERVED: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_values_become_blocks_and_doubtful_strings_are_quoted() {
        let value = json!({
            "a": [{"b": 1, "c": ["x", "no", "10.0.0.1", "a: b"]}, [], [true, null]],
            "d": {},
            "e": {"f": "plain text", "g": "it's \"so\"\n"},
        });
        assert_eq!(
            document(&value),
            "a:\n- b: 1\n  c:\n  - x\n  - \"no\"\n  - \"10.0.0.1\"\n  - \"a: b\"\n- []\n- \n  - true\n  - null\nd: {}\ne:\n  f: plain text\n  g: \"it's \\\"so\\\"\\n\"\n"
        );
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        let value = json!({
            "list": ["", " x", "x ", "-", "~", "0x1", "1e3", "# no", "a #b", "[", "null", "é"],
            "nested": [[1, [2]], {"k": {"deep": [{"x": 1.5}]}}],
        });
        let nodes = policy_manifest::yaml::parse(&document(&value)).expect("valid YAML");
        assert_eq!(json_of(&nodes[0]), value);
    }

    fn json_of(node: &policy_compiler::document::Node) -> Value {
        use policy_compiler::document::Value as V;
        match &node.value {
            V::Null => Value::Null,
            V::Bool(b) => json!(b),
            V::Int(i) => json!(i),
            V::Float(f) => json!(f),
            V::String(s) => json!(s),
            V::List(items) => items.iter().map(json_of).collect(),
            V::Map(entries) => {
                Value::Object(entries.iter().map(|e| (e.key.clone(), json_of(&e.node))).collect())
            }
        }
    }
}
