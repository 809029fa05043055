//! What of a plan may be carried out while its chains wait.
//!
//! A plan edits a set of pods only where no program that it changes mentions the set (see
//! [`super::program`]). Of these edits the following go ahead, in this order:
//!
//! 1. Known addresses are forgotten, which only closes.
//! 2. Members join sets that no program mentions which goes.
//! 3. Members leave such sets, but for an address that the plan brings into a set which it makes anew: a program
//!    that stays may grant it by either, and would grant it by none until the new set is in use.
//!
//! Then each half of every verdict is, at every moment, that of the ruleset before or that of the one
//! planned; of a local address whose program changes it is the one before, and of one whose program stays
//! and mentions no set that is made anew the one planned. (Of a program that stays, let a set made anew
//! hold `S` and come to hold `S'`, and one edited hold `T` and come to hold `T'`. In between the
//! program allows what is in `S`, in `T'`, and what of `T` did not leave: all of that is allowed before or
//! after. What it denies is in none of these; had it been allowed before, it would be in `T` and have
//! left, so that it is not new in `S'`, and being neither in `S` nor in `T'` it is denied after.)
//! With known addresses forgotten, an address passes that check only where it does so before and after,
//! so that the same holds for both together.
//!
//! The set of isolated addresses waits for the programs that it stands for, and known addresses come in
//! last.

use std::collections::BTreeSet;

use super::plan::Members;
use super::program::without_generation;
use crate::ruleset::{MemberSet, Ruleset, SetName, SetRole};
use crate::update::{Step, Update};

/// Takes out of `update`, which starts from `old`, what may go ahead; not the members of sets that are
/// held.
pub(super) fn take(old: &Ruleset, update: &mut Update, held: &BTreeSet<SetName>) -> Update {
    let (nobody, arriving) = (MemberSet::default(), arriving(old, update));
    let free = |set: &SetName| is_of_pods(set) && !held.contains(set);
    let (mut forget, mut join, mut leave) = (Members::new(), Members::new(), Members::new());
    for step in &mut update.steps {
        match step {
            Step::AddMembers(sets) => join.extend(taken(sets, free, &nobody)),
            Step::RemoveMembers(sets) => {
                forget.extend(taken(sets, is_known, &nobody));
                leave.extend(taken(sets, free, &arriving));
            }
            Step::CreateSets(_) | Step::ReplaceChains(_) | Step::DestroySets(_) => {}
        }
    }
    update.steps.retain(changes_something);
    let mut steps =
        vec![Step::RemoveMembers(forget), Step::AddMembers(join), Step::RemoveMembers(leave)];
    steps.retain(changes_something);
    Update { steps }
}

fn changes_something(step: &Step) -> bool {
    match step {
        Step::AddMembers(sets) | Step::RemoveMembers(sets) => !sets.is_empty(),
        Step::CreateSets(_) | Step::ReplaceChains(_) | Step::DestroySets(_) => true,
    }
}

fn is_of_pods(set: &SetName) -> bool {
    matches!(set.role, SetRole::Pods { .. })
}

fn is_known(set: &SetName) -> bool {
    matches!(set.role, SetRole::Known { .. })
}

/// What the sets that are made anew hold and did not hold before.
fn arriving(old: &Ruleset, update: &Update) -> MemberSet {
    let mut arriving = MemberSet::default();
    for step in &update.steps {
        let Step::CreateSets(created) = step else { continue };
        for (name, set) in created.iter().filter(|(name, _)| is_of_pods(name)) {
            let anew = without_generation(name);
            let sets = &old.family(name.family).sets;
            let before = sets.iter().find(|(name, _)| without_generation(name) == anew);
            match before {
                Some((_, before)) => arriving.add(&set.members.difference(&before.members)),
                None => arriving.add(&set.members),
            }
        }
    }
    arriving
}

/// Takes from such `sets` all members but those who `stay`.
fn taken(sets: &mut Members, of: impl Fn(&SetName) -> bool, stay: &MemberSet) -> Members {
    let mut taken = Members::new();
    for (name, members) in sets.iter_mut().filter(|(name, _)| of(name)) {
        let go = members.difference(stay);
        *members = members.intersection(stay);
        if !go.is_empty() {
            taken.insert(name.clone(), go);
        }
    }
    sets.retain(|_, members| !members.is_empty());
    taken
}
