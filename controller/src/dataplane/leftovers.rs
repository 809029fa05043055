//! What we left in the other backend, where the node's choice of iptables has changed.
//!
//! Its rules are older than ours and deny besides them, so they are removed after the first write.
//! Until that has succeeded it is tried again, ever more slowly, and is a reason not to be ready: the
//! kernel carries out the rules of both backends.

use std::time::Duration;

use policy_compiler::cidr::Family;
use tracing::{debug, info, warn};

use super::command::CommandError;
use super::restore::Restore;
use super::{Kernel, error_chain, iptables, removal};
use crate::again::Again;

/// The first and the longest pause before the other backend is searched again.
const SEARCH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));

/// Whether the other backend is known to be free of us.
#[derive(Debug)]
pub(super) struct Leftovers {
    found_none: bool,
    again: Again,
    reason: Option<String>,
}

impl Leftovers {
    pub(super) fn new() -> Self {
        Self { found_none: false, again: Again::new(SEARCH), reason: None }
    }

    /// Why what is left there may deny what no policy denies.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Searches again where the last search failed and its time has come; whether it did.
    pub(super) fn search_again(&mut self, kernel: &Kernel, family: Family) -> bool {
        let due = self.again.is_due();
        if due {
            self.search(kernel, family);
        }
        due
    }

    /// Removes what is there of ours, unless there is known to be nothing.
    pub(super) fn search(&mut self, kernel: &Kernel, family: Family) {
        if self.found_none {
            return;
        }
        match remove(kernel, family) {
            Ok(true) => {
                self.found_none = true;
                self.again.forget();
                self.reason = None;
            }
            // Emptied, so that it denies nothing; whoever leads to it may yet let go.
            Ok(false) => {
                self.again.put_off();
                self.reason = None;
            }
            Err(error) => {
                let other = kernel.backend.other();
                let error = error_chain(&error);
                if self.reason.is_none() {
                    warn!(%family, backend = %other, error, "cannot remove leftovers from the other backend");
                }
                self.again.put_off();
                self.reason = Some(format!("{family}: leftovers in iptables-{other}"));
            }
        }
    }
}

/// Whether nothing is left.
fn remove(kernel: &Kernel, family: Family) -> Result<bool, CommandError> {
    let other = kernel.backend.other();
    let found = match iptables::read_if_used(&kernel.runner, other, family) {
        Ok(found) if found.is_empty() => return Ok(true),
        Ok(found) => found,
        // What is not installed has written nothing.
        Err(CommandError::Missing { .. }) => return Ok(true),
        Err(error) if is_closed_to_us(&error) => {
            debug!(%family, backend = %other, error = %error_chain(&error), "other backend not searched");
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    let held = removal::remove(&Restore::new(&kernel.runner, other), family, &found)?;
    info!(
        %family, backend = %other, chains = found.chains.len() - held.len(), held = held.len(),
        "removed leftovers from the other backend"
    );
    Ok(held.is_empty())
}

/// Whether the other backend's table can never be read: by a process without the capability that only
/// legacy needs, or where the native tools of others have made it one that iptables cannot show.
pub(crate) fn is_closed_to_us(error: &CommandError) -> bool {
    match error {
        CommandError::Hidden { .. } => true,
        CommandError::Failed { message, .. } => message.contains("Permission denied"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn a_table_that_nobody_can_show_us_is_no_reason_to_wait() {
        let failed = |message: &str| CommandError::Failed {
            program: "iptables-legacy-save",
            status: ExitStatus::from_raw(256),
            message: message.to_owned(),
            line: None,
        };
        for (message, closed) in [
            ("Cannot initialize: Permission denied (you must be root)", true),
            ("Cannot initialize: Resource temporarily unavailable", false),
        ] {
            assert_eq!(is_closed_to_us(&failed(message)), closed, "{message}");
        }
    }
}
