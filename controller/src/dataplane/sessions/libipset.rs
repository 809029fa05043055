//! libipset itself. A set keeps its session, and with it a socket, from one edit to the next; one in
//! which something failed is given up, since libipset keeps what it last said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipset::Session;
use ipset::types::{Error as LibError, HashIp};

use super::SetCalls;

/// How many sets keep a session.
const KEPT: usize = 64;

/// Sessions by set. libipset's own list of set types is shared between them.
#[derive(Default)]
pub struct Libipset(BTreeMap<String, Session<HashIp>>);

impl std::fmt::Debug for Libipset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Libipset {
    fn edit(
        &mut self,
        set: &str,
        edit: impl FnOnce(&mut Session<HashIp>) -> Result<bool, LibError>,
    ) -> Result<bool, String> {
        if self.0.len() >= KEPT && !self.0.contains_key(set) {
            self.0.clear();
        }
        let new = || Session::new(set.to_owned());
        let done = edit(self.0.entry(set.to_owned()).or_insert_with(new));
        if done.is_err() {
            self.0.remove(set);
        }
        done.map_err(|error| words(&error))
    }
}

impl SetCalls for Libipset {
    fn add(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.edit(set, |session| session.add(member, &[]))
    }

    fn remove(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.edit(set, |session| session.del(member))
    }

    fn destroy(&mut self, set: &str) -> Result<bool, String> {
        // A session of its own: libipset keeps what a session last said about its set.
        self.0.remove(set);
        let mut session: Session<HashIp> = Session::new(set.to_owned());
        session.destroy().map_err(|error| words(&error))
    }
}

fn words(error: &LibError) -> String {
    match error {
        LibError::DataSet(text, _) | LibError::Cmd(text, _) | LibError::TypeGet(text, _) => {
            text.trim().to_owned()
        }
        other => other.to_string(),
    }
}
