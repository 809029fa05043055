//! Pages: one HTML file each, with its style, its script and its data inside, that works offline.
//!
//! The content security policy forbids everything but that one style and that one script, which it names
//! by their hashes: whatever the names in the data are, nothing else runs and nothing is loaded. The data
//! are JSON in an element that is never run, with every `<` escaped; the script writes them as text
//! alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::graph::escaped;

const STYLE: &str = include_str!("page.css");
const COMMON: &str = include_str!("common.js");

/// A page of its own.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// What the window is called.
    pub title: &'static str,
    /// What the body begins with.
    pub body: &'static str,
    /// What it does, after [`COMMON`].
    pub script: &'static str,
}

/// The page of a graph.
pub const GRAPH: Page = Page {
    title: "What network policies let pass",
    body: include_str!("graph.html"),
    script: include_str!("graph.js"),
};

/// The page of a matrix.
pub const MATRIX: Page = Page {
    title: "Who may reach whom",
    body: include_str!("matrix.html"),
    script: include_str!("matrix.js"),
};

impl Page {
    /// The page with `data`.
    #[must_use]
    pub fn with(self, data: &impl Serialize) -> String {
        let script = format!("\"use strict\";\n{COMMON}\n{}", self.script);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
             style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n<link rel=\"icon\" href=\"data:,\">\n\
             <title>{}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{}\
             <script type=\"application/json\" id=\"data\">{}</script>\n<script>{script}</script>\n</body>\n</html>\n",
            hash(STYLE),
            hash(&script),
            escaped(self.title),
            self.body,
            embedded(data),
        )
    }
}

/// A source's hash as a content security policy names it.
fn hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source.as_bytes())))
}

/// JSON that cannot end the element that it stands in, nor begin a comment there.
fn embedded(data: &impl Serialize) -> String {
    // Answers hold only strings, numbers, lists and structs, which always can be written.
    let json = serde_json::to_string(data).unwrap_or_else(|_| "null".to_owned());
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leaves_the_data() {
        let hostile = ["</script><script>alert(1)</script>", "<!--<script>", "\u{2028}&amp;"];
        let page = GRAPH.with(&hostile);
        assert_eq!(page.matches("<script").count(), 2, "the data and the script");
        assert_eq!(page.matches("</script>").count(), 2);
        let data =
            page.split("id=\"data\">").nth(1).and_then(|rest| rest.split("</script>").next());
        let data: Vec<String> = serde_json::from_str(data.expect("data")).expect("JSON");
        assert_eq!(data, hostile);
    }

    #[test]
    fn pages_name_the_hashes_of_what_is_inside_and_load_nothing() {
        for page in [GRAPH, MATRIX] {
            let text = page.with(&0);
            let style = text.split("<style>").nth(1).and_then(|rest| rest.split("</style>").next());
            let script =
                text.split("<script>").nth(1).and_then(|rest| rest.split("</script>").next());
            for inside in [style, script] {
                assert!(text.contains(&hash(inside.expect("it is there"))), "{}", page.title);
            }
            for word in ["http:", "https:", "src=", "innerHTML", "eval(", "@import", "url("] {
                // The namespace of SVG is a name and no address, and the marker stands in the page.
                let names = text.replace("http://www.w3.org/2000/svg", "").replace("url(#tip)", "");
                assert!(!names.contains(word), "{word} in {}", page.title);
            }
        }
    }
}
