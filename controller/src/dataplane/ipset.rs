//! Sets as the `ipset` program shows and makes them.
//!
//! A set is ours by the prefix of its name. Creating and filling many is one `ipset restore` over
//! standard input; what its `save` prints is read back for names, types and members. Members of
//! sets that rules refer to are changed by [`super::sessions`], which also makes [`few`].

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use ipnet::IpNet;
use policy_compiler::cidr::Family;
use policy_compiler::render;
use policy_compiler::ruleset::{AddressSet, Generation, Member, MemberSet, SetName, SetRole};

use super::command::{CommandError, Program, Runner};
use super::sessions::NewSet;
use super::verify::reading::header;

/// The program.
pub(super) const IPSET: Program = Program { name: "ipset", package: "ipset" };

/// What the names of our sets of `family` begin with.
#[must_use]
pub fn prefix(family: Family) -> &'static str {
    match family {
        Family::V4 => "npc4-",
        Family::V6 => "npc6-",
    }
}

/// The name under which a set is made that is to take the place of another; never left behind.
fn stand_in(family: Family) -> String {
    format!("{}swap", prefix(family))
}

/// Our sets of one family by name, as found in the kernel.
pub type FoundSets = BTreeMap<String, FoundSet>;

/// A set as found in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundSet {
    /// Its type and what of its options makes it differ from others of that type, such as
    /// `hash:ip family inet`.
    pub header: String,
    /// Its members. One that we cannot read is left out, so that the set counts as changed.
    pub members: MemberSet,
    /// How many members it has, those that we cannot read included.
    pub count: usize,
}

impl FoundSet {
    /// Whether it is just what `name` with `wanted` would be.
    #[must_use]
    pub fn is(&self, name: &SetName, wanted: &AddressSet) -> bool {
        self.header == header_of(name)
            && self.count == wanted.members.len()
            && self.members == wanted.members
    }
}

/// The kernel's type of a set of that name.
#[must_use]
pub fn kind_of(name: &SetName) -> &'static str {
    match name.role {
        SetRole::Networks { .. } => "hash:net",
        SetRole::Pods { .. } | SetRole::Isolated | SetRole::Known { .. } => "hash:ip",
    }
}

/// What the header of a set of that name is.
#[must_use]
pub fn header_of(name: &SetName) -> &'static str {
    match (kind_of(name), name.family) {
        ("hash:net", Family::V4) => "hash:net family inet",
        ("hash:net", Family::V6) => "hash:net family inet6",
        (_, Family::V4) => "hash:ip family inet",
        (_, Family::V6) => "hash:ip family inet6",
    }
}

/// Reads what `save` printed; the sets of others and of the other family are passed over.
#[must_use]
pub fn parse_save(text: &str, family: Family) -> FoundSets {
    let mut found = FoundSets::new();
    let mut members: BTreeMap<&str, Vec<Member>> = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ' ');
        let (Some(verb), Some(name), Some(rest)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if !name.starts_with(prefix(family)) {
            continue;
        }
        let set = found.entry(name.to_owned()).or_default();
        match verb {
            "create" => set.header = header(rest),
            "add" => {
                set.count += 1;
                let mut words = rest.split(' ');
                let word = words.next().unwrap_or_default();
                let nomatch = words.any(|option| option == "nomatch");
                let all = members.entry(name).or_default();
                all.extend(net(word).map(|net| Member { net, nomatch }));
            }
            _ => {}
        }
    }
    for (name, members) in members {
        if let Some(set) = found.get_mut(name) {
            set.members = members.into_iter().collect();
        }
    }
    found
}

fn net(word: &str) -> Option<IpNet> {
    word.parse().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Reads our sets of one family. Only the names of the sets of others are looked at: some hold a
/// great many members.
///
/// # Errors
/// Where `ipset` is missing or fails, as it does where a set vanishes meanwhile.
pub fn read(runner: &Runner, family: Family) -> Result<FoundSets, CommandError> {
    Ok(parse_save(&save(runner, family)?, family))
}

/// What `save` prints of our sets of one family.
///
/// # Errors
/// As [`read`].
pub fn save(runner: &Runner, family: Family) -> Result<String, CommandError> {
    let names = runner.run(IPSET, &["list", "-n"], "")?;
    let mut names: Vec<&str> = names.lines().filter(|n| n.starts_with(prefix(family))).collect();
    // The last is shown twice, and that of isolated addresses has few members.
    names.sort_by_key(|name| *name == isolated(family));
    let Some(last) = names.last() else { return Ok(String::new()) };
    let mut save = String::new();
    for name in names.iter().chain([last]) {
        // Writing to a String cannot fail.
        let _ = writeln!(save, "save {name}");
    }
    let mut text = runner.run(IPSET, &["restore"], &save)?;
    let end = end_of(&text, last).ok_or(CommandError::CutOff { program: IPSET.name })?;
    text.truncate(end);
    Ok(text)
}

fn isolated(family: Family) -> String {
    SetName { family, role: SetRole::Isolated }.to_string()
}

/// Where all is shown and the last set begins a second time. A part looks like a whole otherwise, but
/// for members that are not there.
fn end_of(text: &str, last: &str) -> Option<usize> {
    let begins = format!("create {last} ");
    let is_first_of_line = |at: &usize| *at == 0 || text[..*at].ends_with('\n');
    let mut found = text.match_indices(&begins).map(|(at, _)| at).filter(is_first_of_line);
    found.nth(1)
}

/// The greatest generation among the sets that carry one.
#[must_use]
pub fn newest(found: &FoundSets) -> Option<Generation> {
    found.keys().filter_map(|name| generation(name)).max()
}

/// The generation in the name of a set of pods, or of known addresses.
fn generation(name: &str) -> Option<Generation> {
    let rest = name.get(prefix(Family::V4).len()..)?;
    let digits = match rest.strip_prefix("p-") {
        Some(rest) => rest.rsplit_once('-')?.1,
        None => rest.strip_prefix("known-")?,
    };
    u32::from_str_radix(digits, 36).ok().filter(|g| *g <= Generation::LIMIT).map(Generation)
}

/// The input of `ipset restore` that makes `create` and gives each of `replace`, which exist, their
/// members in one stroke: a new set is filled and swapped with the old one.
fn restore_text(
    family: Family,
    create: &BTreeMap<SetName, AddressSet>,
    replace: &BTreeMap<SetName, AddressSet>,
) -> String {
    let mut text = render::ipset_restore(create);
    for (name, set) in replace {
        let stand_in = stand_in(family);
        let one = render::ipset_restore(&BTreeMap::from([(name.clone(), set.clone())]));
        let name = name.to_string();
        for line in one.lines() {
            let mut words: Vec<&str> = line.split(' ').collect();
            if let Some(word) = words.get_mut(1)
                && *word == name
            {
                *word = &stand_in;
            }
            let _ = writeln!(text, "{}", words.join(" "));
        }
        let _ = writeln!(text, "swap {stand_in} {name}\ndestroy {stand_in}");
    }
    text
}

/// How many calls it may take to make sets one by one, a call for each of them and for each member: a
/// call takes some 5 µs, and to start a program takes as long as some hundred of them.
const FEW: usize = 256;

/// The same sets, where they are made faster one by one than by a program.
pub(super) fn few(sets: &BTreeMap<SetName, AddressSet>) -> Option<Vec<NewSet>> {
    let calls = sets.len() + sets.values().map(|set| set.members.len()).sum::<usize>();
    if calls > FEW {
        return None;
    }
    let new = |(name, set): (&SetName, &AddressSet)| {
        let (buckets, capacity) = render::set_sizes(set.members.len());
        Some(NewSet {
            name: name.to_string(),
            family: name.family,
            networks: kind_of(name) == "hash:net",
            buckets: u32::try_from(buckets).ok()?,
            capacity: u32::try_from(capacity).ok()?,
            members: set.members.clone(),
        })
    };
    sets.iter().map(new).collect()
}

/// Makes `create` and gives each of `replace`, which exist, their members in one stroke; nothing to do
/// starts no process.
///
/// # Errors
/// Where `ipset` is missing or fails, or has not come to the end: some of the sets are then made.
pub fn restore(
    runner: &Runner,
    family: Family,
    create: &BTreeMap<SetName, AddressSet>,
    replace: &BTreeMap<SetName, AddressSet>,
) -> Result<(), CommandError> {
    match replace.keys().chain(create.keys()).next() {
        Some(there) => {
            let text = restore_text(family, create, replace);
            // Its last words name a set that is there by then. Where they do not come back it has not
            // come to the end, whatever its status says.
            let named = runner.run(IPSET, &["restore"], &format!("{text}list -n {there}\n"))?;
            let has_ended = named.lines().any(|line| line == there.to_string());
            if has_ended { Ok(()) } else { Err(CommandError::CutOff { program: IPSET.name }) }
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy_compiler::ruleset::SetHash;

    const SAVED: &str = "\
create npc4-p-abcdefghabcdefgh-1z hash:ip family inet hashsize 64 maxelem 1048576 bucketsize 12 initval 0xb3aa94df
add npc4-p-abcdefghabcdefgh-1z 10.244.1.17
create npc6-n-abcdefghabcdefgh hash:net family inet6 hashsize 1024 maxelem 65536
add npc6-n-abcdefghabcdefgh fd00::/8
add npc6-n-abcdefghabcdefgh fd00:1::/32 nomatch
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
";

    fn member(net: &str, nomatch: bool) -> Member {
        Member { net: net.parse().unwrap(), nomatch }
    }

    #[test]
    fn our_sets_of_one_family_are_read_and_all_others_passed_over() {
        let pods = FoundSet {
            header: "hash:ip family inet".to_owned(),
            members: MemberSet::from([member("10.244.1.17/32", false)]),
            count: 1,
        };
        let networks = FoundSet {
            header: "hash:net family inet6 maxelem 65536".to_owned(),
            members: MemberSet::from([member("fd00::/8", false), member("fd00:1::/32", true)]),
            count: 2,
        };
        assert_eq!(
            parse_save(SAVED, Family::V4),
            FoundSets::from([("npc4-p-abcdefghabcdefgh-1z".to_owned(), pods)])
        );
        assert_eq!(
            parse_save(SAVED, Family::V6),
            FoundSets::from([("npc6-n-abcdefghabcdefgh".to_owned(), networks)])
        );
    }

    #[test]
    fn a_reading_ends_where_its_last_set_begins_again() {
        let (one, two) =
            ("create npc4-p-a-1 hash:ip\n", "create npc4-iso hash:ip\nadd npc4-iso x\n");
        let whole = [one, two, two].concat();
        assert_eq!(end_of(&whole, "npc4-iso"), Some(one.len() + two.len()));
        for cut in 0..one.len() + two.len() + "create npc4-iso ".len() {
            assert_eq!(end_of(&whole[..cut], "npc4-iso"), None, "{cut}");
        }
        let quoted = format!("{one}add npc4-p-a-1 10.0.0.1 comment \"create npc4-iso \"\n{two}");
        assert_eq!(end_of(&quoted, "npc4-iso"), None);
    }

    #[test]
    fn the_newest_generation_is_found_in_base_36() {
        for (names, expected) in [
            (vec!["npc4-iso", "npc4-n-abcdefghabcdefgh"], None),
            (vec!["npc4-p-abcdefghabcdefgh-9", "npc4-p-abcdefghabcdefgh-a"], Some(10)),
            (vec!["npc4-p-abcdefghabcdefgh-9", "npc4-known-b"], Some(11)),
            (vec!["npc4-p-abcdefghabcdefgh-zzzzzz"], Some(Generation::LIMIT)),
            (vec!["npc4-p-abcdefghabcdefgh-zzzzzzz"], None),
        ] {
            let found: FoundSets =
                names.iter().map(|name| ((*name).to_owned(), FoundSet::default())).collect();
            assert_eq!(newest(&found), expected.map(Generation), "{names:?}");
        }
    }

    #[test]
    fn a_set_found_with_other_members_is_swapped_for_a_new_one() {
        let hash = SetHash::new("abc").unwrap();
        let name = SetName { family: Family::V4, role: SetRole::Networks { hash } };
        let set = AddressSet { members: MemberSet::from([member("10.0.0.0/8", false)]) };
        let text =
            restore_text(Family::V4, &BTreeMap::new(), &BTreeMap::from([(name.clone(), set)]));
        let verbs: Vec<String> =
            text.lines().map(|l| l.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            verbs,
            ["create npc4-swap", "add npc4-swap", "swap npc4-swap", "destroy npc4-swap"]
        );
        assert!(text.contains(&format!("swap npc4-swap {name}\n")));
    }
}
