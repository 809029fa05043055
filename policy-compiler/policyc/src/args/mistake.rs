//! What a command line that is not understood is likely to have meant.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

/// `error`, with how manifests are named where it is about a file or folder that stands alone.
#[must_use]
pub fn with_hint(mut error: Error) -> Error {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word,
        _ => return error,
    };
    if Path::new(word).exists() {
        let tip = format!("manifests are named with `-f {word}`");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}
