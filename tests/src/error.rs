//! What can go wrong in the lab. None of these is a verdict: a test that meets one fails.

use std::io;

/// Why the lab could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A network namespace could not be made or entered.
    #[error("cannot {operation} a network namespace")]
    Namespace {
        /// `make` or `enter`.
        operation: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel's could not be read or written.
    #[error("cannot access {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A socket could not be made or used.
    #[error("cannot {operation}")]
    Socket {
        /// What was tried.
        operation: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program is missing.
    #[error("cannot run `{program}`: {source} (Debian packages: iproute2, iptables, ipset)")]
    Program {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program of this project has not been built.
    #[error("`{program}` is not built: `cargo build --package {program}`")]
    NotBuilt {
        /// Which.
        program: String,
    },
    /// A program refused what it was given.
    #[error("`{command}` failed ({status}): {stderr}{input}")]
    Refused {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
        /// What it was given.
        input: String,
    },
    /// policyd's library could not do its part.
    #[error("policyd could not {operation}: {reason}")]
    Policyd {
        /// What it should do.
        operation: &'static str,
        /// What it says.
        reason: String,
    },
    /// A marker did not come through, so nothing can be said about silence.
    #[error("markers from {from} did not arrive: the silence of a receiver proves nothing")]
    MarkerLost {
        /// The stages and stations that miss one.
        from: String,
    },
    /// A process did not do in time what it should.
    #[error("{what} did not happen within {seconds} s")]
    TimeOut {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The kernel holds something other than the ruleset.
    #[error("the kernel's {what} are {found}, the ruleset's {expected}")]
    Miscounted {
        /// Chains, rules, sets or members, and where.
        what: String,
        /// In the kernel.
        found: String,
        /// In the ruleset.
        expected: String,
    },
    /// A part of a cluster could not be set up or asked.
    #[error("cannot {operation}: {source}")]
    Cluster {
        /// What was tried.
        operation: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
