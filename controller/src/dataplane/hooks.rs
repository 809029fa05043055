//! The rule of ours in a built-in chain: its first insertion and its removal.
//!
//! Done by the `iptables` crate, which runs the program with an array of arguments. Its error type
//! cannot leave a thread and is turned into ours at once. It waits for the lock without a bound, so
//! the bounded wait is put into the rule's words instead. A hook that stands already is moved in the
//! chains' own transaction and not here: insert-then-delete would delete the new rule.
//!
//! The crate also waits for its program without a bound. So each call has a thread of its own, which
//! is left behind where it does not come back in time; how many may be left so is bounded too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use iptables::IPTables;
use policy_compiler::cidr::Family;
use policy_compiler::ruleset::{Hook, Rule};

use super::backend::Backend;
use super::command::Runner;
use super::iptables::{LOCK_WAIT, words_of};
use super::probe::own;

/// Why a hook could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// It could not be put first.
    #[error("cannot insert the rule in {}: {message}", hook.builtin())]
    Insert {
        /// Where.
        hook: Hook,
        /// What iptables said.
        message: String,
    },
    /// It could not be taken out.
    #[error("cannot delete the rule in {}: {message}", hook.builtin())]
    Delete {
        /// Where.
        hook: Hook,
        /// What iptables said.
        message: String,
    },
    /// The program did not end.
    #[error("iptables had not finished with {} after {}s", hook.builtin(), limit.as_secs())]
    TimedOut {
        /// Where.
        hook: Hook,
        /// How long it was given.
        limit: Duration,
    },
    /// Earlier calls have not ended yet, or the system has no thread to give.
    #[error("cannot start iptables for {}: {message}", hook.builtin())]
    Start {
        /// Where.
        hook: Hook,
        /// Why.
        message: String,
    },
}

/// How long a call may take: the wait for the lock, and then some.
const LIMIT: Duration = Duration::from_secs(15);
/// How many calls may hang at the same time.
const HANGING: usize = 4;

/// Calls that have begun and not ended.
static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Does `work` on a thread of its own, in the network namespace of the caller, and waits for it no
/// longer than `limit`.
fn bounded(
    hook: Hook,
    limit: Duration,
    work: impl FnOnce() -> Result<(), HookError> + Send + 'static,
) -> Result<(), HookError> {
    if CALLS.fetch_add(1, Ordering::SeqCst) >= HANGING {
        CALLS.fetch_sub(1, Ordering::SeqCst);
        let message = format!("{HANGING} calls hang already");
        return Err(HookError::Start { hook, message });
    }
    let (to, result) = mpsc::channel();
    let thread = thread::Builder::new().name("hook".to_owned()).spawn(move || {
        let done = work();
        CALLS.fetch_sub(1, Ordering::SeqCst);
        // Whoever asked may have given up.
        let _ = to.send(done);
    });
    if let Err(error) = thread {
        CALLS.fetch_sub(1, Ordering::SeqCst);
        return Err(HookError::Start { hook, message: error.to_string() });
    }
    result.recv_timeout(limit).unwrap_or(Err(HookError::TimedOut { hook, limit }))
}

fn program(backend: Backend, family: Family) -> IPTables {
    let cmd = backend.iptables(family).name;
    IPTables { cmd, has_check: true, has_wait: false, is_numeric: true }
}

/// Puts `rule` first in `hook`. The chains that it leads to exist.
///
/// # Errors
/// Where iptables refuses or does not end.
pub fn insert(
    runner: &Runner,
    backend: Backend,
    family: Family,
    hook: Hook,
    rule: &Rule,
) -> Result<(), HookError> {
    runner.count_one();
    let words = format!("-w {LOCK_WAIT} {}", words_of(rule));
    own::writes(backend);
    bounded(hook, LIMIT.min(runner.limit()), move || {
        program(backend, family).insert("filter", hook.builtin(), &words, 1).map_err(|error| {
            HookError::Insert { hook, message: error.to_string().trim().to_owned() }
        })
    })
}

/// Takes the rule with these words of `iptables-save` out of `hook`.
///
/// # Errors
/// Where iptables refuses or does not end.
pub fn delete(
    runner: &Runner,
    backend: Backend,
    family: Family,
    hook: Hook,
    words: &str,
) -> Result<(), HookError> {
    runner.count_one();
    let words = format!("-w {LOCK_WAIT} {words}");
    own::writes(backend);
    bounded(hook, LIMIT.min(runner.limit()), move || {
        program(backend, family).delete("filter", hook.builtin(), &words).map_err(|error| {
            HookError::Delete { hook, message: error.to_string().trim().to_owned() }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn calls_that_hang_are_given_up_and_not_piled_up() {
        let (release, held) = mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let begun = Instant::now();
        for _ in 0..HANGING {
            let held = held.clone();
            let hangs = move || {
                let _ = held.lock().unwrap().recv();
                Ok(())
            };
            let limit = Duration::from_millis(20);
            let given_up = bounded(Hook::Forward, limit, hangs).unwrap_err();
            assert!(matches!(given_up, HookError::TimedOut { .. }), "{given_up}");
        }
        let refused = bounded(Hook::Forward, LIMIT, || Ok(())).unwrap_err();
        assert!(matches!(refused, HookError::Start { .. }), "{refused}");
        assert!(begun.elapsed() < LIMIT);

        drop(release);
        while CALLS.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
        bounded(Hook::Forward, LIMIT, || Ok(())).unwrap();
    }
}
