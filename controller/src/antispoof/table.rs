//! The table `policyd` of the bridge family: what frames may come in by the ports of pods.
//!
//! It is the one table beside `filter` that we have: what one pod of a bridge says to another, and to
//! whom a bridge believes to be speaking, is settled before iptables sees anything. It stands before
//! everything else on the way in, and so judges what is bridged, what is routed on and what is for the
//! node alike, whether or not `br_netfilter` is there. A port sends IP from the addresses of its pod,
//! says in ARP and neighbour discovery that it has these alone, and sends nothing else: no frame with a
//! VLAN tag, nor any other of a kind that would carry IP past those who look for IP.
//!
//! One transaction replaces it whole. Its elements are read back by a policyd that starts, so that what
//! was once bound stays bound.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
use serde_json::Value;

use super::bindings::Sources;
use crate::dataplane::backend::Backend;
use crate::dataplane::command::{CommandError, Program, Runner};
use crate::dataplane::own;

const NFT: Program = Program { name: "nft", package: "nftables" };

/// What the table is to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// The ports of pods, and what each may send from.
    pub(super) ports: Sources,
    /// The addresses of the node, with their networks.
    pub(super) node: BTreeSet<IpNet>,
    /// The UDP ports of the node's tunnels.
    pub(super) tunnel_ports: BTreeSet<NonZeroU16>,
}

/// The rules, which depend on nothing but the tunnels' ports. ICMPv6 130 to 132 and 143 are group
/// membership, 135 and 136 neighbour discovery.
const CHAINS: &str = "chain prerouting {
    type filter hook prerouting priority -310; policy accept;
    iifname @ports goto pod
  }
  chain pod {
    ether type arp iifname . arp saddr ip @own4 accept
    ether type arp arp saddr ip 0.0.0.0 accept
    ether type ip iifname . ip saddr @own4 goto own
    ether type ip6 iifname . ip6 saddr @own6 goto own
    ether type ip6 ip6 saddr @node6 drop
    ether type ip6 ip6 saddr fe80::/10 icmpv6 type { 130, 131, 132, 143, 135, 136 } goto own
    ether type ip6 ip6 saddr :: icmpv6 type { 131, 132, 143, 135 } accept
    drop
  }
  chain own {
    ether type ip6 icmpv6 type 136 goto claim
    udp dport @tunnels goto tunnel
  }
  chain claim {
    iifname . @th,64,128 @claim accept
    @th,64,128 @node-claim drop
    @th,64,10 0x3fa accept
    drop
  }
  chain tunnel {
    ether type ip ip daddr @node4 drop
    ether type ip ip daddr 224.0.0.0/4 drop
    ether type ip ip daddr 255.255.255.255 drop
    ether type ip6 ip6 daddr @node6 drop
    ether type ip6 ip6 daddr ff00::/8 drop
  }
";

impl Table {
    /// The transaction that puts it in the place of whatever table of that name there is.
    pub(super) fn text(&self) -> String {
        let mut text = String::from("table bridge policyd\ndelete table bridge policyd\n");
        text.push_str("table bridge policyd {\n");
        let pairs = |family: fn(&IpAddr) -> bool| {
            let ports = self.ports.iter();
            ports.flat_map(move |(port, addresses)| {
                addresses.iter().filter(move |a| family(a)).map(move |a| (port, *a))
            })
        };
        let own = |family: fn(&IpAddr) -> bool| {
            pairs(family).map(|(port, address)| format!("\"{port}\" . {address}")).collect()
        };
        let claims = pairs(IpAddr::is_ipv6)
            .map(|(port, address)| format!("\"{port}\" . {}", hexadecimal(address)))
            .collect();
        let ports: Vec<String> = self.ports.keys().map(|port| format!("\"{port}\"")).collect();
        let tunnels = self.tunnel_ports.iter().map(ToString::to_string).collect();
        let node = self.node_addresses();
        let node_of = |family: fn(&IpAddr) -> bool| {
            node.iter().filter(|a| family(a)).map(ToString::to_string).collect()
        };
        let node_claims =
            node.iter().filter(|a| a.is_ipv6()).map(|address| hexadecimal(*address)).collect();
        for (name, kind, elements) in [
            ("ports", "type ifname", ports),
            ("own4", "type ifname . ipv4_addr", own(IpAddr::is_ipv4)),
            ("own6", "type ifname . ipv6_addr", own(IpAddr::is_ipv6)),
            ("claim", "typeof iifname . @th,64,128", claims),
            ("tunnels", "type inet_service", tunnels),
            ("node4", "type ipv4_addr", node_of(IpAddr::is_ipv4)),
            ("node6", "type ipv6_addr", node_of(IpAddr::is_ipv6)),
            ("node-claim", "typeof @th,64,128", node_claims),
        ] {
            set(&mut text, name, kind, &elements);
        }
        text.push_str(CHAINS);
        text.push_str("}\n");
        text
    }

    /// What is for the node itself: its addresses, and those at which a network of its own is spoken to
    /// as a whole.
    fn node_addresses(&self) -> BTreeSet<IpAddr> {
        let mut all = BTreeSet::new();
        for net in &self.node {
            all.insert(net.addr());
            if let IpNet::V4(net) = net
                && net.prefix_len() < 31
            {
                all.insert(IpAddr::V4(net.network()));
                all.insert(IpAddr::V4(net.broadcast()));
            }
        }
        all
    }
}

fn set(text: &mut String, name: &str, kind: &str, elements: &[String]) {
    // Writing to a string cannot fail.
    let _ = write!(text, "  set {name} {{ {kind}; ");
    if !elements.is_empty() {
        let _ = write!(text, "elements = {{ {} }}; ", elements.join(", "));
    }
    text.push_str("}\n");
}

/// An IPv6 address as a number, by which fields without a type are compared.
fn hexadecimal(address: IpAddr) -> String {
    match address {
        IpAddr::V6(address) => format!("0x{:032x}", address.to_bits()),
        IpAddr::V4(address) => format!("0x{:08x}", address.to_bits()),
    }
}

/// Puts a table in place.
///
/// # Errors
/// Where `nft` is missing, fails, or the kernel refuses: whatever was there is as before.
pub(super) fn write(runner: &Runner, table: &Table) -> Result<(), CommandError> {
    change(runner, &["-f", "-"], &table.text())
}

/// One transaction, told to whoever looks out for transactions of others.
fn change(runner: &Runner, arguments: &[&str], input: &str) -> Result<(), CommandError> {
    own::writes(Backend::Nft);
    let done = runner.run(NFT, arguments, input);
    if matches!(&done, Err(error) if !error.leaves_doubt()) {
        own::has_not_written(Backend::Nft);
    }
    done.map(drop)
}

/// The table as `nft` shows it, which is compared and not understood; `None` where there is none.
///
/// # Errors
/// Where `nft` is missing or fails.
pub(super) fn show(runner: &Runner) -> Result<Option<String>, CommandError> {
    if !is_there(runner)? {
        return Ok(None);
    }
    runner.run(NFT, &["-n", "-s", "list", "table", "bridge", "policyd"], "").map(Some)
}

/// Removes the table, and says whether there was one.
///
/// # Errors
/// Where `nft` is missing or fails.
pub(crate) fn remove(runner: &Runner) -> Result<bool, CommandError> {
    if !is_there(runner)? {
        return Ok(false);
    }
    change(runner, &["delete", "table", "bridge", "policyd"], "")?;
    Ok(true)
}

fn is_there(runner: &Runner) -> Result<bool, CommandError> {
    let tables = runner.run(NFT, &["list", "tables", "bridge"], "")?;
    Ok(tables.lines().any(|line| line.trim() == "table bridge policyd"))
}

/// By which port the pods of which addresses were, as the table that stands has it.
///
/// # Errors
/// Where `nft` is missing or fails.
pub(super) fn remembered(runner: &Runner) -> Result<BTreeMap<IpAddr, String>, CommandError> {
    if !is_there(runner)? {
        return Ok(BTreeMap::new());
    }
    let text = runner.run(NFT, &["-j", "list", "table", "bridge", "policyd"], "")?;
    Ok(parse(&text))
}

/// The elements of the sets `own4` and `own6` of a table in the JSON of `nft`.
fn parse(text: &str) -> BTreeMap<IpAddr, String> {
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let objects = document.get("nftables").and_then(Value::as_array).into_iter().flatten();
    let sets = objects
        .filter_map(|object| object.get("set"))
        .filter(|set| matches!(set.get("name").and_then(Value::as_str), Some("own4" | "own6")));
    let elements = sets.filter_map(|set| set.get("elem").and_then(Value::as_array)).flatten();
    let pair = |element: &Value| {
        let [port, address] = element.get("concat")?.as_array()?.as_slice() else { return None };
        Some((address.as_str()?.parse::<IpAddr>().ok()?, port.as_str()?.to_owned()))
    };
    elements.filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::config::InterfaceName;

    fn table() -> Table {
        let port = InterfaceName::new("veth1").unwrap();
        let addresses = ["10.0.0.1", "fd00::1"].map(|a| a.parse().unwrap());
        let node = ["10.0.0.254/24", "fe80::1/64", "192.0.2.1/32"].map(|a| a.parse().unwrap());
        let tunnel_ports = [4789, 8472].map(|p| NonZeroU16::new(p).unwrap());
        Table {
            ports: [(port, addresses.into())].into(),
            node: node.into(),
            tunnel_ports: tunnel_ports.into(),
        }
    }

    #[test]
    fn a_table_replaces_the_one_before_in_one_transaction() {
        let text = table().text();
        let (sets, chains) = text.split_once("chain prerouting").unwrap();
        assert_eq!(
            sets,
            "table bridge policyd\n\
             delete table bridge policyd\n\
             table bridge policyd {\n  \
             set ports { type ifname; elements = { \"veth1\" }; }\n  \
             set own4 { type ifname . ipv4_addr; elements = { \"veth1\" . 10.0.0.1 }; }\n  \
             set own6 { type ifname . ipv6_addr; elements = { \"veth1\" . fd00::1 }; }\n  \
             set claim { typeof iifname . @th,64,128; elements = { \"veth1\" . \
             0xfd000000000000000000000000000001 }; }\n  \
             set tunnels { type inet_service; elements = { 4789, 8472 }; }\n  \
             set node4 { type ipv4_addr; elements = { 10.0.0.0, 10.0.0.254, 10.0.0.255, \
             192.0.2.1 }; }\n  \
             set node6 { type ipv6_addr; elements = { fe80::1 }; }\n  \
             set node-claim { typeof @th,64,128; elements = { \
             0xfe800000000000000000000000000001 }; }\n"
        );
        assert!(chains.ends_with("}\n}\n"));
        assert!(Table::default().text().contains("set own6 { type ifname . ipv6_addr; }\n"));
    }

    #[test]
    fn what_was_bound_is_read_back_whatever_else_there_is() {
        let set = |name: &str, elements: &str| {
            format!(r#"{{"set": {{"family": "bridge", "name": "{name}", "elem": [{elements}]}}}}"#)
        };
        let text = format!(
            r#"{{"nftables": [{{"metainfo": {{}}}}, {{"set": {{"name": "own6"}}}}, {}, {}, {}]}}"#,
            set("own4", r#"{"concat": ["veth1", "10.0.0.1"]}, {"concat": ["veth1"]}, 7"#),
            set("own6", r#"{"concat": ["veth2", "fd00::2"]}, {"concat": ["veth2", "x"]}"#),
            set("ports", r#""veth3""#),
        );
        let expected = [("10.0.0.1", "veth1"), ("fd00::2", "veth2")]
            .map(|(address, port)| (address.parse().unwrap(), port.to_owned()));
        assert_eq!(parse(&text), expected.into());
        for broken in ["", "{", "[]", r#"{"nftables": {}}"#] {
            assert_eq!(parse(broken), BTreeMap::new(), "{broken}");
        }
    }
}
