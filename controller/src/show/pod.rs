//! `policyd status --pod` in words.

use anstyle::Style;

use super::layout::{counted, paragraph, put, visible};
use super::{DIM, STRONG};
use crate::agent::pod::{ChainText, PodDetail, SetText};

/// How many members of a set are shown.
const MEMBERS: usize = 8;

/// What is in force for a pod, in lines no wider than `width` but for rules, which are for copying.
#[must_use]
pub fn text(detail: &PodDetail, width: usize) -> String {
    let mut out = String::new();
    put(&mut out, STRONG, &visible(&detail.pod.pod));
    let addresses: Vec<String> = detail.pod.addresses.iter().map(ToString::to_string).collect();
    let addresses =
        if addresses.is_empty() { "no address yet".to_owned() } else { addresses.join(", ") };
    put(&mut out, Style::new(), &format!(": {addresses}\n"));
    let pod = &detail.pod;
    for (direction, policies, audited) in [
        ("ingress", &pod.ingress, &pod.audited_ingress),
        ("egress", &pod.egress, &pod.audited_egress),
    ] {
        let mut text = if policies.is_empty() {
            "not isolated".to_owned()
        } else {
            format!("isolated by {}", visible(&policies.join(", ")))
        };
        if !audited.is_empty() {
            text = format!("{text}; audit only: {}", visible(&audited.join(", ")));
        }
        paragraph(&mut out, &format!("  {direction:<9}"), Style::new(), &text, width);
    }
    for chain in &detail.chains {
        write_chain(&mut out, chain);
    }
    for (index, set) in detail.sets.iter().enumerate() {
        if index == 0 {
            out.push('\n');
        }
        write_set(&mut out, set, width);
    }
    out
}

fn write_chain(out: &mut String, chain: &ChainText) {
    out.push('\n');
    put(out, STRONG, &visible(&chain.name));
    put(out, DIM, &format!(" {}", visible(&chain.family)));
    out.push('\n');
    for rule in &chain.rules {
        put(out, Style::new(), &format!("  {}\n", visible(rule)));
    }
}

fn write_set(out: &mut String, set: &SetText, width: usize) {
    put(out, STRONG, &visible(&set.name));
    let total = set.members.len();
    put(out, DIM, &format!(" {}, {}", visible(&set.kind), counted(total, "member", "members")));
    out.push('\n');
    let mut members =
        set.members.iter().take(MEMBERS).map(|m| visible(m)).collect::<Vec<_>>().join(", ");
    if total > MEMBERS {
        members = format!("{members} and {} more", total - MEMBERS);
    }
    if total > 0 {
        paragraph(out, "  ", Style::new(), &members, width);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::status::PodStatus;

    #[test]
    fn a_pod_is_shown_with_its_chains_and_sets() {
        let detail = PodDetail {
            pod: PodStatus {
                pod: "shop/a".to_owned(),
                addresses: vec!["10.244.1.10".parse().unwrap()],
                ingress: vec!["web".to_owned()],
                egress: Vec::new(),
                audited_ingress: Vec::new(),
                audited_egress: vec!["dns-only".to_owned(), "deny".to_owned()],
            },
            chains: vec![ChainText {
                family: "IPv4".to_owned(),
                name: "NPC-I-abc".to_owned(),
                rules: vec!["-m set --match-set npc4-p-x-0 src -j RETURN".to_owned()],
            }],
            sets: vec![SetText {
                name: "npc4-p-x-0".to_owned(),
                kind: "hash:ip".to_owned(),
                members: (1..=10).map(|n| format!("10.0.0.{n}")).collect(),
            }],
        };
        let text = anstream::adapter::strip_str(&text(&detail, 80)).to_string();
        assert_eq!(
            text,
            "\
shop/a: 10.244.1.10
  ingress  isolated by web
  egress   not isolated; audit only: dns-only, deny

NPC-I-abc IPv4
  -m set --match-set npc4-p-x-0 src -j RETURN

npc4-p-x-0 hash:ip, 10 members
  10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5, 10.0.0.6, 10.0.0.7, 10.0.0.8
  and 2 more
"
        );
    }
}
