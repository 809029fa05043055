//! `policyd verify` in words.

use anstyle::Style;

use super::layout::{counted, paragraph, put, visible};
use super::{BAD, DOUBT, GOOD};
use crate::agent::verify::{FamilyVerification, Verification};
use crate::dataplane::FamilyState;

/// How many differences of a family are shown.
const SHOWN: usize = 100;

/// What came of it in lines no wider than `width`.
#[must_use]
pub fn text(verification: &Verification, width: usize) -> String {
    let mut out = String::new();
    let (style, sentence) = if verification.equal {
        (GOOD, "the kernel holds what policyd wrote")
    } else {
        (BAD, "the kernel does not hold what policyd wrote")
    };
    put(&mut out, style, sentence);
    put(&mut out, Style::new(), &format!(" (iptables-{})\n", verification.backend));
    for family in &verification.families {
        write_family(&mut out, family, width);
    }
    for rule in &verification.refused {
        let text = format!("{}, so that it was left out and denies", visible(rule));
        paragraph(&mut out, "  ", DOUBT, &text, width);
    }
    out
}

fn write_family(out: &mut String, family: &FamilyVerification, width: usize) {
    let first = format!("  {}  ", visible(&family.family));
    let what = match family.state {
        FamilyState::Absent => "this kernel has none".to_owned(),
        FamilyState::OutOfStep => {
            "not written, or not as it should be: see `policyd status`".to_owned()
        }
        FamilyState::InStep => format!(
            "{}, {}, {}, {}: {}",
            counted(family.chains, "chain", "chains"),
            counted(family.rules, "rule", "rules"),
            counted(family.sets, "set", "sets"),
            counted(family.members, "member", "members"),
            match family.differences.len() {
                0 => "equal".to_owned(),
                differences => counted(differences, "difference", "differences"),
            }
        ),
    };
    paragraph(out, &first, Style::new(), &what, width);
    for difference in family.differences.iter().take(SHOWN) {
        paragraph(out, "    - ", Style::new(), &visible(&difference.to_string()), width);
    }
    if let Some(more) = family.differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let more = counted(more, "difference more", "differences more");
        put(out, Style::new(), &format!("    and {more}\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::backend::Backend;
    use crate::dataplane::verify::Difference;

    #[test]
    fn each_difference_has_a_line_and_so_has_what_was_not_compared() {
        let family = |name: &str, state, differences| FamilyVerification {
            family: name.to_owned(),
            state,
            chains: 2,
            rules: 5,
            sets: 1,
            members: 1,
            differences,
        };
        let missing = Difference::ChainMissing { chain: "NPC-A".to_owned() };
        let verification = Verification {
            equal: false,
            backend: Backend::Legacy,
            families: vec![
                family("IPv4", FamilyState::InStep, vec![missing]),
                family("IPv6", FamilyState::OutOfStep, Vec::new()),
            ],
            refused: vec!["IPv4: the kernel refuses `-p sctp`".to_owned()],
        };
        let text = anstream::adapter::strip_str(&text(&verification, 100)).to_string();
        assert_eq!(
            text,
            "\
the kernel does not hold what policyd wrote (iptables-legacy)
  IPv4  2 chains, 5 rules, 1 set, 1 member: 1 difference
    - chain NPC-A is missing
  IPv6  not written, or not as it should be: see `policyd status`
  IPv4: the kernel refuses `-p sctp`, so that it was left out and denies
"
        );
    }
}
