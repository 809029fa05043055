//! The log: lines on standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("`{filter}` is no log filter")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Starts the log. A log that was started before, as in tests, stays.
///
/// # Errors
/// Where the filter is not understood.
pub fn start(format: LogFormat, level: Option<&str>) -> Result<(), LogError> {
    let environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = level.map(str::to_owned).or(environment).unwrap_or_else(|| "info".to_owned());
    let parsed = EnvFilter::try_new(&filter)
        .map_err(|source| LogError::Filter { filter: filter.clone(), source })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_target(false)
        .with_writer(io::stderr);
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).try_init()
        }
    };
    Ok(())
}
