//! What may go wrong with a call, and orders that it shall.

use std::fmt;
use std::str::FromStr;

/// How a call fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and says so.
    Fail,
    /// It does nothing, since somebody else holds the lock of the tables.
    Locked,
    /// It is given only so many lines of what was meant for it.
    Partial(usize),
    /// Only so many lines of what it prints arrive.
    Truncated(usize),
    /// It does nothing, hears no signal, and does not end.
    Hang,
    /// It does its work, and says much on standard error that nobody can read.
    Noise,
    /// It does its work, and prints much besides that nobody has asked for.
    Babble,
    /// It does its work, and what it prints does not arrive.
    Deaf,
    /// It is killed before it has done its work.
    DiesBefore,
    /// It does its work, and is killed before anybody hears of it.
    DiesAfter,
    /// It does its work, and then neither says so nor ends.
    SilentAfter,
    /// It, or libipset, says this and has done nothing.
    Says(String),
    /// libipset does not come back for so many milliseconds.
    Sleeps(u64),
    /// The thread that called libipset ends.
    Panics,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Fail => f.write_str("fail"),
            Fault::Locked => f.write_str("locked"),
            Fault::Partial(lines) => write!(f, "partial {lines}"),
            Fault::Truncated(lines) => write!(f, "truncated {lines}"),
            Fault::Hang => f.write_str("hang"),
            Fault::Noise => f.write_str("noise"),
            Fault::Babble => f.write_str("babble"),
            Fault::Deaf => f.write_str("deaf"),
            Fault::DiesBefore => f.write_str("dies-before"),
            Fault::DiesAfter => f.write_str("dies-after"),
            Fault::SilentAfter => f.write_str("silent-after"),
            Fault::Says(words) => write!(f, "says {words}"),
            Fault::Sleeps(millis) => write!(f, "sleeps {millis}"),
            Fault::Panics => f.write_str("panics"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let number = || rest.parse::<usize>().map_err(|error| format!("{text}: {error}"));
        Ok(match word {
            "fail" => Fault::Fail,
            "locked" => Fault::Locked,
            "partial" => Fault::Partial(number()?),
            "truncated" => Fault::Truncated(number()?),
            "hang" => Fault::Hang,
            "noise" => Fault::Noise,
            "babble" => Fault::Babble,
            "deaf" => Fault::Deaf,
            "dies-before" => Fault::DiesBefore,
            "dies-after" => Fault::DiesAfter,
            "silent-after" => Fault::SilentAfter,
            "says" => Fault::Says(rest.to_owned()),
            "sleeps" => Fault::Sleeps(u64::try_from(number()?).unwrap_or(u64::MAX)),
            "panics" => Fault::Panics,
            _ => return Err(format!("no fault is called `{word}`")),
        })
    }
}

/// Which calls meet a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The call's name, in which `*` stands for anything.
    call: String,
    /// How many calls of that name are spared first.
    spared: u32,
    /// How many meet it then.
    times: u32,
    fault: Fault,
}

impl Order {
    /// Every call of that name, in which `*` stands for anything.
    #[must_use]
    pub fn of(call: &str, fault: Fault) -> Self {
        Self { call: call.to_owned(), spared: 0, times: u32::MAX, fault }
    }

    /// But the first so many.
    #[must_use]
    pub fn after(self, spared: u32) -> Self {
        Self { spared, ..self }
    }

    /// And so many at most.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// The fault that this call meets, if it is its turn.
    pub(super) fn meet(&mut self, call: &str) -> Option<Fault> {
        if self.times == 0 || !fits(&self.call, call) {
            return None;
        }
        if self.spared > 0 {
            self.spared -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault.clone())
    }
}

/// Whether `text` is `pattern`, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits(after, &rest[at..]))
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.call, self.spared, self.times, self.fault)
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.splitn(4, ' ');
        let (Some(call), Some(spared), Some(times), Some(fault)) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(format!("`{line}` is no order"));
        };
        let number = |text: &str| text.parse().map_err(|error| format!("{line}: {error}"));
        Ok(Self {
            call: call.to_owned(),
            spared: number(spared)?,
            times: number(times)?,
            fault: fault.parse()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_was_written() {
        for fault in [
            Fault::Fail,
            Fault::Locked,
            Fault::Partial(3),
            Fault::Truncated(0),
            Fault::Hang,
            Fault::Noise,
            Fault::Babble,
            Fault::Deaf,
            Fault::DiesBefore,
            Fault::DiesAfter,
            Fault::SilentAfter,
            Fault::Says("Hash is full, cannot add more elements".to_owned()),
            Fault::Sleeps(20),
            Fault::Panics,
        ] {
            let order = Order::of("ip*-save", fault).after(1).times(2);
            assert_eq!(order.to_string().parse(), Ok(order));
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, expected) in [
            ("ipset", "ipset", true),
            ("ipset", "ipset:list", false),
            ("ipset*", "ipset:list", true),
            ("ip*-restore*", "ip6tables-nft-restore:commit", true),
            ("ip*-restore", "ip6tables-nft-restore:commit", false),
            ("*:commit", "iptables-nft-restore:commit", true),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
