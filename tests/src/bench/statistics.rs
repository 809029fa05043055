//! Medians, quartiles and percentiles, and the order in which two arms take turns.
//!
//! What disturbs a measurement (an interrupt, another process) only ever adds, and does so in bursts.
//! So each block is judged by the median of its batches, two arms by the ratios of neighbouring
//! blocks, and all of that by the median of the ratios, with the quartiles as the spread.

/// One of the two that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// What the other is measured against.
    Base,
    /// What is judged.
    Tested,
}

/// The order of blocks in the `round`th quad: `ABBA`, then `BAAB`, so that what drifts steadily favours
/// neither, within a quad and from one to the next.
#[must_use]
pub fn quad(round: usize) -> [Arm; 4] {
    use Arm::{Base, Tested};
    if round.is_multiple_of(2) {
        [Base, Tested, Tested, Base]
    } else {
        [Tested, Base, Base, Tested]
    }
}

/// The ratio of tested to base in one quad.
#[must_use]
pub fn ratio(blocks: &[(Arm, f64)]) -> f64 {
    let sum =
        |arm: Arm| blocks.iter().filter(|(of, _)| *of == arm).map(|(_, time)| time).sum::<f64>();
    sum(Arm::Tested) / sum(Arm::Base)
}

/// The value that a share of the samples lies at or below, between neighbours by how near it is to each.
/// NaN where there are none.
#[must_use]
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    #[allow(clippy::cast_precision_loss, reason = "no run has 2^52 samples")]
    let place = share.clamp(0.0, 1.0) * last as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to last")]
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    at(below) + (at(above) - at(below)) * place.fract()
}

/// The middle value.
#[must_use]
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// A median with its quartiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the samples lie below.
    pub low: f64,
    /// The median.
    pub middle: f64,
    /// A quarter lie above.
    pub high: f64,
}

impl Spread {
    /// That of some samples.
    #[must_use]
    pub fn of(samples: &[f64]) -> Self {
        Self {
            low: quantile(samples, 0.25),
            middle: median(samples),
            high: quantile(samples, 0.75),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Arm::{Base, Tested};

    fn close(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-9, "{left} is not {right}");
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        close(median(&samples), 2.5);
        close(quantile(&samples, 0.0), 1.0);
        close(quantile(&samples, 1.0), 4.0);
        close(quantile(&samples, 0.25), 1.75);
        close(median(&[7.0]), 7.0);
        assert!(median(&[]).is_nan());
        let spread = Spread::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(spread, Spread { low: 2.0, middle: 3.0, high: 4.0 });
    }

    #[test]
    fn quads_begin_with_either_arm_in_turn() {
        assert_eq!(quad(0), [Base, Tested, Tested, Base]);
        assert_eq!(quad(1), [Tested, Base, Base, Tested]);
        assert_eq!(quad(2), quad(0));
    }

    #[test]
    fn a_steady_drift_favours_neither_arm() {
        for round in 0..2 {
            let mut time = 100.0;
            let blocks = quad(round).map(|arm| {
                time += 7.0;
                (arm, if arm == Tested { time * 1.5 } else { time })
            });
            close(ratio(&blocks), 1.5);
        }
    }

    #[test]
    fn one_disturbed_batch_moves_no_median() {
        close(median(&[1.0, 1.0, 1.0, 1.0, 900.0]), 1.0);
    }
}
