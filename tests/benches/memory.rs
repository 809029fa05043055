//! How much memory an engine takes that has the largest cluster, in a process that does nothing else.
//!
//! Counted are the live bytes that the program has asked the system's allocator for, exactly and the
//! same in every run, and what the kernel says of the process (`/proc/self/status`), which has what
//! the allocator keeps for itself too. Pods are read out of JSON one by one as a list of the API server
//! brings them, and share what they share in policyd.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::alloc::System;
use std::collections::BTreeSet;

use policy_benches::figures;
use policy_compiler::engine::Engine;
use policy_compiler::pool::Pool;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::{Event, PodList};
use policy_tests::generate::{Cluster, Size};
use policyd::source::api::read_pod;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes that are asked for and not given back.
fn live() -> usize {
    let stats = COUNTED.stats();
    // What was reallocated is in both already.
    stats.bytes_allocated - stats.bytes_deallocated
}

/// A line of `/proc/self/status` in bytes.
fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}

fn main() {
    let mut rows = Vec::new();
    for (name, size) in [("a tenth", Size::TENTH), ("envelope", Size::ENVELOPE)] {
        let cluster = Cluster::new(size, 1);
        let (heap, resident) = (live(), status("VmRSS:"));
        let mut engine = Engine::new(cluster.config(), Generation(0));
        for namespace in cluster.namespaces() {
            engine.apply(Event::NamespaceApplied(namespace));
        }
        for policy in cluster.policies() {
            engine.apply(Event::PolicyApplied(Box::new(policy)));
        }
        let beside = live() - heap;
        let (mut pool, mut pods) = (Pool::default(), Vec::new());
        for object in cluster.pod_objects() {
            let text = serde_json::to_vec(&object).unwrap();
            pods.push(pool.pack(read_pod(&text).unwrap().unwrap().object));
        }
        drop(pool);
        engine.apply(Event::PodsRelisted(PodList::new(pods, BTreeSet::new())));
        let objects = live() - heap - beside;
        engine.flush();
        let all = live() - heap;
        let count = engine.pods();
        println!(
            "{name}: {} bytes a pod for pods, {beside} for namespaces and policies, {} for what follows \
             from them; {} bytes a pod in all; resident {} MB more than before, {} MB at most",
            objects / count,
            all - objects - beside,
            all / count,
            status("VmRSS:").saturating_sub(resident) >> 20,
            status("VmHWM:").saturating_sub(resident) >> 20,
        );
        rows.push(json!({
            "cluster": name, "pods": count, "pods_bytes": objects, "other_objects_bytes": beside,
            "all_bytes": all, "bytes_a_pod": all / count, "target_bytes_a_pod": 300,
            "resident_bytes": status("VmRSS:"), "peak_resident_bytes": status("VmHWM:"),
        }));
    }
    figures::keep("memory.json", &json!(rows));
}
