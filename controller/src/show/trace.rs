//! `policyd trace` in words.

use std::time::{SystemTime, UNIX_EPOCH};

use anstyle::Style;

use super::layout::{put, visible};
use super::{BAD, DIM, DOUBT, STRONG};
use crate::denied::{Denial, End};

/// A line for a packet that was told of at a time, which is shown in UTC.
#[must_use]
pub fn line(denial: &Denial, at: SystemTime) -> String {
    let mut out = String::new();
    put(&mut out, DIM, &time_of_day(at));
    put(&mut out, Style::new(), " ");
    let direction = format!("{:<7}", visible(&denial.direction));
    put(&mut out, if denial.audit { DOUBT } else { BAD }, &direction);
    if denial.audit {
        put(&mut out, DOUBT, " audit");
    }
    put(&mut out, Style::new(), " ");
    end(&mut out, &denial.source);
    put(&mut out, Style::new(), " -> ");
    end(&mut out, &denial.destination);
    let protocol = visible(&denial.protocol);
    let what = match denial.port {
        Some(kind) if protocol.starts_with("ICMP") => format!(" {protocol} type {kind}"),
        Some(port) => format!(" {port}/{protocol}"),
        None => format!(" {protocol}"),
    };
    put(&mut out, Style::new(), &what);
    if denial.midstream {
        put(&mut out, DIM, " of no known connection");
    }
    if !denial.policies.is_empty() {
        let policies = visible(&denial.policies.join(", "));
        let so = if denial.audit {
            "passed; denied were it not for the audit of"
        } else {
            "isolated by"
        };
        put(&mut out, Style::new(), &format!(", {so} {policies}"));
    }
    put(&mut out, Style::new(), "\n");
    out
}

fn end(out: &mut String, end: &End) {
    if let Some(pod) = &end.pod {
        put(out, STRONG, &visible(pod));
        put(out, Style::new(), " ");
    }
    put(out, Style::new(), &end.address.to_string());
}

fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_packet_is_one_line() {
        let mut denial = Denial {
            audit: false,
            direction: "ingress".to_owned(),
            source: End { address: "10.244.2.10".parse().unwrap(), pod: None },
            destination: End {
                address: "10.244.1.10".parse().unwrap(),
                pod: Some("shop/a".to_owned()),
            },
            protocol: "TCP".to_owned(),
            port: Some(80),
            midstream: false,
            policies: vec!["shop/web".to_owned(), "shop/deny".to_owned()],
            packets: 1,
        };
        let at = UNIX_EPOCH + Duration::from_secs(86_400 * 3 + 3_723);
        let plain = |denial: &Denial| anstream::adapter::strip_str(&line(denial, at)).to_string();
        assert_eq!(
            plain(&denial),
            "01:02:03 ingress 10.244.2.10 -> shop/a 10.244.1.10 80/TCP, isolated by shop/web, \
             shop/deny\n"
        );
        denial.audit = true;
        assert_eq!(
            plain(&denial),
            "01:02:03 ingress audit 10.244.2.10 -> shop/a 10.244.1.10 80/TCP, passed; denied were it not \
             for the audit of shop/web, shop/deny\n"
        );
        denial.audit = false;
        denial.midstream = true;
        denial.policies.clear();
        assert_eq!(
            plain(&denial),
            "01:02:03 ingress 10.244.2.10 -> shop/a 10.244.1.10 80/TCP of no known connection\n"
        );
        denial.midstream = false;
        (denial.protocol, denial.port) = ("ICMP".to_owned(), Some(8));
        assert_eq!(
            plain(&denial),
            "01:02:03 ingress 10.244.2.10 -> shop/a 10.244.1.10 ICMP type 8\n"
        );
    }
}
