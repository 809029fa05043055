//! Random faults amid random updates.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use policy_compiler::cidr::Family;
use policy_tests::enforcement::Backend;
use policy_tests::faults::{Fault, Order};

use super::{AMPLE, Scene};
use crate::random::{Dice, seed};
use crate::town::State;

/// What the kernel may say to libipset.
const REFUSALS: [&str; 6] = [
    "Kernel error received: No buffer space available",
    "Kernel error received: File exists",
    "The set with the given name does not exist",
    "Kernel error received: Cannot allocate memory",
    "Hash is full, cannot add more elements",
    "Set cannot be destroyed: it is in use by a kernel component",
];

/// So many times: some orders, some updates, and perhaps a kill; then all is to become well.
pub(crate) fn random_faults(backend: Backend, rounds: usize) {
    let mut dice = Dice::new(seed());
    let scene = Scene::new(backend);
    let mut state = State::random(&mut dice);
    let mut daemon = scene.start(&state, AMPLE);
    let vigil = scene.town.watch(&state);
    for round in 0..rounds {
        let orders: Vec<Order> = (0..=dice.below(4)).map(|_| scene.order(&mut dice)).collect();
        scene.faults.order(&orders).unwrap();
        let mut newest = 0;
        for _ in 0..=dice.below(2) {
            state = State::random(&mut dice);
            newest = vigil.may_become(scene.town.verdicts(&state));
            scene.town.put(&state);
            thread::sleep(Duration::from_micros(dice.next() % 150_000));
        }
        if dice.one_in(4) {
            daemon.stop(Signal::SIGKILL).unwrap();
            scene.town.await_orphans();
            scene.faults.forget_readiness().unwrap();
            daemon = scene.launch(AMPLE);
        }
        scene.faults.cease().unwrap();
        let row = format!("round {round}, {orders:?}");
        scene.expect(&state, &row);
        vigil.is_in_force(newest);
    }
    let tally = vigil.end().unwrap();
    println!("{} packets, {} had not to arrive, {} lost", tally.sent, tally.bound.1, tally.lost);
    assert_eq!(tally.leaked, 0, "{:#?}", tally.told);
    assert!(tally.bound.1 > 100, "too few to prove anything: {tally:?}");
}

impl Scene {
    /// Some fault of some calls.
    fn order(&self, dice: &mut Dice) -> Order {
        let lines = dice.below(12);
        let family = *dice.pick(&Family::ALL);
        let (call, faults) = match dice.below(7) {
            0 | 1 => (
                self.one(family, "-restore:commit"),
                vec![Fault::Fail, Fault::Locked, Fault::DiesBefore, Fault::DiesAfter],
            ),
            2 => (
                self.one(family, "-restore"),
                vec![
                    Fault::Fail,
                    Fault::Partial(lines),
                    Fault::Noise,
                    Fault::Babble,
                    Fault::DiesBefore,
                ],
            ),
            3 => (
                self.one(family, "-save"),
                vec![Fault::Fail, Fault::Truncated(lines), Fault::Noise, Fault::DiesAfter],
            ),
            4 => (
                "ipset:make".to_owned(),
                vec![Fault::Fail, Fault::Partial(lines), Fault::DiesBefore, Fault::DiesAfter],
            ),
            5 => (
                ["ipset:list", "ipset:save"][dice.below(2)].to_owned(),
                vec![Fault::Fail, Fault::Truncated(lines), Fault::DiesBefore],
            ),
            _ => {
                let says = |words: &&str| Fault::Says((*words).to_owned());
                let mut faults: Vec<Fault> = REFUSALS.iter().map(says).collect();
                faults.push(Fault::Panics);
                (
                    ["libipset:add", "libipset:remove", "libipset:destroy", "libipset:*"]
                        [dice.below(4)]
                    .to_owned(),
                    faults,
                )
            }
        };
        let times = u32::try_from(1 + dice.below(4)).unwrap();
        let spared = u32::try_from(dice.below(3)).unwrap();
        Order::of(&call, dice.pick(&faults).clone()).after(spared).times(times)
    }
}
