//! Tables of connections and what is expected of them.
//!
//! ```text
//! x/good   -> x/server        80      allow
//! x/other  -> x/server        80/udp  deny
//! outside  -> 172.18.0.10     30080   allow by x/server from 172.18.0.10
//! ```
//!
//! An end is a pod that runs, a node, `outside`, or (on the right) an address. Between two that
//! have both families both are tried, and must be as expected. `by` says which pod serves, `from`
//! what it sees the connection come from.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use policy_compiler::port::Protocol;

use super::connection::{Dial, dial_all};
use super::{Cluster, failed};
use crate::error::LabError;

/// How long a change may take until packets meet it; a machine with much else to do is slow.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who connects.
    pub from: String,
    /// To whom.
    pub to: String,
    /// To which port.
    pub port: u16,
    /// Over which protocol.
    pub protocol: Protocol,
    /// Whether somebody answers.
    pub allow: bool,
    /// Which pod does.
    pub by: Option<String>,
    /// What it sees the connection come from.
    pub seen_as: Option<String>,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let from = words.next()?.to_owned();
        (words.next()? == "->").then_some(())?;
        let to = words.next()?.to_owned();
        let port = words.next()?;
        let (port, protocol) = match port.split_once('/') {
            Some((port, "udp")) => (port, Protocol::Udp),
            None => (port, Protocol::Tcp),
            Some(_) => return None,
        };
        let allow = match words.next()? {
            "allow" => true,
            "deny" => false,
            _ => return None,
        };
        let (mut by, mut seen_as) = (None, None);
        while let Some(word) = words.next() {
            match word {
                "by" => by = Some(words.next()?.to_owned()),
                "from" => seen_as = Some(words.next()?.to_owned()),
                _ => return None,
            }
        }
        Some(Self { from, to, port: port.parse().ok()?, protocol, allow, by, seen_as })
    }

    fn is_met(&self, heard: Option<&str>) -> bool {
        let Some((by, seen_as)) = heard.and_then(|text| text.split_once(' ')) else {
            return !self.allow;
        };
        self.allow
            && self.by.as_ref().is_none_or(|wanted| wanted == by)
            && self.seen_as.as_ref().is_none_or(|wanted| wanted == seen_as)
    }
}

impl Cluster {
    /// The rows of a table.
    ///
    /// # Errors
    /// The first line that is none.
    pub fn rows(table: &str) -> Result<Vec<Row>, LabError> {
        let lines = table.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.map(|line| Row::parse(line).ok_or_else(|| failed("read a table", line))).collect()
    }

    /// Waits until connections are as `table` says. `when` is what happened before, for people.
    ///
    /// # Errors
    /// Where they are not in time; the error has what is different.
    pub fn expect(&self, when: &str, table: &str) -> Result<(), LabError> {
        self.expect_rows(when, &Self::rows(table)?)
    }

    /// As [`Cluster::expect`], for rows that a test has made.
    ///
    /// # Errors
    /// Where they are not in time; the error has what is different.
    pub fn expect_rows(&self, when: &str, rows: &[Row]) -> Result<(), LabError> {
        let start = Instant::now();
        loop {
            let different = self.differences(rows)?;
            if different.is_empty() {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let what = format!("{when}: what was expected\n{different}");
                return Err(LabError::TimeOut { what, seconds: PATIENCE.as_secs() });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What is not as `rows` say, now; nothing where all is.
    ///
    /// # Errors
    /// Where an end does not exist, or a socket cannot be made.
    pub fn differences(&self, rows: &[Row]) -> Result<String, LabError> {
        let mut dials = Vec::new();
        let mut asked = Vec::new();
        for row in rows {
            let from = self.place(&row.from)?;
            for address in self.common_addresses(&row.from, &row.to)? {
                let to = SocketAddr::new(address, row.port);
                dials.push(Dial {
                    from: from.clone(),
                    to,
                    protocol: row.protocol,
                    hoped: row.allow,
                });
                asked.push((row, address));
            }
        }
        let mut text = String::new();
        for ((row, address), heard) in asked.into_iter().zip(dial_all(&dials)?) {
            if !row.is_met(heard.as_deref()) {
                let found = heard.as_deref().unwrap_or("nobody answers");
                let _ = writeln!(text, "  {row:?} by {address}: {found}");
            }
        }
        Ok(text)
    }

    /// The addresses of `to` that `from` has one of the same family for.
    fn common_addresses(&self, from: &str, to: &str) -> Result<Vec<IpAddr>, LabError> {
        let mut addresses = self.addresses(to)?;
        if from == "outside" {
            addresses.retain(IpAddr::is_ipv4);
        }
        Ok(addresses)
    }
}
