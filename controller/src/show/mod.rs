//! What the commands that ask the agent print, for people and for programs.
//!
//! Everything is laid out with its styles in the width that the terminal has; the stream strips styles
//! where no terminal shows them. Whatever comes from the cluster has its control characters written out
//! ([`layout::visible`]): a name or a message must not be able to write on somebody's terminal.

pub mod layout;
pub mod pod;
pub mod status;
pub mod trace;
pub mod verify;

use std::io::{self, Write};
use std::time::SystemTime;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::agent::verify::VerifyError;
use crate::agent::wire::{Answer, Question};
use crate::agent::{self, AskError};
use crate::args::{OutputFormat, StatusArgs, TraceArgs, VerifyArgs};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The agent that runs.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// What it has written, and the kernel.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// It answered something else.
    #[error("the policyd of this network namespace answers another question")]
    Answer,
    /// Standard output.
    #[error("cannot print")]
    Print(#[source] io::Error),
}

/// Prints what the agent that runs enforces, and says whether it is ready.
///
/// # Errors
/// Where no agent answers.
pub fn status(args: &StatusArgs) -> Result<bool, ShowError> {
    let answer = agent::ask(&args.pod.clone().map_or(Question::Status, Question::Pod))?;
    let width = layout::width_of_stdout();
    let (ready, printed) = match (&answer, args.output) {
        (Answer::Status(all), OutputFormat::Text) => (all.ready, print(&status::text(all, width))),
        (Answer::Status(all), OutputFormat::Json) => (all.ready, print_json(all)),
        (Answer::Pod(one), OutputFormat::Text) => (true, print(&pod::text(one, width))),
        (Answer::Pod(one), OutputFormat::Json) => (true, print_json(one)),
        _ => return Err(ShowError::Answer),
    };
    printed.map_err(ShowError::Print)?;
    Ok(ready)
}

/// Prints whether the kernel holds what the agent that runs has written, and says so.
///
/// # Errors
/// Where no agent answers, or the kernel cannot be read.
pub fn verify(args: &VerifyArgs) -> Result<bool, ShowError> {
    let found = agent::verify::verify()?;
    let printed = match args.output {
        OutputFormat::Text => print(&verify::text(&found, layout::width_of_stdout())),
        OutputFormat::Json => print_json(&found),
    };
    printed.map_err(ShowError::Print)?;
    Ok(found.equal)
}

/// What a person looks for first.
pub(crate) const STRONG: Style = Style::new().bold();
/// Titles, and what is there if needed.
pub(crate) const DIM: Style = Style::new().dimmed();
/// As it should be.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Not as it should be.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Deserves a look.
pub(crate) const DOUBT: Style = AnsiColor::Yellow.on_default();

/// Prints what the agent that runs denies, as it happens.
///
/// # Errors
/// Where no agent answers, or the one that does ends.
pub fn trace(args: &TraceArgs) -> Result<bool, ShowError> {
    let mut left = args.count.unwrap_or(u64::MAX);
    if left == 0 {
        return Ok(true);
    }
    let mut printed = Ok(true);
    let follow = |answer| {
        let Answer::Denied(denial) = answer else { return true };
        if args.pod.as_ref().is_some_and(|pod| !denial.is_about(pod)) {
            return true;
        }
        printed = match args.output {
            OutputFormat::Text => write(&trace::line(&denial, SystemTime::now())),
            OutputFormat::Json => write_json_line(&denial),
        };
        left = left.saturating_sub(1);
        left > 0 && matches!(printed, Ok(true))
    };
    agent::follow(&Question::Trace, follow)?;
    printed.map_err(ShowError::Print)?;
    Ok(true)
}

/// Prints text on standard output; that nobody reads it to its end is no failure.
///
/// # Errors
/// Where it cannot be written, as on a disk that is full.
pub fn print(text: &str) -> io::Result<()> {
    write(text).map(drop)
}

/// Prints JSON on standard output, as [`print()`] does.
///
/// # Errors
/// As [`print()`].
pub fn print_json<T: Serialize>(value: &T) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    write(&text).map(drop)
}

fn write_json_line<T: Serialize>(value: &T) -> io::Result<bool> {
    let mut text = serde_json::to_string(value)?;
    text.push('\n');
    write(&text)
}

/// Whether there is still somebody who reads.
fn write(text: &str) -> io::Result<bool> {
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}
