//! Who is drawn: pods one by one, and nodes and classes of addresses that fare alike as one.

use policy_compiler::reach::{Party, Who, WorldClass};

use crate::relations::{Passed, Relations};

/// What one node of the picture stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drawn {
    /// The numbers of its parties, never empty; several for nodes and addresses only.
    pub parties: Vec<usize>,
    /// Whether it is pods.
    pub pods: bool,
}

/// All who are drawn, and what passes between them.
#[derive(Debug)]
pub(super) struct Ends {
    /// In the order of their parties.
    pub drawn: Vec<Drawn>,
    passed: Vec<Passed>,
}

impl Ends {
    /// Of all parties; nodes, and addresses outside, that fare alike are one.
    #[must_use]
    pub(super) fn of(relations: &Relations<'_, '_>) -> Self {
        let all = relations.parties.len();
        let mut drawn: Vec<Drawn> = Vec::new();
        // What each has with every party, to and from; those that are one fill each other's gaps.
        let mut rows: Vec<Vec<[Passed; 2]>> = Vec::new();
        for (n, party) in relations.parties.iter().enumerate() {
            let row: Vec<[Passed; 2]> =
                (0..all).map(|m| [relations.passed(n, m), relations.passed(m, n)]).collect();
            let like = drawn.iter().zip(&rows).position(|(one, other)| {
                let first = one.parties.first().and_then(|p| relations.parties.get(*p));
                first.is_some_and(|first| same_kind(first, party)) && alike(other, &row)
            });
            let known = like.and_then(|at| Some((drawn.get_mut(at)?, rows.get_mut(at)?)));
            if let Some((one, other)) = known {
                one.parties.push(n);
                fill(other, &row);
            } else {
                drawn.push(Drawn { parties: vec![n], pods: party.who.is_pods() });
                rows.push(row);
            }
        }
        let mut passed = Vec::with_capacity(drawn.len() * drawn.len());
        for row in &rows {
            for to in &drawn {
                let mut filled: Passed = [None; 2];
                for m in &to.parties {
                    if let Some([out, _]) = row.get(*m) {
                        filled = merged(filled, *out);
                    }
                }
                passed.push(filled);
            }
        }
        Self { drawn, passed }
    }

    /// What passes from one to another, by their numbers.
    #[must_use]
    pub(super) fn passed(&self, from: usize, to: usize) -> Passed {
        self.passed.get(from * self.drawn.len() + to).copied().unwrap_or_default()
    }
}

fn same_kind(a: &Party, b: &Party) -> bool {
    matches!((&a.who, &b.who), (Who::Node(_), Who::Node(_)) | (Who::World(_), Who::World(_)))
}

/// Whether two rows say the same wherever both say something.
fn alike(a: &[[Passed; 2]], b: &[[Passed; 2]]) -> bool {
    let agree = |(x, y): (&Option<usize>, &Option<usize>)| x.is_none() || y.is_none() || x == y;
    a.iter().flatten().flatten().zip(b.iter().flatten().flatten()).all(agree)
}

fn fill(row: &mut [[Passed; 2]], other: &[[Passed; 2]]) {
    for (own, other) in row.iter_mut().zip(other) {
        for (own, other) in own.iter_mut().zip(other) {
            *own = merged(*own, *other);
        }
    }
}

fn merged(a: Passed, b: Passed) -> Passed {
    [a[0].or(b[0]), a[1].or(b[1])]
}

/// Who addresses outside are, in a word and in detail: `world` where no rule tells them apart.
#[must_use]
pub(super) fn world(classes: &[&WorldClass]) -> (String, String) {
    let named: Vec<String> = classes.iter().map(ToString::to_string).collect();
    let title =
        if classes.iter().all(|class| class.is_whole_family()) { "world" } else { "addresses" };
    (title.to_owned(), shortened(&named))
}

/// The first few of `items`, and how many more there are.
#[must_use]
pub(super) fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 2;
    match items.get(..SHOWN) {
        Some(first) if items.len() > SHOWN => {
            format!("{} and {} more", first.join(", "), items.len() - SHOWN)
        }
        _ => items.join(", "),
    }
}
