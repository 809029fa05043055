//! The demonstration: the pods of an example as namespaces, some on a bridge and some on veths of
//! their own, every pair probed with real connections before and after policyd looks after them.

mod connections;
mod matrix;

use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use policy_compiler::cidr::Family;
use policy_compiler::cluster::{Pod, Snapshot};
use policy_compiler::evaluate::Evaluator;
use policy_compiler::flow::{End, Flow, Traffic, Wire};
use policy_compiler::name::NodeName;
use policy_compiler::verdict::Decision;
use policy_manifest::input;

use crate::daemon::{Daemon, built_program};
use crate::enforcement::{Backend, LOCK_FILE, OWN_NAMESPACE};
use crate::error::LabError;
use crate::lab::{Lab, Plan, Wiring};
use crate::placement::{Placement, Unmapped};

use connections::{Client, Service, connect_all, listen};
use matrix::{Cell, Matrix, Paint};

/// Why the demonstration ended early.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The example does not fit.
    #[error("the example cannot be laid onto the lab: {0}")]
    Placement(#[from] Unmapped),
    /// The example cannot be read.
    #[error("cannot read {path}: {reason}")]
    Example {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Nothing can be printed any more.
    #[error("cannot print")]
    Output(#[from] io::Error),
}

/// What to show and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of manifests.
    pub example: PathBuf,
    /// The pod that is explained at the end.
    pub explain: String,
    /// Colours: `None` where standard output is a terminal.
    pub colour: Option<bool>,
}

const READY: Duration = Duration::from_secs(30);

/// The daemon to end where a signal ends the demonstration; the namespaces end with this process.
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Lets SIGINT, SIGTERM and SIGHUP end everything in order. To be called before any thread is made.
pub fn end_on_signals() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    if set.thread_block().is_err() {
        return;
    }
    std::thread::spawn(move || {
        if let Ok(signal) = set.wait() {
            if let Some(pid) = *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = kill(pid, Signal::SIGKILL);
            }
            eprintln!("\nstopped by {signal}; nothing is left behind");
            std::process::exit(128 + signal as i32);
        }
    });
}

/// Shows it all. True where real connections were as the policies say.
///
/// # Errors
/// Where the machine lacks something, which the error names.
pub fn run(options: &Options) -> Result<bool, DemoError> {
    let out = &mut io::stdout();
    let plain = std::env::var_os("NO_COLOR").is_some() || !out.is_terminal();
    let paint = Paint { colour: options.colour.unwrap_or(!plain) };
    let snapshot = read(&options.example)?;
    let stage = Stage::new(&snapshot, &options.example)?;
    let lab = Lab::build(&Plan { nodes: vec![stage.wirings.clone()] })?;
    let mut placement = Placement::new(&lab, &snapshot, &[])?;
    for address in VISITOR {
        placement.invite(address);
    }
    placement.lay(Backend::Nft)?;
    placement.acquaint_bridged()?;
    writeln!(
        out,
        "{}",
        paint.bold(&format!(
            "{} pods on node {}, {} on the bridge cni0 and {} on veths of their own.",
            stage.pods.len(),
            stage.node,
            stage.wirings.iter().filter(|wiring| **wiring == Wiring::Bridged).count(),
            stage.wirings.iter().filter(|wiring| **wiring == Wiring::Routed).count(),
        ))
    )?;
    let clients = stage.clients(&lab, &placement);
    let services = stage.services(&placement);
    let listeners = listen(&lab, &services)?;
    writeln!(out, "Connecting everybody with everybody, over IPv4 and IPv6 ...")?;
    let before = connect_all(&lab, &clients, &services, &listeners)?;
    writeln!(out, "Starting policyd over {} ...", options.example.display())?;
    let (daemon, log) = start_policyd(&lab, options, &stage.node)?;
    writeln!(out, "{}", paint.faint(&log))?;
    writeln!(out, "Connecting everybody with everybody again ...\n")?;
    let after = connect_all(&lab, &clients, &services, &listeners)?;
    let rows: Vec<String> = clients.iter().map(|client| client.name.clone()).collect();
    let columns: Vec<String> = services.iter().map(|service| service.label.clone()).collect();
    let drawn = Matrix { rows: &rows, columns: &columns, before: &before, after: &after };
    writeln!(out, "{}", drawn.draw(&paint))?;
    let right = compare(&snapshot, &clients, &services, &after);
    writeln!(out, "{}", paint.verdict(&right))?;
    explain(options, &paint)?;
    daemon.stop(Signal::SIGTERM)?;
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = None;
    writeln!(out, "\npolicyd is stopped, and the namespaces are gone with all of their rules.")?;
    Ok(right.is_empty())
}

fn read(example: &Path) -> Result<Snapshot, DemoError> {
    let failed = |reason: String| DemoError::Example { path: example.to_owned(), reason };
    let loaded = input::read(&[example], &input::Options::default());
    if let Some(error) = loaded.unreadable.first() {
        return Err(failed(error.to_string()));
    }
    if loaded.snapshot.pods.is_empty() {
        return Err(failed("it has no pods".to_owned()));
    }
    Ok(loaded.snapshot)
}

fn start_policyd(
    lab: &Lab,
    options: &Options,
    node: &NodeName,
) -> Result<(Daemon, String), DemoError> {
    let Some(first) = lab.nodes.first() else {
        return Err(LabError::NotBuilt { program: "node".to_owned() }.into());
    };
    let namespace = lab.namespace(first);
    let mut command = Command::new(built_program("policyd")?);
    command
        .arg("run")
        .arg("--source")
        .arg(&options.example)
        .args(["--node", node.as_str()])
        .env("NO_COLOR", "1")
        .env(LOCK_FILE, OWN_NAMESPACE);
    let start = Instant::now();
    let daemon = Daemon::start(namespace, &mut command)?;
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = daemon.id();
    let end = daemon.await_line(" ready ", 0, READY)?;
    let mut log: Vec<String> = daemon.lines().into_iter().take(end).collect();
    log.push(format!("in force after {} ms", start.elapsed().as_millis()));
    let log: Vec<String> = log.iter().map(|line| format!("  {}", shortened(line))).collect();
    Ok((daemon, log.join("\n")))
}

/// A log line without its date, as far as a terminal is wide.
fn shortened(line: &str) -> String {
    const WIDTH: usize = 116;
    let dated = ["  INFO ", "  WARN "].iter().find_map(|level| line.split_once(level));
    let line = dated.map_or(line, |(_, rest)| rest);
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn explain(options: &Options, paint: &Paint) -> Result<(), DemoError> {
    let program = built_program("policyc")?;
    println!("\n{}", paint.bold(&format!("$ policyc explain pod {}", options.explain)));
    io::stdout().flush()?;
    let colour = if paint.colour { "always" } else { "never" };
    Command::new(program)
        .args(["explain", "pod", &options.explain, "--color", colour, "-f"])
        .arg(&options.example)
        .stdin(Stdio::null())
        .status()?;
    Ok(())
}

/// Who takes part.
struct Stage {
    node: NodeName,
    pods: Vec<Pod>,
    wirings: Vec<Wiring>,
}

/// A visitor from the internet.
const VISITOR: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7)),
];

impl Stage {
    fn new(snapshot: &Snapshot, example: &Path) -> Result<Self, DemoError> {
        let pods: Vec<Pod> = snapshot
            .pods
            .values()
            .filter(|pod| pod.is_live() && !pod.template && !pod.addresses.is_empty())
            .cloned()
            .collect();
        let node =
            pods.iter().find_map(|pod| pod.node.clone()).ok_or_else(|| DemoError::Example {
                path: example.to_owned(),
                reason: "none of its pods is on a node".to_owned(),
            })?;
        // Alternately, so that replicas of one workload come to be wired both ways.
        let wirings = (0..pods.len())
            .map(|index| if index % 2 == 0 { Wiring::Bridged } else { Wiring::Routed })
            .collect();
        Ok(Self { node, pods, wirings })
    }

    fn clients(&self, lab: &Lab, placement: &Placement<'_>) -> Vec<Client> {
        let mut clients: Vec<Client> = self
            .pods
            .iter()
            .filter_map(|pod| {
                let addresses: Vec<IpAddr> = pod.addresses.iter().collect();
                let station = placement.station_of(*addresses.first()?);
                Some(Client {
                    name: pod.key.to_string(),
                    end: End::Pod(pod.key.clone()),
                    station,
                    addresses,
                })
            })
            .collect();
        if let Some(node) = lab.nodes.first() {
            clients.push(Client {
                name: format!("the node {}", self.node),
                end: End::Node(self.node.clone()),
                station: node.station,
                addresses: vec![node.v4.into(), node.v6.into()],
            });
        }
        clients.push(Client {
            name: format!("the internet ({})", VISITOR[0]),
            end: End::Address(VISITOR[0]),
            station: lab.external,
            addresses: VISITOR.to_vec(),
        });
        clients
    }

    fn services(&self, placement: &Placement<'_>) -> Vec<Service> {
        let mut services = Vec::new();
        for pod in &self.pods {
            let addresses: Vec<IpAddr> = pod.addresses.iter().collect();
            let Some(slot) = addresses.first().and_then(|a| placement.slot_of(*a)) else {
                continue;
            };
            for port in &pod.ports {
                services.push(Service {
                    label: format!(
                        "{} {}/{} ({})",
                        pod.key,
                        port.number,
                        port.protocol,
                        if slot.wiring == Wiring::Bridged { "bridged" } else { "routed" }
                    ),
                    pod: pod.key.clone(),
                    protocol: port.protocol,
                    port: port.number.get(),
                    station: slot.station,
                    addresses: addresses.clone(),
                });
            }
        }
        services
    }
}

/// The connections that were not as `evaluate` says; none where all is well.
fn compare(
    snapshot: &Snapshot,
    clients: &[Client],
    services: &[Service],
    seen: &[Vec<Cell>],
) -> Vec<String> {
    let evaluator = Evaluator::new(snapshot);
    let mut wrong = Vec::new();
    for (client, row) in clients.iter().zip(seen) {
        for (service, cell) in services.iter().zip(row) {
            if *cell == Cell::Itself {
                continue;
            }
            let expected = Cell::of(client.addresses.iter().filter_map(|address| {
                let family = Family::of(*address);
                let from = match &client.end {
                    End::Address(_) => End::Address(*address),
                    end => end.clone(),
                };
                service.addresses.iter().any(|a| Family::of(*a) == family).then(|| {
                    let traffic = Traffic::Port { protocol: service.protocol, port: service.port };
                    let to = End::Pod(service.pod.clone());
                    let flow = Flow { from, to, family, traffic, wire: Wire::Routed };
                    evaluator.verdict(&flow).decision == Decision::Allowed
                })
            }));
            if expected != *cell {
                wrong.push(format!("{} to {}", client.name, service.label));
            }
        }
    }
    wrong
}
