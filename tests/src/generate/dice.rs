//! Numbers that look random and follow from a seed.

use std::hash::{Hash, Hasher};

/// A sequence of them (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    /// A sequence that belongs to `what` alone: the same wherever and whenever it is asked for.
    pub(super) fn of(seed: u64, what: impl Hash) -> Self {
        let mut state = Mixed(seed);
        what.hash(&mut state);
        Self(state.finish())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `sides`; 0 where there are none.
    pub(super) fn roll(&mut self, sides: u32) -> u32 {
        // Below a u32.
        u32::try_from(self.next() % u64::from(sides.max(1))).unwrap_or_default()
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % (length.max(1) as u64)).unwrap_or_default()
    }

    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// Whether something happens that does so many times in a hundred.
    pub(super) fn percent(&mut self, percent: u32) -> bool {
        self.roll(100) < percent
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash that is the same in every build.
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        mix(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte));
        }
    }
}

/// `length` letters and digits of those that Kubernetes makes names of, which stand for `number`: no
/// two numbers below 27 to the power of `length` have the same.
pub(super) fn letters(mut number: u64, length: u32) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = String::new();
    // A factor that 27 and the factor share no divisor of: a permutation that looks random.
    number = number.wrapping_mul(2_654_435_761) % 27_u64.pow(length);
    for _ in 0..length {
        let at = usize::try_from(number % 27).unwrap_or_default();
        text.push(char::from(ALPHABET[at]));
        number /= 27;
    }
    text
}
