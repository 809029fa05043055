//! One file as it was last read, and what stands in for it where it cannot be.

use std::path::Path;
use std::time::{Duration, Instant};

use policy_compiler::diagnostic::Severity;
use policy_manifest::input::{self, Options, ParsedFile};
use tracing::debug;

use super::unfinished::Stamp;

/// A file as it was last read.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What stood there when it was read, where every later change shows in it.
    pub(super) stamp: Option<Stamp>,
    /// Since when reading it has been put off, as it never rests.
    pub(super) put_off: Option<Instant>,
    /// Somebody has been writing to it for too long.
    pub(super) unfinished: bool,
    /// What was read, or why it could not be.
    read: Option<Result<String, String>>,
    version: u64,
    /// The last parse with nothing amiss.
    sound: Option<ParsedFile>,
    /// A parse without objects that has not stood long enough to be believed.
    emptied: Option<(Instant, ParsedFile)>,
    /// What is amiss now.
    amiss: Vec<String>,
}

impl Known {
    /// The last parse with nothing amiss.
    pub(super) fn sound(&self) -> Option<&ParsedFile> {
        self.sound.as_ref()
    }

    pub(super) fn holds_objects(&self) -> bool {
        self.sound.as_ref().is_some_and(|parsed| !parsed.objects.is_empty())
    }

    /// What is amiss, a line each, with how often that has changed.
    pub(super) fn problems(&self, path: &Path) -> Vec<(u64, String)> {
        let mut lines: Vec<(u64, String)> =
            self.amiss.iter().map(|line| (self.version, line.clone())).collect();
        if self.unfinished {
            let path = path.display();
            lines.push((
                0,
                format!("{path}: still being written to, and not read before that ends"),
            ));
        }
        lines
    }

    /// Takes what was read, or why it could not be.
    pub(super) fn take(
        &mut self,
        path: &Path,
        read: Result<String, String>,
        now: Instant,
        emptied: Duration,
    ) {
        if self.read.as_ref() == Some(&read) {
            return;
        }
        self.version += 1;
        let since = self.emptied.take().map_or(now, |(since, _)| since);
        match &read {
            Ok(text) => {
                let name = path.display().to_string();
                let parsed = input::parse_file(&name, text, &Options::default());
                debug!(file = name, objects = parsed.objects.len(), "parsed");
                self.amiss = amiss(&parsed);
                if parsed.is_sound() && parsed.objects.is_empty() && self.holds_objects() {
                    self.amiss = vec![format!(
                        "{name}: holds no object any more; what it held goes on for {emptied:?}"
                    )];
                    self.emptied = Some((since, parsed));
                } else if parsed.is_sound() {
                    self.sound = Some(parsed);
                }
            }
            Err(message) => self.amiss = vec![message.clone()],
        }
        self.read = Some(read);
    }

    /// Believes that a file holds nothing, once it has stood so for long enough.
    pub(super) fn believe(&mut self, now: Instant, emptied: Duration) {
        if self.due(emptied).is_some_and(|due| due <= now)
            && let Some((_, parsed)) = self.emptied.take()
        {
            self.version += 1;
            self.amiss.clear();
            self.sound = Some(parsed);
        }
    }

    /// When an emptied file is believed.
    pub(super) fn due(&self, emptied: Duration) -> Option<Instant> {
        self.emptied.as_ref().map(|(since, _)| *since + emptied)
    }
}

/// Why a parse is not sound, a line each; nothing where it is.
fn amiss(parsed: &ParsedFile) -> Vec<String> {
    if parsed.is_sound() {
        return Vec::new();
    }
    // A log line has no room for the line of the source that a message may quote below itself.
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let mut lines: Vec<String> =
        parsed.errors.iter().map(|error| first(error.to_string())).collect();
    let telling = |severity| severity == Severity::Error || parsed.template;
    let diagnostics = parsed.diagnostics.iter().filter(|d| telling(d.severity));
    lines.extend(diagnostics.map(ToString::to_string));
    lines
}
