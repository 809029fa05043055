//! Which known word somebody meant by an unknown one.

/// The word of `known` that `written` was most likely meant to be; `None` where nothing is near.
///
/// A difference in case, `-` or `_` alone always counts as near. Otherwise a third of the letters
/// may be wrong, two swapped neighbours counting as one mistake. The first of equals wins.
#[must_use]
pub fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = simplify(written);
    let mut best: Option<(usize, &'k str)> = None;
    for &candidate in known {
        let target = simplify(candidate);
        let distance = distance(&plain, &target);
        let tolerated = (plain.len().max(target.len()) / 3).max(1);
        // A word of one or two letters is within one mistake of too many others.
        let comparable = distance == 0 || plain.len().min(target.len()) > 2;
        if comparable && distance <= tolerated && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The letters in lower case, without `-` and `_`. Cut off where no known word goes on, so that a
/// long key costs no more than a short one.
fn simplify(word: &str) -> Vec<char> {
    word.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).take(64).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours between `a` and `b` (the optimal
/// string alignment distance).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = above[j] + usize::from(x != y);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_finds_its_word_and_a_foreign_word_none() {
        let known = ["from", "ports", "podSelector", "namespaceSelector", "ipBlock", "to"];
        for (written, meant) in [
            ("form", Some("from")),
            ("From", Some("from")),
            ("port", Some("ports")),
            ("podselector", Some("podSelector")),
            ("pod_selector", Some("podSelector")),
            ("podSelectors", Some("podSelector")),
            ("namespaceselector", Some("namespaceSelector")),
            ("ipblok", Some("ipBlock")),
            ("TO", Some("to")),
            ("ti", None),
            ("hostNetwork", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &known), meant, "{written:?}");
        }
    }

    #[test]
    fn the_nearest_of_two_words_wins() {
        assert_eq!(nearest("ingres", &["egress", "ingress"]), Some("ingress"));
        assert_eq!(nearest("egres", &["ingress", "egress"]), Some("egress"));
    }
}
