//! Two layouts on one road, in turns.
//!
//! ```text
//!  quad     base  tested  tested  base     (the next: tested base base tested)
//!  control  base  base    base    base     a quad of each after the other
//!  block    switch the hooks, warm up, batches: their median
//! ```
//!
//! The control is the base against itself, with the same switches: what it strays from 1 is what the
//! machine strays, and a ratio beside a control that strayed far proves nothing.

use super::BenchError;
use super::layout::Layout;
use super::path::{Packets, Sent, check};
use super::road::Road;
use super::statistics::{Arm, Spread, median, quad, ratio};
use super::traffic::Traffic;

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Quads of the comparison, and as many of the control.
    pub quads: usize,
    /// Batches of a block before its time is taken.
    pub warming: usize,
    /// Batches of a block.
    pub batches: usize,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Duel {
    /// Tested to base.
    pub ratio: Spread,
    /// Base to base.
    pub control: Spread,
    /// Nanoseconds of a unit with the base.
    pub base: f64,
    /// And with what was tested.
    pub tested: f64,
}

/// Sends `traffic` along `road` with the rules of `base` and `tested` in turns, both of which are loaded.
///
/// # Errors
/// Where something fails, or packets went another way than they were meant to.
pub fn fight(
    road: &Road,
    row: &str,
    (base, tested): (&Layout, &Layout),
    traffic: &mut dyn Traffic,
    effort: Effort,
) -> Result<Duel, BenchError> {
    let layout = |arm: Arm| if arm == Arm::Base { base } else { tested };
    let mut accounts = [Packets::default(), Packets::default()];
    let [mut ratios, mut controls, mut bases, mut testeds] = [const { Vec::new() }; 4];
    let before = road.counters()?;
    let mut hooked = &Layout::nothing();
    for round in 0..effort.quads {
        let mut blocks = Vec::with_capacity(4);
        for arm in quad(round) {
            road.switch(hooked, layout(arm))?;
            hooked = layout(arm);
            traffic.meet(hooked);
            let [of_base, of_tested] = &mut accounts;
            let account = if arm == Arm::Base { of_base } else { of_tested };
            let time = block(road, traffic, effort, account)?;
            if arm == Arm::Base { &mut bases } else { &mut testeds }.push(time);
            blocks.push((arm, time));
        }
        ratios.push(ratio(&blocks));
        blocks.clear();
        for arm in quad(round) {
            road.switch(hooked, base)?;
            hooked = base;
            traffic.meet(hooked);
            let [of_base, _] = &mut accounts;
            blocks.push((arm, block(road, traffic, effort, of_base)?));
        }
        controls.push(ratio(&blocks));
    }
    road.switch(hooked, &Layout::nothing())?;
    let [of_base, of_tested] = accounts;
    let sent = [
        Sent { tallies: &base.tallies, packets: of_base },
        Sent { tallies: &tested.tallies, packets: of_tested },
    ];
    check(&sent, &before, &road.counters()?).map_err(|(what, found, expected)| {
        BenchError::Path {
            row: row.to_owned(),
            arm: format!("{} against {}", tested.name, base.name),
            what,
            found,
            expected,
        }
    })?;
    Ok(Duel {
        ratio: Spread::of(&ratios),
        control: Spread::of(&controls),
        base: median(&bases),
        tested: median(&testeds),
    })
}

/// The median of a block's batches, in nanoseconds. What was sent is added to `sent`.
fn block(
    road: &Road,
    traffic: &mut dyn Traffic,
    effort: Effort,
    sent: &mut Packets,
) -> Result<f64, BenchError> {
    if traffic.is_forgetful() {
        road.forget()?;
    }
    for _ in 0..effort.warming {
        traffic.batch(sent)?;
    }
    let times: Vec<f64> =
        (0..effort.batches).map(|_| traffic.batch(sent)).collect::<Result<_, BenchError>>()?;
    road.settle()?;
    Ok(median(&times))
}
