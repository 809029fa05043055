//! What events cost at the size of the largest clusters, as percentiles, beside compiling afresh; what
//! a start costs; and how fast pods are read. Prints the table that `make bench` has, and writes it to
//! `bench/scale.json` in the target directory, and as Markdown for the README to `bench/scale.md`.
//!
//! Each event is timed by itself, from `apply` to what `flush` returns; making it is not. Afterwards
//! the engine's rules are compared with those compiled from scratch. Nothing here depends on a
//! machine but the times: how many events, steps and members there were is asserted.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot be set up ends")]
#![allow(clippy::cast_precision_loss, reason = "no count comes near 2^52")]

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod as TypedPod;
use policy_compiler::cluster::Snapshot;
use policy_compiler::compile::compile;
use policy_compiler::engine::Engine;
use policy_compiler::ruleset::{Generation, MemberSet};
use policy_compiler::update::{Event, Relist, Step, Update};
use policy_tests::bench::report::{Machine, Report, Row, Target, Unit, Verdict};
use policy_tests::bench::statistics::{Spread, median, quantile};
use policy_tests::generate::{Cluster, Local, Size, What};
use policyd::source::api::read_pod;

use policy_benches::figures;
use policy_benches::scene::{Scene, step, to_and_fro};

/// How many blocks are read of pods: their median is steadier than what is to be told apart.
const DECODINGS: usize = 100;

/// How long events of a kind are tried at most: an engine that compiles afresh takes seconds for each.
const LIMIT: Duration = Duration::from_secs(20);

fn main() {
    let mut table = Table(Vec::new());
    decoding(&mut table);
    for (name, size) in [("15,000 pods", Size::TENTH), ("150,000 pods", Size::ENVELOPE)] {
        println!("{name}: {size:?}");
        cluster(&mut table, name, size);
        policies(&mut table, name, size);
    }
    let report = Report { machine: Machine::here(), quick: false, rows: table.0 };
    print!("\n{}", report.table());
    println!("{} row(s) missed their target", report.named(Verdict::Missed).len());
    print!("\n{}", report.markdown());
    figures::keep("scale.json", &report.json());
    figures::keep_text("scale.md", &report.markdown());
}

/// The rows so far.
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, row: Row) {
        println!("  {}: {}", row.title, row.unit.show(row.figure));
        self.0.push(row);
    }

    /// The median of some times in microseconds, which is to be at most so many.
    fn times(&mut self, title: &str, times: &[f64], at_most: Option<f64>) {
        let row = Row::of_figure("engine", title, Unit::Micros, median(times));
        let row = row.within(Spread::of(times)).showing(format!("{} times", times.len()));
        self.add(match at_most {
            Some(limit) => row.aiming(Target::AtMost(limit)),
            None => row,
        });
    }
}

/// Microseconds.
fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// How long something takes, in microseconds, a few times over. To let go of what comes of it is not
/// timed.
fn timed<T, R>(count: usize, mut make: impl FnMut() -> T, mut run: impl FnMut(T) -> R) -> Vec<f64> {
    let time = |_| {
        let subject = make();
        let start = Instant::now();
        let outcome = run(subject);
        let took = micros(start.elapsed());
        drop(outcome);
        took
    };
    (0..count).map(time).collect()
}

/// The times of so many events, or of as many as fit into the limit, in microseconds, and what each
/// led to. An event is made when it is its turn.
fn times(
    engine: &mut Engine,
    count: usize,
    mut event: impl FnMut(usize, &Engine) -> Event,
) -> (Vec<f64>, Vec<Update>) {
    let begin = Instant::now();
    let mut all = (Vec::new(), Vec::new());
    for number in 0..count {
        let event = event(number, engine);
        let start = Instant::now();
        let update = step(engine, event);
        all.0.push(micros(start.elapsed()));
        all.1.push(update);
        if begin.elapsed() > LIMIT {
            break;
        }
    }
    all
}

/// Everything as it comes when it has been decoded: a list of each kind, pods in little room.
fn lists(objects: &Snapshot) -> [Event; 4] {
    let Snapshot { namespaces, pods, policies, nodes, .. } = objects.clone();
    [
        Event::NamespacesRelisted(Relist { objects: namespaces, ..Relist::default() }),
        Event::NodesRelisted(Relist { objects: nodes, ..Relist::default() }),
        Event::PodsRelisted(pods.into_values().collect()),
        Event::PoliciesRelisted(Relist { objects: policies, ..Relist::default() }),
    ]
}

fn cluster(table: &mut Table, name: &str, size: Size) {
    let mut scene = Scene::new(size);
    let listed = scene.engine.snapshot();
    let config = scene.engine.config().clone();
    let afresh = timed(
        5,
        || (),
        |()| {
            assert!(compile(&listed, &config).ruleset.v4.chains.len() > 100);
        },
    );
    table.times(&format!("compile from scratch, {name}"), &afresh, None);
    let starts = timed(
        5,
        || lists(&listed),
        |lists| {
            let mut engine = Engine::new(config.clone(), Generation(0));
            for list in lists {
                engine.apply(list);
            }
            let update = engine.flush();
            (engine, update)
        },
    );
    table.times(&format!("start: snapshot to rules, {name}"), &starts, Some(300_000.0));

    let kinds = [What::PodComes, What::PodGoes, What::PodLabel];
    let Scene { cluster, engine } = &mut scene;
    let (pods, updates) =
        times(engine, 9_000, |number, _| cluster.change_of(kinds[number / 3 % 3]).event());
    let changing = updates.iter().filter(|update| !update.is_empty()).count();
    println!("  {changing} of {} pod events changed the rules", pods.len());
    table.times(&format!("pod event to update, p50, {name}"), &pods, Some(5.0));
    let p99 = Row::of_figure(
        "engine",
        &format!("pod event to update, p99, {name}"),
        Unit::Micros,
        quantile(&pods, 0.99),
    );
    table.add(p99.aiming(Target::AtMost(50.0)));
    let less = Row::of_figure(
        "engine",
        &format!("pod event, times less, {name}"),
        Unit::Times,
        median(&afresh) / median(&pods),
    );
    table.add(less.aiming(Target::AtLeast(1_000.0)).against("compile from scratch, equal rules"));
    nothing(table, name, &mut scene);

    let Scene { cluster, engine } = &mut scene;
    let (namespaces, updates) = times(engine, 20, |_, _| cluster.relabel_largest().event());
    let members = updates.iter().map(members).min().unwrap();
    println!("  a namespace's label changes {members} members at least");
    assert!(size != Size::ENVELOPE || members >= 3_000, "{members} pods are touched");
    let title = format!("namespace label, {members} members, {name}");
    table.times(&title, &namespaces, Some(2_000.0));
    scene.check();
}

/// How many members of sets an update changes, or makes.
fn members(update: &Update) -> usize {
    let changed = |step: &Step| match step {
        Step::CreateSets(sets) => sets.values().map(|set| set.members.len()).sum(),
        Step::AddMembers(sets) | Step::RemoveMembers(sets) => {
            sets.values().map(MemberSet::len).sum::<usize>()
        }
        Step::ReplaceChains(_) | Step::DestroySets(_) => 0,
    };
    update.steps.iter().map(changed).sum()
}

/// What changes nothing.
fn nothing(table: &mut Table, name: &str, scene: &mut Scene) {
    let Scene { cluster, engine } = scene;
    let (times_of, updates) =
        times(engine, 3_000, |_, _| cluster.change_of(What::StatusOnly).event());
    assert!(updates.iter().all(Update::is_empty), "a status changed the rules");
    table.times(&format!("status of a pod, 0 steps, {name}"), &times_of, None);
    let (times_of, updates) =
        times(engine, 5, |_, engine| Event::Relisted(Box::new(engine.snapshot())));
    assert!(updates.iter().all(Update::is_empty), "a list of the same changed the rules");
    table.times(&format!("relist of the same, 0 steps, {name}"), &times_of, None);
}

/// A policy that selects all pods of the node.
fn policies(table: &mut Table, name: &str, size: Size) {
    let mut scene = Scene::new(size.with_local(Local::Together));
    let edits = to_and_fro(&scene.cluster.largest_namespace());
    let (times_of, updates) =
        times(&mut scene.engine, 200, |number, _| edits[number % edits.len()].clone());
    assert!(updates.iter().all(|update| !update.is_empty()), "an edit changed no rules");
    let title = format!("policy event, 250 local pods selected, {name}");
    table.times(&title, &times_of, Some(2_000.0));
    scene.check();
}

/// Reading pods, in turns with what it is measured against, and that with itself.
fn decoding(table: &mut Table) {
    let cluster = Cluster::new(Size::SMALL, 1);
    let texts: Vec<Vec<u8>> =
        cluster.pod_objects().map(|pod| serde_json::to_vec(&pod).unwrap()).collect();
    let slim = || texts.iter().filter(|text| read_pod(text).unwrap().is_ok()).count();
    let typed = || {
        let read = |text: &Vec<u8>| serde_json::from_slice::<TypedPod>(text).unwrap();
        texts.iter().map(read).filter(|pod| pod.spec.is_some()).count()
    };
    let time = |read: &dyn Fn() -> usize| {
        let start = Instant::now();
        assert_eq!(read(), texts.len());
        micros(start.elapsed()) / texts.len() as f64
    };
    let [mut ours, mut theirs, mut ratios, mut controls] = [const { Vec::new() }; 4];
    // What the first readings leave behind in the allocator they have for themselves.
    for _ in 0..5 {
        let _ = (time(&slim), time(&typed));
    }
    for block in 0..DECODINGS {
        // Each arm is outside as often as inside.
        let ours_outside = block % 2 == 0;
        let [outer, inner]: [&dyn Fn() -> usize; 2] =
            if ours_outside { [&slim, &typed] } else { [&typed, &slim] };
        let quad = [time(outer), time(inner), time(inner), time(outer)];
        let (outside, inside) = (quad[0] + quad[3], quad[1] + quad[2]);
        let (ours_took, theirs_took) =
            if ours_outside { (outside, inside) } else { (inside, outside) };
        ratios.push(theirs_took / ours_took);
        ours.push(ours_took / 2.0);
        theirs.push(theirs_took / 2.0);
        // The control has the other arm before each reading, for every block ends with either: what
        // one leaves in the caches and the allocator must not fall to one of its halves alone.
        let quad = [(); 4].map(|()| {
            time(&slim);
            time(&typed)
        });
        let (outside, inside) = (quad[0] + quad[3], quad[1] + quad[2]);
        controls.push(if ours_outside { inside / outside } else { outside / inside });
    }
    let bytes = texts.iter().map(Vec::len).sum::<usize>() / texts.len();
    let title = format!("pod of {bytes} bytes read, times less");
    let row = Row {
        control: Some(median(&controls)),
        ..Row::of_figure("decode", &title, Unit::Times, median(&ratios))
    };
    let both = format!("{:.0} µs to {:.0} µs", median(&theirs), median(&ours));
    let row = row.within(Spread::of(&ratios)).aiming(Target::AtLeast(2.0));
    table.add(row.against("k8s-openapi's Pod").showing(both));
}
