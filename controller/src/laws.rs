//! What the property tests of readers share.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

/// So many cases at least.
pub(crate) fn config(cases: u32) -> Config {
    Config { cases: Config::default().cases.max(cases), ..Config::default() }
}

/// One change to a run of bytes.
#[derive(Clone, Debug)]
enum Damage {
    Replace(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Replace(at, byte)),
        2 => (any::<Index>(), 0..40_usize).prop_map(|(at, count)| Damage::Remove(at, count)),
        2 => (any::<Index>(), 0..80_usize).prop_map(|(at, count)| Damage::Repeat(at, count)),
        2 => (any::<Index>(), vec(any::<u8>(), 0..12)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => any::<Index>().prop_map(Damage::Cut),
    ]
}

/// Real bytes with a few changes.
pub(crate) fn damaged(real: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    vec(damage(), 1..6).prop_map(move |damages| {
        let mut bytes = real.clone();
        for damage in damages {
            let place = |at: Index| at.index(bytes.len() + 1);
            match damage {
                Damage::Replace(at, byte) => {
                    let at = place(at);
                    if let Some(old) = bytes.get_mut(at) {
                        *old = byte;
                    }
                }
                Damage::Remove(at, count) => {
                    let at = place(at);
                    let end = bytes.len().min(at + count);
                    bytes.drain(at..end);
                }
                Damage::Repeat(at, count) => {
                    let at = place(at);
                    let end = bytes.len().min(at + count);
                    let again = bytes[at..end].to_vec();
                    bytes.splice(at..at, again);
                }
                Damage::Insert(at, more) => {
                    let at = place(at);
                    bytes.splice(at..at, more);
                }
                Damage::Cut(at) => bytes.truncate(place(at)),
            }
        }
        bytes
    })
}
