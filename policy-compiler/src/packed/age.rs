//! When a pod began and its uid, as numbers. Only notations that come back the same are taken.

use std::num::NonZeroU32;

use crate::cluster::Age;

/// The last year whose seconds fit.
const LAST_YEAR: u32 = 2105;
const DAY: u32 = 86_400;
/// The lengths of the parts of a uid, in hexadecimal digits.
const UID: [usize; 5] = [8, 4, 4, 4, 12];

/// An [`Age`] of the notations that the API server writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PackedAge {
    started: Option<Second>,
    created: Option<Second>,
    uid: Option<[u8; 16]>,
}

/// One more than the seconds since 1970, in UTC.
type Second = NonZeroU32;

impl PackedAge {
    /// `None` where an age is written in another way.
    pub(super) fn of(age: &Age) -> Option<Self> {
        Some(Self {
            started: packed(age.started.as_deref(), second)?,
            created: packed(age.created.as_deref(), second)?,
            uid: packed(age.uid.as_deref(), uid)?,
        })
    }

    pub(super) fn unpack(self) -> Age {
        Age {
            started: self.started.map(|second| time(second).into()),
            created: self.created.map(|second| time(second).into()),
            uid: self.uid.map(|bytes| uid_text(bytes).into()),
        }
    }
}

/// `None` where there is something that cannot be packed.
#[allow(clippy::option_option, reason = "there may be nothing to pack, which is not a failure")]
fn packed<T>(text: Option<&str>, pack: fn(&str) -> Option<T>) -> Option<Option<T>> {
    text.map_or(Some(None), |text| pack(text).map(Some))
}

/// `2020-01-31T23:59:59Z`, and nothing else.
fn second(text: &str) -> Option<Second> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if separators.iter().any(|(place, separator)| bytes[*place] != *separator) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        bytes[range].iter().try_fold(0_u32, |number, digit| {
            digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let exists = (1970..=LAST_YEAR).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !exists {
        return None;
    }
    let days =
        days_before(year) + (1..month).map(|month| days_in(year, month)).sum::<u32>() + (day - 1);
    NonZeroU32::new(days * DAY + hour * 3_600 + minute * 60 + second + 1)
}

fn time(second: Second) -> String {
    let second = second.get() - 1;
    let (days, second) = (second / DAY, second % DAY);
    // No year is longer than 366 days.
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

/// The days from the beginning of 1970 to that of a year up to [`LAST_YEAR`] and the one after it.
fn days_before(year: u32) -> u32 {
    let leap_days = |before: u32| before / 4 - before / 100 + before / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && !year.is_multiple_of(100)
            || month == 2 && year.is_multiple_of(400) =>
        {
            29
        }
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// `d9607e19-f88f-11e6-a518-42010a800195`, in lower case.
fn uid(text: &str) -> Option<[u8; 16]> {
    let mut parts = text.split('-');
    let mut nibbles = [0_u8; 32];
    let mut at = nibbles.iter_mut();
    for length in UID {
        let part = parts.next().filter(|part| part.len() == length)?;
        for (digit, nibble) in part.bytes().zip(at.by_ref()) {
            *nibble = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
        }
    }
    let mut bytes = [0; 16];
    for (byte, nibbles) in bytes.iter_mut().zip(nibbles.chunks_exact(2)) {
        *byte = nibbles[0] << 4 | nibbles[1];
    }
    parts.next().is_none().then_some(bytes)
}

fn uid_text(bytes: [u8; 16]) -> String {
    let mut digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let parts = UID.map(|length| {
        let part = digits.by_ref().take(length);
        part.filter_map(|nibble| char::from_digit(nibble.into(), 16)).collect::<String>()
    });
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn age(text: &str) -> Age {
        let text: Arc<str> = text.into();
        Age { started: Some(Arc::clone(&text)), created: None, uid: Some(text) }
    }

    proptest! {
        #[test]
        fn every_second_comes_back(second in 1..=days_before(LAST_YEAR + 1) * DAY) {
            let second = NonZeroU32::new(second).unwrap();
            prop_assert_eq!(super::second(&time(second)), Some(second));
        }

        #[test]
        fn seconds_are_in_the_order_of_their_texts(one in 1..u32::MAX / 2, other in 1..u32::MAX / 2) {
            let [a, b] = [one, other].map(|second| time(NonZeroU32::new(second).unwrap()));
            prop_assert_eq!(a.cmp(&b), one.cmp(&other));
        }

        #[test]
        fn every_uid_comes_back(bytes in any::<[u8; 16]>()) {
            prop_assert_eq!(uid(&uid_text(bytes)), Some(bytes));
        }

        #[test]
        fn what_is_packed_comes_back_or_is_not_packed(
            text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z|[0-9a-fA-F]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
        ) {
            if let Some(second) = second(&text) {
                prop_assert_eq!(time(second), text.clone());
            }
            if let Some(bytes) = uid(&text) {
                prop_assert_eq!(uid_text(bytes), text);
            }
        }
    }

    #[test]
    fn times_and_uids_of_the_api_server_are_packed_and_others_are_not() {
        for (text, is_time) in [
            ("2024-02-29T23:59:59Z", true),
            ("1970-01-01T00:00:00Z", true),
            ("2105-12-31T23:59:59Z", true),
            ("2000-02-29T00:00:00Z", true),
            ("2023-02-29T00:00:00Z", false),
            ("2100-02-29T00:00:00Z", false),
            ("2106-01-01T00:00:00Z", false),
            ("1969-12-31T23:59:59Z", false),
            ("2024-01-01T24:00:00Z", false),
            ("2024-01-01T00:00:60Z", false),
            ("2024-00-01T00:00:00Z", false),
            ("2024-01-00T00:00:00Z", false),
            ("2024-01-01T00:00:00+", false),
            ("2024-01-01t00:00:00Z", false),
            ("2024-01-01T00:00:00.000000Z", false),
            ("", false),
        ] {
            assert_eq!(second(text).is_some(), is_time, "{text:?}");
        }
        for (text, is_uid) in [
            ("d9607e19-f88f-11e6-a518-42010a800195", true),
            ("D9607e19-f88f-11e6-a518-42010a800195", false),
            ("d9607e19-f88f-11e6-a518-42010a80019", false),
            ("d9607e19-f88f-11e6-a518-42010a800195-", false),
            ("d9607e19f88f11e6a51842010a800195", false),
            ("d9607e1-9f88f-11e6-a518-42010a800195", false),
            ("7", false),
        ] {
            assert_eq!(uid(text).is_some(), is_uid, "{text:?}");
        }
        assert_eq!(PackedAge::of(&age("2024-02-29T23:59:59Z")), None, "a time is no uid");
        assert_eq!(PackedAge::of(&Age::default()).map(PackedAge::unpack), Some(Age::default()));
    }
}
