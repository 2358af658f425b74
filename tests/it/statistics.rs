//! Simulated experiments with known truth: do intervals cover it, does the noise gate stay silent, and what does it see?

use passk::score::Tally;
use passk::score::noise::Gate;
use passk::score::paired::difference;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Seeded draws of experiments.
struct World(ChaCha8Rng);

impl World {
    fn new(seed: u64) -> World {
        World(ChaCha8Rng::seed_from_u64(seed))
    }

    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The chance that a model solves a problem, as at temperature 0.2: many never, many always, the rest in between.
    fn chance(&mut self) -> f64 {
        match self.uniform() {
            u if u < 0.35 => 0.0,
            u if u < 0.50 => 1.0,
            _ => self.uniform(),
        }
    }

    /// The same problem's chance under another training: often the same, and better by 0.05 in the mean.
    fn retrained(&mut self, chance: f64) -> f64 {
        match self.uniform() {
            u if u < 0.6 => chance,
            u if u < 0.65 => 1.0,
            _ => (chance + self.uniform() * 0.6 - 0.25).clamp(0.0, 1.0),
        }
    }

    fn tally(&mut self, n: u32, chance: f64) -> Tally {
        Tally { n, c: (0..n).map(|_| u32::from(self.uniform() < chance)).sum() }
    }

    fn tallies(&mut self, n: u32, chances: &[f64]) -> Vec<Tally> {
        chances.iter().map(|&chance| self.tally(n, chance)).collect()
    }

    fn pairs(&mut self, problems: usize) -> (Vec<f64>, Vec<f64>) {
        let pair = |_| {
            let first = self.chance();
            (first, self.retrained(first))
        };
        (0..problems).map(pair).unzip()
    }
}

fn mean_difference(first: &[f64], second: &[f64]) -> f64 {
    (second.iter().sum::<f64>() - first.iter().sum::<f64>()) / first.len() as f64
}

/// Shares of experiments.
pub(crate) struct Coverage {
    /// The interval for problems like these holds the true difference of the population.
    pub(crate) interval: f64,
    /// The interval for these very problems holds theirs.
    pub(crate) here: Option<f64>,
    /// p is at most 0.05 although two trainings are alike.
    pub(crate) false_positives: f64,
}

pub(crate) fn coverage(problems: usize, n: u32, experiments: usize) -> Coverage {
    let mut world = World::new(1);
    let (first, second) = world.pairs(4_000_000);
    let truth = mean_difference(&first, &second);
    let (mut interval, mut here, mut some_here, mut false_positives) = (0, 0, 0, 0);
    for _ in 0..experiments {
        let (first, second) = world.pairs(problems);
        let got = difference(&world.tallies(n, &first), &world.tallies(n, &second)).unwrap();
        let holds = |ends: (f64, f64), truth| ends.0 <= truth && truth <= ends.1;
        interval += usize::from(got.interval.is_some_and(|ends| holds(ends, truth)));
        some_here += usize::from(got.here.is_some());
        here += usize::from(got.here.is_some_and(|ends| holds(ends, mean_difference(&first, &second))));
        // Which of two trainings is called the first is chance: nothing differs.
        let (a, b): (Vec<f64>, Vec<f64>) =
            first.iter().zip(&second).map(|(&a, &b)| if world.uniform() < 0.5 { (a, b) } else { (b, a) }).unzip();
        let alike = difference(&world.tallies(n, &a), &world.tallies(n, &b)).unwrap();
        false_positives += usize::from(alike.p <= 0.05);
    }
    let share = |count: usize| count as f64 / experiments as f64;
    Coverage {
        interval: share(interval),
        here: (some_here == experiments).then(|| share(here)),
        false_positives: share(false_positives),
    }
}

/// How a loss is spread over problems.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Loss {
    /// Every problem's chance falls in the same proportion.
    Spread,
    /// Some problems are never solved any more, the others stay.
    Concentrated,
}

/// Shares of runs in which the gate raised an alarm, (for the sum, for a problem, for either), when the mean chance of
/// `problems` falls by `points` in 100.
pub(crate) fn alarms(problems: usize, n: u32, points: f64, loss: Loss, runs: usize) -> (f64, f64, f64) {
    let mut world = World::new(2);
    let gate = Gate::new(problems);
    let (mut overall, mut single, mut either) = (0, 0, 0);
    for _ in 0..runs {
        let before: Vec<f64> = (0..problems).map(|_| world.chance()).collect();
        let total: f64 = before.iter().sum();
        let mut left = points / 100.0 * problems as f64;
        let now: Vec<f64> = match loss {
            Loss::Spread => before.iter().map(|chance| (chance * (1.0 - left / total)).max(0.0)).collect(),
            Loss::Concentrated => {
                let fall = |chance: &f64| {
                    let fallen = chance.min(left);
                    left -= fallen;
                    chance - fallen
                };
                before.iter().map(fall).collect()
            }
        };
        let pairs: Vec<(Tally, Tally)> = world.tallies(n, &before).into_iter().zip(world.tallies(n, &now)).collect();
        let sum = gate.overall(&pairs).is_some();
        let one = pairs.iter().any(|&(accepted, now)| gate.problem(accepted, now).is_some());
        overall += usize::from(sum);
        single += usize::from(one);
        either += usize::from(sum || one);
    }
    let share = |count: usize| count as f64 / runs as f64;
    (share(overall), share(single), share(either))
}

#[test]
fn intervals_cover_the_truth() {
    // 400 experiments: two standard errors of a share of 95 % are 2.2 points.
    // On suites as small as 62 problems, and with jumps as rare as this world's, every method falls some 2 points short:
    // the example shows it.
    for (problems, n) in [(164, 20), (164, 1)] {
        let got = coverage(problems, n, 400);
        let fits = |share: f64| (0.928..=0.972).contains(&share);
        assert!(fits(got.interval), "{problems} problems, n {n}: the interval covers {}", got.interval);
        assert!(got.here.is_none_or(fits), "{problems} problems, n {n}: these problems' covers {:?}", got.here);
        assert!(got.false_positives <= 0.072, "{problems} problems, n {n}: p ≤ 0.05 in {}", got.false_positives);
    }
}

#[test]
fn the_noise_gate_is_silent_when_nothing_changed_and_sees_losses() {
    let (.., false_alarms) = alarms(164, 20, 0.0, Loss::Spread, 1_000);
    assert!(false_alarms <= 0.01, "{false_alarms}");
    let (overall, ..) = alarms(164, 20, 5.0, Loss::Spread, 200);
    assert!(overall > 0.99, "5 points spread: {overall}");
    let (_, single, either) = alarms(164, 20, 2.0, Loss::Concentrated, 200);
    assert!(single > 0.9 && either >= single, "2 points concentrated: {single}");
}

#[test]
fn holm_keeps_the_chance_of_any_false_positive() {
    let mut world = World::new(3);
    let ps = |world: &mut World| (0..6).map(|_| world.uniform()).collect::<Vec<_>>();
    let any = (0..4_000).filter(|_| passk::score::paired::holm(&ps(&mut world)).iter().any(|&p| p <= 0.05)).count();
    assert!((140..=260).contains(&any), "{any} of 4000");
}
