//! How much room an engine takes for pods elsewhere, counted exactly: the live bytes that are asked of
//! the allocator. In a binary of its own, for nothing else may allocate meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::alloc::System;
use std::collections::BTreeSet;

use policy_compiler::config::NodeConfig;
use policy_compiler::decode;
use policy_compiler::document::Node;
use policy_compiler::engine::Engine;
use policy_compiler::name::NodeName;
use policy_compiler::packed::PackedPod;
use policy_compiler::pool::Pool;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::{Event, PodList};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The most that a pod may take, of a workload that has four of them.
const MOST: usize = 285;

fn live() -> usize {
    let stats = COUNTED.stats();
    // What was reallocated is in both already.
    stats.bytes_allocated - stats.bytes_deallocated
}

/// The pod of that number, as the API server would send it.
fn pod(number: usize, pool: &mut Pool) -> PackedPod {
    let (workload, node) = (number / 4, number % 200);
    let hash = format!("{workload:09x}");
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": format!("tenant-{}", workload % 500),
            "name": format!("checkout-{hash}-{number:05x}"),
            "labels": {
                "app": "checkout", "tier": "backend", "app.kubernetes.io/managed-by": "Helm",
                "app.kubernetes.io/instance": format!("checkout-{workload}"), "pod-template-hash": hash,
            },
            "uid": format!("{number:08x}-f88f-11e6-a518-42010a800195"),
            "creationTimestamp": format!("2024-02-29T23:{:02}:59Z", number % 60),
            "ownerReferences": [{
                "controller": true, "kind": "ReplicaSet", "name": format!("checkout-{workload}-{hash}"),
            }],
        },
        "spec": {
            "nodeName": format!("node-{node}"),
            "containers": [{"ports": [
                {"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090},
            ]}],
        },
        "status": {
            "phase": "Running", "hostIP": format!("172.16.0.{node}"), "startTime": "2024-02-29T23:59:59Z",
            "podIP": format!("10.{}.{}.{}", number >> 16, number >> 8 & 255, number & 255),
        },
    });
    pool.pack(decode::pod(&Node::from(object), None).unwrap().object)
}

/// The live bytes of an engine that has so many pods.
fn room_of(count: usize) -> usize {
    let before = live();
    let mut engine = Engine::new(NodeConfig::new(NodeName::new("here").unwrap()), Generation(0));
    let mut pool = Pool::default();
    let pods = (0..count).map(|number| pod(number, &mut pool)).collect();
    drop(pool);
    engine.apply(Event::PodsRelisted(PodList::new(pods, BTreeSet::new())));
    engine.flush();
    assert_eq!(engine.pods(), count);
    live() - before
}

#[test]
fn a_pod_elsewhere_takes_no_more_than_285_bytes() {
    let count = 20_000;
    let each = room_of(count) / count;
    assert!(each <= MOST, "{each} bytes for each of {count} pods");
    assert!(each >= 80, "{each} bytes for each of {count} pods: they are not counted");
}
