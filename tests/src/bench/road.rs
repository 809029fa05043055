//! The way that is measured: a pod's namespace, the node, another pod's namespace.
//!
//! ```text
//!  from ──eth0/from0── node ──to0/eth0── to
//! ```
//!
//! A thread that sends into a veth carries the packet all the way: the node's softirq, the rules and
//! the receiving stack run before the call returns, on the processor that made it. So the time of the
//! call is that of the whole way, and no other thread has a part in it. A kernel that is kept from its
//! work may finish a burst later; before rules are changed a marker to the node's own address, which
//! the processor takes up after all that was sent before it, shows that nothing is on its way.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use policy_compiler::cidr::Family;

use super::BenchError;
use super::layout::{Layout, PROXY};
use super::path::Counters;
use super::shape::Ends;
use crate::conntrack::Conntrack;
use crate::enforcement::Backend;
use crate::lab::wiring::{FORWARDING, QUIET};
use crate::namespace::Namespace;
use crate::socket::udp;

/// The address by which each end knows the node, and the node each end.
const GATEWAY: &str = "169.254.1.1";
/// After how long a packet is sent again that finds out whether a link is in use.
const AGAIN: Duration = Duration::from_millis(20);
/// How long a packet may be under way.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// The node's own address.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Three namespaces, with the chains of a node that has no policy engine.
#[derive(Debug)]
pub struct Road {
    /// Where packets are policed.
    pub node: Namespace,
    /// Where they come from.
    pub from: Namespace,
    /// Where they go.
    pub to: Namespace,
    /// Whose rules.
    pub backend: Backend,
    conntrack: Conntrack,
    marker: Marker,
}

/// Where markers are sent from, and where they arrive.
#[derive(Debug)]
struct Marker {
    near: UdpSocket,
    node: UdpSocket,
}

impl Road {
    /// Builds it, with the sources of `turns` at one end and their destinations at the other.
    ///
    /// # Errors
    /// Where the machine lacks privilege, a program, or a feature of the kernel.
    pub fn build(backend: Backend, turns: &[Ends]) -> Result<Self, BenchError> {
        let node = Namespace::create()?;
        node.sysctl(QUIET)?;
        node.sysctl(FORWARDING)?;
        let from = end(&node, "from0", 1, turns.iter().map(|ends| ends.source))?;
        let to = end(&node, "to0", 2, turns.iter().map(|ends| ends.destination))?;
        node.ip(&[format!("address replace {NODE}/32 dev lo")])?;
        let conntrack = Conntrack::of(&node)?;
        let marker = Marker::open(&node, &from)?;
        if let Some(ends) = turns.first() {
            for (end, address) in [(&from, ends.source), (&to, ends.destination)] {
                marker.await_link(end, address)?;
            }
        }
        let road = Self { node, from, to, backend, conntrack, marker };
        road.backend.restore(&road.node, Family::V4, PROXY)?;
        Ok(road)
    }

    /// Puts a layout's sets and chains there. Nothing leads to them yet.
    ///
    /// # Errors
    /// Where a program refuses them.
    pub fn load(&self, layout: &Layout) -> Result<(), BenchError> {
        if !layout.sets.is_empty() {
            self.node.run(Command::new("ipset").arg("restore"), &layout.sets)?;
        }
        if !layout.chains.is_empty() {
            self.backend.restore(&self.node, Family::V4, &layout.chains)?;
        }
        Ok(())
    }

    /// Puts the hooks of one layout in the place of another's.
    ///
    /// # Errors
    /// Where `iptables-restore` refuses that.
    pub fn switch(&self, from: &Layout, to: &Layout) -> Result<(), BenchError> {
        Ok(self.backend.restore(&self.node, Family::V4, &to.switch_from(from))?)
    }

    /// What the rules have counted.
    ///
    /// # Errors
    /// Where the table cannot be read.
    pub fn counters(&self) -> Result<Counters, BenchError> {
        let mut save = Command::new(format!("{}-save", self.backend.iptables(Family::V4)));
        Ok(Counters::parse(&self.node.run(save.args(["-c", "-t", "filter"]), "")?))
    }

    /// Waits until all that was sent has been judged.
    ///
    /// # Errors
    /// Where a marker does not arrive.
    pub fn settle(&self) -> Result<(), BenchError> {
        self.marker.pass().map_err(BenchError::system("wait for packets under way"))
    }

    /// Forgets all connections, so that none is known twice and the table does not grow.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn forget(&self) -> Result<(), BenchError> {
        Ok(self.conntrack.flush()?)
    }
}

impl Marker {
    fn open(node: &Namespace, from: &Namespace) -> Result<Self, BenchError> {
        let failed = || BenchError::system("open the marker's sockets");
        let address = SocketAddr::from((NODE, 9));
        let node = node.enter(|| udp(address))?.map_err(failed())?;
        node.set_read_timeout(Some(PATIENCE)).map_err(failed())?;
        let near = from.enter(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(address)?;
            Ok(socket)
        })?;
        Ok(Self { near: near.map_err(failed())?, node })
    }

    /// Waits until `end` is heard from its address, and hears. The kernel takes a link into use a while after
    /// it was set up, and drops what is sent before.
    fn await_link(&self, end: &Namespace, address: Ipv4Addr) -> Result<(), BenchError> {
        let failed = || BenchError::system("find out whether a link is in use");
        let far = end.enter(|| udp(SocketAddr::from((address, 0))))?.map_err(failed())?;
        for socket in [&far, &self.node] {
            socket.set_read_timeout(Some(AGAIN)).map_err(failed())?;
        }
        let begun = Instant::now();
        let mut heard = self.echo(&far);
        while heard.is_err() && begun.elapsed() < PATIENCE {
            heard = self.echo(&far);
        }
        heard.map_err(failed())?;
        // What was late is no marker.
        while self.node.recv(&mut [0; 8]).is_ok() {}
        self.node.set_read_timeout(Some(PATIENCE)).map_err(failed())
    }

    fn echo(&self, far: &UdpSocket) -> std::io::Result<()> {
        far.send_to(b"there?", (NODE, 9))?;
        let (_, from) = self.node.recv_from(&mut [0; 8])?;
        self.node.send_to(b"here", from)?;
        far.recv(&mut [0; 8]).map(drop)
    }

    fn pass(&self) -> std::io::Result<()> {
        self.near.send(b"marker")?;
        self.node.recv(&mut [0; 8]).map(drop)
    }
}

/// An end of the road that has these addresses.
fn end(
    node: &Namespace,
    device: &str,
    number: u8,
    addresses: impl Iterator<Item = Ipv4Addr>,
) -> Result<Namespace, BenchError> {
    let end = Namespace::create()?;
    end.sysctl(QUIET)?;
    let (near, far) =
        (format!("02:00:00:00:01:{number:02x}"), format!("02:00:00:00:02:{number:02x}"));
    let peer = format!("169.254.2.{number}");
    let mut there = vec![
        "link set eth0 up".to_owned(),
        format!("neighbour replace {GATEWAY} lladdr {near} dev eth0 nud permanent"),
        format!("route replace default via {GATEWAY} dev eth0 onlink"),
    ];
    let mut here = vec![
        format!(
            "link add {device} address {near} type veth peer name eth0 address {far} netns {}",
            end.path()
        ),
        format!("link set {device} up"),
        format!("neighbour replace {peer} lladdr {far} dev {device} nud permanent"),
    ];
    let mut addresses: Vec<Ipv4Addr> = addresses.collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        there.push(format!("address replace {address}/32 dev lo"));
        here.push(format!("route replace {address}/32 via {peer} dev {device} onlink"));
    }
    node.ip(&here)?;
    // The default route needs an address to come from.
    there.rotate_left(3);
    let routes = there.split_off(there.len() - 3);
    let order: Vec<String> =
        routes.iter().take(2).chain(&there).chain(routes.iter().skip(2)).cloned().collect();
    end.ip(&order)?;
    Ok(end)
}
