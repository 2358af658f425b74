//! Simulated experiments with known truth: do intervals cover it, does the noise gate stay silent, and what does it see?

use passk::score::noise::Gate;
use passk::score::{Tally, paired, pass_at_k};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// How hard a benchmark is, and how much another training changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// As at temperature 0.2: a third of the problems is never solved, some always, the rest in between. Another training
    /// changes two problems in five, is better by 0.05 in the mean, and now and then solves what was never solved.
    Usual,
    /// The same changes where 85 problems of 100 are never solved.
    Hard,
    /// Usual problems, and two trainings that differ by nothing: only samples do.
    Alike,
    /// Hard problems, and two trainings that differ by nothing but on one problem in fifty, which the second always
    /// solves. Where none of those was met, nothing tells them from two that are alike.
    Rare,
}

/// Seeded draws of experiments.
struct World {
    kind: Kind,
    draws: ChaCha8Rng,
}

impl World {
    fn new(kind: Kind, seed: u64) -> World {
        World { kind, draws: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn uniform(&mut self) -> f64 {
        (self.draws.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The chance that a model solves a problem.
    fn chance(&mut self) -> f64 {
        let hard = matches!(self.kind, Kind::Hard | Kind::Rare);
        let (never, always) = if hard { (0.85, 0.02) } else { (0.35, 0.15) };
        match self.uniform() {
            u if u < never => 0.0,
            u if u < never + always => 1.0,
            _ => self.uniform(),
        }
    }

    /// The same problem's chance under another training.
    fn retrained(&mut self, chance: f64) -> f64 {
        match self.uniform() {
            u if self.kind == Kind::Rare && u < 0.02 => 1.0,
            _ if matches!(self.kind, Kind::Alike | Kind::Rare) => chance,
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

fn mean(chances: &[f64]) -> f64 {
    chances.iter().sum::<f64>() / chances.len() as f64
}

/// Shares of experiments.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// The interval of pass@1 holds that of the population.
    pub(crate) score: f64,
    /// The interval of a difference for problems like these holds that of the population.
    pub(crate) difference: f64,
    /// What the comparisons said of that themselves, in the mean ([`paired::Difference::covers`]).
    pub(crate) told: f64,
    /// What the mean ± Student's t standard errors would have covered instead.
    pub(crate) bare: f64,
    /// The interval of a difference for these very problems holds theirs; none with one sample of each.
    pub(crate) here: Option<f64>,
    /// p is at most 0.05 although two trainings are alike.
    pub(crate) false_positives: f64,
}

pub(crate) fn coverage(kind: Kind, problems: usize, n: u32, experiments: usize) -> Coverage {
    let mut world = World::new(kind, 1);
    let (first, second) = world.pairs(4_000_000);
    let (score, difference) = (mean(&first), mean(&second) - mean(&first));
    let mut held = [0; 5];
    let (mut some_here, mut told) = (0, 0.0);
    for _ in 0..experiments {
        let (first, second) = world.pairs(problems);
        let (ours, theirs) = (world.tallies(n, &first), world.tallies(n, &second));
        let scored = pass_at_k(&ours, 1).unwrap();
        let got = paired::difference(&ours, &theirs).unwrap();
        let holds = |ends: Option<(f64, f64)>, truth| ends.is_some_and(|(low, high)| low <= truth && truth <= high);
        held[0] += usize::from(holds(Some((scored.low, scored.high)), score));
        held[1] += usize::from(holds(Some(got.interval), difference));
        held[4] += usize::from(holds(Some(bare(&ours, &theirs)), difference));
        told += got.covers;
        held[2] += usize::from(holds(got.here, mean(&second) - mean(&first)));
        some_here += usize::from(got.here.is_some());
        // Which of two trainings is called the first is chance: nothing differs.
        let (a, b): (Vec<f64>, Vec<f64>) =
            first.iter().zip(&second).map(|(&a, &b)| if world.uniform() < 0.5 { (a, b) } else { (b, a) }).unzip();
        let alike = paired::difference(&world.tallies(n, &a), &world.tallies(n, &b)).unwrap();
        held[3] += usize::from(alike.p <= 0.05);
    }
    let [score, difference, here, false_positives, bare] = held.map(|count| count as f64 / experiments as f64);
    let here = (some_here == experiments).then_some(here);
    Coverage { score, difference, told: told / experiments as f64, bare, here, false_positives }
}

/// The interval of a difference as it would be without caution: mean ± Student's t standard errors.
fn bare(ours: &[Tally], theirs: &[Tally]) -> (f64, f64) {
    let share = |tally: &Tally| f64::from(tally.c) / f64::from(tally.n);
    let differences: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| share(b) - share(a)).collect();
    let (middle, freedom) = (mean(&differences), differences.len() as f64 - 1.0);
    let variance = differences.iter().map(|d| (d - middle).powi(2)).sum::<f64>() / freedom;
    let t = StudentsT::new(0.0, 1.0, freedom).unwrap().inverse_cdf(0.975);
    let margin = t * (variance / (freedom + 1.0)).sqrt();
    (middle - margin, middle + margin)
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
    let mut world = World::new(Kind::Usual, 2);
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

impl Coverage {
    /// 95 % intervals cover 93 to 97 %, and p keeps its level. Where nothing differs the interval of the difference covers
    /// more: as much as the comparison says, within what 1,000 experiments can tell. Where rare problems differ much it
    /// still covers 93 %.
    pub(crate) fn is_good(&self, kind: Kind) -> bool {
        let fits = |share: f64| (0.93..=0.97).contains(&share);
        let difference = match kind {
            Kind::Usual | Kind::Hard => fits(self.difference),
            Kind::Alike => self.difference >= 0.93 && (self.difference - self.told).abs() <= 0.015,
            Kind::Rare => self.difference >= 0.93,
        };
        fits(self.score) && difference && self.here.is_none_or(fits) && self.false_positives <= 0.06
    }
}

#[test]
fn intervals_cover_the_truth() {
    // The example has every kind and size, with 2,000 experiments each.
    for (kind, problems, n) in
        [(Kind::Usual, 62, 20), (Kind::Usual, 164, 1), (Kind::Hard, 62, 20), (Kind::Alike, 62, 5), (Kind::Rare, 62, 20)]
    {
        let got = coverage(kind, problems, n, 1_000);
        assert!(got.is_good(kind), "{kind:?}, {problems} problems, n {n}: {got:?}");
        // What the caution is for.
        assert!(kind != Kind::Rare || got.bare < 0.9, "{got:?}");
    }
}

#[test]
fn the_noise_gate_is_silent_when_nothing_changed_and_sees_losses() {
    let (.., false_alarms) = alarms(164, 20, 0.0, Loss::Spread, 500);
    assert!(false_alarms <= 0.01, "{false_alarms}");
    let (overall, ..) = alarms(164, 20, 5.0, Loss::Spread, 200);
    assert!(overall > 0.99, "5 points spread: {overall}");
    let (_, single, either) = alarms(164, 20, 2.0, Loss::Concentrated, 200);
    assert!(single > 0.9 && either >= single, "2 points concentrated: {single}");
}

#[test]
fn holm_keeps_the_chance_of_any_false_positive() {
    let mut world = World::new(Kind::Usual, 3);
    let ps = |world: &mut World| (0..6).map(|_| world.uniform()).collect::<Vec<_>>();
    let any = (0..4_000).filter(|_| passk::score::paired::holm(&ps(&mut world)).iter().any(|&p| p <= 0.05)).count();
    assert!((140..=260).contains(&any), "{any} of 4000");
}
