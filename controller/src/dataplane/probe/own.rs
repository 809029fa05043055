//! What policyd itself does to the tables, so that the probes can tell it from what others do.
//!
//! Counted for the whole process: whichever part of it starts an iptables, the kernel's generation and
//! the lock file show the same trace. Whoever hands a transaction to iptables says so here first: a
//! trace that is seen before it is counted would be taken for somebody else's.
//!
//! * `nf_tables` counts every transaction that changes something and none that it refuses.
//! * Legacy opens the lock file for each transaction and for listing a chain, not for `save`.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::dataplane::backend::Backend;

/// Transactions of ours that `nf_tables` counts.
static COMMITS: AtomicU32 = AtomicU32::new(0);
/// Programs of ours that open the lock file, or that often one program.
static OPENINGS: AtomicU32 = AtomicU32::new(0);

/// A transaction that changes something is about to be handed to iptables.
pub(crate) fn writes(backend: Backend) {
    traces(backend).fetch_add(1, Ordering::SeqCst);
}

/// The transaction just counted is known not to have been carried out.
pub(crate) fn has_not_written(backend: Backend) {
    if backend == Backend::Nft {
        COMMITS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// `iptables` is about to list a chain.
pub(crate) fn lists(backend: Backend) {
    if backend == Backend::Legacy {
        OPENINGS.fetch_add(1, Ordering::SeqCst);
    }
}

/// How many traces of ours there are, from zero again after the last number.
pub(super) fn count(backend: Backend) -> u32 {
    traces(backend).load(Ordering::SeqCst)
}

fn traces(backend: Backend) -> &'static AtomicU32 {
    match backend {
        Backend::Nft => &COMMITS,
        Backend::Legacy => &OPENINGS,
    }
}
