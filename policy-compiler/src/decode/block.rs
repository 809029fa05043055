//! ipBlocks, strictly.
//!
//! Source: the API's validation of `IPBlock`; stored objects may carry host bits and leading zeros, so
//! these are accepted with a warning.

use ipnet::IpNet;

use super::address::network;
use super::report::{Field, Report, Schema};
use crate::cidr::{Family, IpBlock};

const IP_BLOCK: Schema = Schema {
    what: "an ipBlock",
    fields: &["cidr", "except"],
    misplaced: &[("ports", "put it beside `from` or `to`")],
};

/// The block at `field`, or `None` with the reasons reported.
pub(super) fn ip_block(field: &Field<'_>, report: &mut Report<'_>) -> Option<IpBlock> {
    let mapping = report.strict(field, &IP_BLOCK)?;
    let cidr = report.required(&mapping, "cidr", "an ipBlock must have a cidr");
    let cidr = cidr.and_then(|field| cidr_at(&field, report));
    let excepts = match mapping.get("except") {
        Some(field) => {
            let items = report.list(&field)?;
            items.iter().map(|item| except(item, cidr, report)).collect()
        }
        None => Vec::new(),
    };
    let excepts = excepts.into_iter().collect::<Option<Vec<IpNet>>>();
    match IpBlock::new(cidr?, excepts?) {
        Ok(block) => Some(block),
        Err(error) => {
            report.error(field, error, None);
            None
        }
    }
}

/// The network at `field`, masked, or `None` with the reason reported.
pub(super) fn cidr_at(field: &Field<'_>, report: &mut Report<'_>) -> Option<IpNet> {
    let text = report.text(field)?;
    match network(text) {
        Ok(read) => {
            for oddity in read.oddities {
                let message = format!("`{text}` {oddity}: it is taken as `{}`", read.value);
                report.warning(field, message, Some(format!("write `{}`", read.value)));
            }
            Some(read.value)
        }
        Err(unread) => {
            report.error(field, unread.message, unread.help);
            None
        }
    }
}

fn except(field: &Field<'_>, block: Option<IpNet>, report: &mut Report<'_>) -> Option<IpNet> {
    let except = cidr_at(field, report)?;
    let Some(block) = block else { return Some(except) };
    let problem = if Family::of_net(&except) != Family::of_net(&block) {
        format!("`{except}` is not of the family of `{block}`")
    } else if except == block {
        format!("`{except}` is the whole block")
    } else if !block.contains(&except) {
        format!("`{except}` is not inside `{block}`")
    } else {
        return Some(except);
    };
    report.error(field, format!("{problem}: an except must be a strict subset of its block"), None);
    None
}
