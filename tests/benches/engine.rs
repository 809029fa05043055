//! What the engine takes for an event, for a start, and from scratch, at the size of the largest
//! clusters and at a tenth of it; and what reading a pod takes. Percentiles are `scale`'s.

#![allow(missing_docs, reason = "the macros of criterion make functions")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]

use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use criterion::{criterion_group, criterion_main, measurement::WallTime};
use policy_compiler::compile::compile;
use policy_compiler::engine::Engine;
use policy_compiler::ruleset::Generation;
use policy_compiler::update::Event;
use policy_tests::generate::{Cluster, Local, Size, What};
use policyd::source::api::read_pod;

use policy_benches::scene::{Scene, step, to_and_fro};

/// Few samples, since the slowest arm takes seconds for each.
fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

fn events(criterion: &mut Criterion) {
    for (name, size) in [("tenth", Size::TENTH), ("envelope", Size::ENVELOPE)] {
        let mut group = group(criterion, name);
        let mut scene = Scene::new(size);
        let Scene { cluster, engine } = &mut scene;
        group.bench_function("pod event to update", |bench| {
            bench.iter_batched(
                || cluster.change_of(What::PodLabel).event(),
                |event| step(engine, event),
                BatchSize::SmallInput,
            );
        });
        let relabelled = [0, 1].map(|_| scene.cluster.relabel_largest().event());
        let mut relabelled = relabelled.iter().cycle();
        group.bench_function("namespace label to update", |bench| {
            bench.iter_batched(
                || relabelled.next().unwrap().clone(),
                |event| step(&mut scene.engine, event),
                BatchSize::PerIteration,
            );
        });
        let listed = scene.engine.snapshot();
        group.bench_function("relist of the same", |bench| {
            bench.iter_batched(
                || Event::Relisted(Box::new(listed.clone())),
                |event| step(&mut scene.engine, event),
                BatchSize::PerIteration,
            );
        });
        group.bench_function("start", |bench| {
            bench.iter_batched(
                || Event::Relisted(Box::new(listed.clone())),
                |event| {
                    let mut engine = Engine::new(scene.cluster.config(), Generation(0));
                    engine.apply(event);
                    engine.flush()
                },
                BatchSize::PerIteration,
            );
        });
        group.bench_function("compile from scratch", |bench| {
            bench.iter(|| compile(&listed, &scene.cluster.config()));
        });
        let mut scene = Scene::new(size.with_local(Local::Together));
        let edits = to_and_fro(&scene.cluster.largest_namespace());
        let mut edits = edits.iter().cycle();
        group.bench_function("policy event with 250 local pods", |bench| {
            bench.iter_batched(
                || edits.next().unwrap().clone(),
                |event| step(&mut scene.engine, event),
                BatchSize::PerIteration,
            );
        });
    }
}

fn decoding(criterion: &mut Criterion) {
    let cluster = Cluster::new(Size::SMALL, 1);
    let texts: Vec<Vec<u8>> =
        cluster.pod_objects().map(|pod| serde_json::to_vec(&pod).unwrap()).collect();
    let bytes: usize = texts.iter().map(Vec::len).sum();
    let mut group = group(criterion, "600 pods out of JSON");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("as policyd reads them", |bench| {
        bench.iter(|| texts.iter().filter(|text| read_pod(text).unwrap().is_ok()).count());
    });
    group.bench_function("as typed objects of the API", |bench| {
        bench.iter(|| {
            let read = |text: &Vec<u8>| {
                serde_json::from_slice::<k8s_openapi::api::core::v1::Pod>(text).unwrap()
            };
            texts.iter().map(read).filter(|pod| pod.spec.is_some()).count()
        });
    });
}

criterion_group!(benches, decoding, events);
criterion_main!(benches);
