//! libipset itself. A set keeps its session, and with it a socket, from one edit to the next; one in
//! which something failed is given up, since libipset keeps what it last said.
//!
//! Sockets are closed rarely, and one at a time: the kernel ends what is left of the last transaction on
//! `nf_tables`, for which it waits some 16 ms, before it closes any socket of netfilter's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipset::types::{
    AddOption, Error as LibError, HashIp, HashMethod, HashNet, IpDataType, NetDataType, SetType,
    TypeName,
};
use ipset::{CreateBuilder, Session};
use policy_compiler::cidr::Family;

use super::{NewSet, SetCalls};

/// How many sets keep a session.
const KEPT: usize = 128;

/// Sessions by set. libipset's own list of set types is shared between them.
#[derive(Default)]
pub struct Libipset {
    kept: BTreeMap<String, Kept>,
    /// How many times a session was made use of.
    uses: u64,
}

/// A session, and when it was last made use of.
struct Kept {
    session: Kind,
    used: u64,
}

enum Kind {
    Addresses(Session<HashIp>),
    /// Whose members never change.
    Networks {
        _open: Session<HashNet>,
    },
}

impl std::fmt::Debug for Libipset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kept.keys()).finish()
    }
}

impl Libipset {
    fn edit(
        &mut self,
        set: &str,
        edit: impl FnOnce(&mut Session<HashIp>) -> Result<bool, LibError>,
    ) -> Result<bool, String> {
        let mut session = match self.kept.remove(set) {
            Some(Kept { session: Kind::Addresses(session), .. }) => session,
            _ => Session::new(set.to_owned()),
        };
        let done = edit(&mut session).map_err(|error| words(&error))?;
        self.keep(set, Kind::Addresses(session));
        Ok(done)
    }

    fn keep(&mut self, set: &str, session: Kind) {
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.used);
        if self.kept.len() >= KEPT
            && let Some(oldest) = oldest.map(|(name, _)| name.clone())
        {
            self.kept.remove(&oldest);
        }
        self.uses += 1;
        self.kept.insert(set.to_owned(), Kept { session, used: self.uses });
    }
}

impl SetCalls for Libipset {
    fn create(&mut self, set: &NewSet) -> Result<(), String> {
        let members = set.members.iter();
        let session = if set.networks {
            let mut session: Session<HashNet> = Session::new(set.name.clone());
            create(&mut session, set)?;
            for member in members {
                let (ip, length) = (IpDataType::from(member.net.addr()), member.net.prefix_len());
                let options: &[AddOption] =
                    if member.nomatch { &[AddOption::Nomatch] } else { &[] };
                session
                    .add(NetDataType::new(ip, length), options)
                    .map_err(|error| words(&error))?;
            }
            Kind::Networks { _open: session }
        } else {
            let mut session: Session<HashIp> = Session::new(set.name.clone());
            create(&mut session, set)?;
            for member in members {
                session.add(member.net.addr(), &[]).map_err(|error| words(&error))?;
            }
            Kind::Addresses(session)
        };
        self.keep(&set.name, session);
        Ok(())
    }

    fn add(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.edit(set, |session| session.add(member, &[]))
    }

    fn remove(&mut self, set: &str, member: IpAddr) -> Result<bool, String> {
        self.edit(set, |session| session.del(member))
    }

    fn destroy(&mut self, set: &str) -> Result<bool, String> {
        // A session of its own: libipset keeps what a session last said about its set.
        self.kept.remove(set);
        let mut session: Session<HashIp> = Session::new(set.to_owned());
        session.destroy().map_err(|error| words(&error))
    }
}

fn create<T>(session: &mut Session<T>, set: &NewSet) -> Result<(), String>
where
    T: SetType<Method = HashMethod>,
    T::DataType: TypeName,
{
    let options = |builder: CreateBuilder<'_, T>| {
        let builder = builder.with_ipv6(set.family == Family::V6)?;
        builder.with_hash_size(set.buckets)?.with_max_elem(set.capacity)?.build()
    };
    match session.create(options) {
        Ok(true) => Ok(()),
        Ok(false) => Err("it is there already".to_owned()),
        Err(error) => Err(words(&error)),
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
