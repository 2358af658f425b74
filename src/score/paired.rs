//! Two runs on the same problems: by how much do they differ, and is it more than noise?
//!
//! Comparing problem by problem takes out that some problems are harder than others, the largest part of the noise of
//! two separate scores (Miller 2024, arXiv 2411.00640, section 4.2).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::{Tally, exact};

/// Draws of a bootstrap.
const REPLICATES: usize = 10_000;

/// pass@1 of the second run less that of the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Problems that both have.
    pub problems: usize,
    /// The mean over problems, −1 to 1.
    pub mean: f64,
    /// Its 95 % interval, problems taken as drawn from a larger population: what to expect on problems like these.
    /// `None` where all problems differ alike and nothing can be said about the spread.
    pub interval: Option<(f64, f64)>,
    /// Its 95 % interval for these very problems, only the samples taken as drawn. `None` with one sample of a problem.
    pub here: Option<(f64, f64)>,
    /// The chance of a difference at least as large, in either direction, were the two alike. With one sample of each
    /// problem it is McNemar's exact test.
    pub p: f64,
    /// The smallest true difference that a comparison like this one shows at the 5 % level four times out of five.
    /// `None` where the spread is 0.
    pub detectable: Option<f64>,
}

/// Compares two runs by their tallies of the same problems, in the same order. `None` where there is no problem, or
/// one without samples.
///
/// - `interval` resamples problems: the bootstrap's percentiles, widened for few problems (Hesterberg 2015, "What
///   teachers should know about the bootstrap", section 5.4).
/// - `here` resamples the samples of each problem, the problems being strata, n − 1 of n so that the variance is
///   unbiased (McCarthy & Snowden 1985, "The bootstrap and finite population sampling").
/// - `p` flips the signs of the problems' differences in all ways.
/// - `detectable` is (z₀.₉₇₅ + z₀.₈) standard errors (Bloom 1995, "Minimum detectable effects").
///
/// Draws are seeded: the same tallies give the same numbers.
pub fn difference(first: &[Tally], second: &[Tally]) -> Option<Difference> {
    let score = |tally: &Tally| tally.pass_at_k(1);
    let differences: Vec<f64> =
        first.iter().zip(second).map(|(a, b)| Some(score(b)? - score(a)?)).collect::<Option<_>>()?;
    if differences.is_empty() || first.len() != second.len() {
        return None;
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    let error = (variance / count).sqrt();
    let spread = error > 1e-12;
    Some(Difference {
        problems: differences.len(),
        mean,
        interval: spread.then(|| over_problems(&differences)),
        here: over_samples(first, second),
        p: p_value(first, second, &differences),
        detectable: spread.then_some((1.959_964 + 0.841_621) * error),
    })
}

/// Holm's correction: p-values that may be read together (Holm 1979). In the order given.
pub fn holm(ps: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..ps.len()).collect();
    order.sort_by(|&a, &b| ps[a].total_cmp(&ps[b]));
    let mut corrected = vec![0.0; ps.len()];
    let mut least: f64 = 0.0;
    for (rank, &at) in order.iter().enumerate() {
        least = least.max((ps[at] * (ps.len() - rank) as f64).min(1.0));
        corrected[at] = least;
    }
    corrected
}

fn over_problems(differences: &[f64]) -> (f64, f64) {
    let count = differences.len();
    let mut draws = Draws::new();
    let replicate = |_| (0..count).map(|_| differences[draws.below(count)]).sum::<f64>() / count as f64;
    let means = (0..REPLICATES).map(replicate).collect();
    let widened = || {
        let t = StudentsT::new(0.0, 1.0, count as f64 - 1.0).ok()?.inverse_cdf(0.975);
        Some(Normal::new(0.0, 1.0).ok()?.cdf(-t * (count as f64 / (count as f64 - 1.0)).sqrt()))
    };
    ends(means, widened().unwrap_or(0.025))
}

fn over_samples(first: &[Tally], second: &[Tally]) -> Option<(f64, f64)> {
    let count = first.len() as f64;
    // Tallies that are all right or all wrong never vary.
    let fixed: f64 = second.iter().map(share).sum::<f64>() - first.iter().map(share).sum::<f64>();
    let mut varying: Vec<(f64, Resample)> = Vec::new();
    for (tallies, sign) in [(first, -1.0), (second, 1.0)] {
        for tally in tallies {
            if tally.n < 2 {
                return None;
            }
            if tally.c > 0 && tally.c < tally.n {
                varying.push((sign, Resample::new(*tally)));
            }
        }
    }
    if varying.is_empty() {
        return None;
    }
    let mut draws = Draws::new();
    let replicate = |_| {
        let moved: f64 = varying.iter().map(|(sign, resample)| sign * resample.draw(&mut draws)).sum();
        (fixed + moved) / count
    };
    let means = (0..REPLICATES).map(replicate).collect();
    Some(ends(means, 0.025))
}

fn share(tally: &Tally) -> f64 {
    f64::from(tally.c) / f64::from(tally.n)
}

/// The share of correct samples among n − 1 drawn from a tally with replacement, less the tally's own.
struct Resample {
    own: f64,
    size: f64,
    /// Chance of at most i correct ones.
    cumulative: Vec<f64>,
}

impl Resample {
    fn new(tally: Tally) -> Resample {
        let own = share(&tally);
        let size = f64::from(tally.n - 1);
        let mut sum = 0.0;
        let mass = |i: u64| {
            let ways = statrs::function::factorial::ln_binomial(u64::from(tally.n - 1), i);
            (ways + i as f64 * own.ln() + (size - i as f64) * (1.0 - own).ln()).exp()
        };
        let cumulative = (0..u64::from(tally.n)).map(|i| {
            sum += mass(i);
            sum
        });
        Resample { own, size, cumulative: cumulative.collect() }
    }

    fn draw(&self, draws: &mut Draws) -> f64 {
        let at = draws.uniform();
        let correct = self.cumulative.partition_point(|&below| below <= at).min(self.cumulative.len() - 1);
        correct as f64 / self.size - self.own
    }
}

/// The values below and above which a share of `tail` lies.
fn ends(mut values: Vec<f64>, tail: f64) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let beyond = ((values.len() as f64 * tail) as usize).min(values.len() - 1);
    (values[beyond], values[values.len() - 1 - beyond])
}

/// Seeded random numbers.
struct Draws(ChaCha8Rng);

impl Draws {
    fn new() -> Draws {
        Draws(ChaCha8Rng::seed_from_u64(0))
    }

    /// In [0, 1), with 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `count`, which is far below 2⁵³.
    fn below(&mut self, count: usize) -> usize {
        (self.uniform() * count as f64) as usize
    }
}

/// Largest distribution of the exact sign-flip test; beyond it signs are drawn.
const MOST_SUMS: u64 = 4_000_000;

fn p_value(first: &[Tally], second: &[Tally], differences: &[f64]) -> f64 {
    // In units of 1/unit every difference is a whole number.
    let unit = first.iter().chain(second).try_fold(1u64, |unit, tally| least_common_multiple(unit, tally.n.into()));
    if let Some(unit) = unit
        && let Some(reach) = unit.checked_mul(differences.len() as u64)
        && reach <= MOST_SUMS
    {
        let whole = |tally: &Tally| u64::from(tally.c) * (unit / u64::from(tally.n));
        let scores = || first.iter().map(whole).zip(second.iter().map(whole));
        let sizes: Vec<u64> = scores().map(|(a, b)| a.abs_diff(b)).collect();
        let (a, b) = scores().fold((0u64, 0u64), |sum, (a, b)| (sum.0 + a, sum.1 + b));
        return exact::sign_flips(&sizes, a.abs_diff(b));
    }
    let sum = differences.iter().sum::<f64>().abs() - 1e-9;
    let mut draws = Draws::new();
    let mut flipped = || differences.iter().map(|d| if draws.uniform() < 0.5 { *d } else { -d }).sum::<f64>();
    let far = (0..REPLICATES * 10).filter(|_| flipped().abs() >= sum).count();
    (far + 1) as f64 / (REPLICATES * 10 + 1) as f64
}

fn least_common_multiple(a: u64, b: u64) -> Option<u64> {
    let (mut gcd, mut rest) = (a, b);
    while rest != 0 {
        (gcd, rest) = (rest, gcd % rest);
    }
    a.checked_mul(b / gcd.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(counts: &[u32], n: u32) -> Vec<Tally> {
        counts.iter().map(|&c| Tally { n, c }).collect()
    }

    #[test]
    fn mcnemar_by_hand() {
        // 6 gained, 1 lost, 2 alike: 2 · P(Binomial(7, 1/2) ≤ 1) = 2 · 8/128.
        let first = tallies(&[0, 0, 0, 0, 0, 0, 1, 1, 0], 1);
        let second = tallies(&[1, 1, 1, 1, 1, 1, 0, 1, 0], 1);
        let got = difference(&first, &second).unwrap();
        assert!((got.p - 0.125).abs() < 1e-12, "{got:?}");
        assert!((got.mean - 5.0 / 9.0).abs() < 1e-12);
        assert_eq!(got.here, None);
        // The other way round the difference changes its sign and nothing else.
        let back = difference(&second, &first).unwrap();
        assert_eq!((back.p, back.mean), (got.p, -got.mean));
    }

    #[test]
    fn signs_by_hand() {
        // Differences of 1/2, 1/2 and −1/4 in quarters: 2, 2, −1. Of 8 sums ±2 ±2 ±1, 4 are at least 3 from 0.
        let got = difference(&tallies(&[0, 1, 3], 4), &tallies(&[2, 3, 2], 4)).unwrap();
        assert_eq!((got.p, got.mean), (0.5, 0.25));
    }

    #[test]
    fn unlike_numbers_of_samples_are_compared_by_their_shares() {
        let got = difference(&tallies(&[1, 2], 2), &tallies(&[5, 10], 10)).unwrap();
        assert_eq!((got.mean, got.p, got.interval, got.detectable), (0.0, 1.0, None, None));
    }

    #[test]
    fn spread_by_hand() {
        // Differences 0 and 1: variance 1/2, standard error 1/2.
        let got = difference(&tallies(&[0, 0], 4), &tallies(&[0, 4], 4)).unwrap();
        assert!((got.detectable.unwrap() - 2.801_585 / 2.0).abs() < 1e-6, "{got:?}");
        let (low, high) = got.interval.unwrap();
        assert_eq!((low, high), (0.0, 1.0));
    }

    #[test]
    fn the_interval_of_these_problems_by_hand() {
        // One problem, 2 of 4 against 4 of 4: the mean of 3 draws at 1/2 is 0, 1/3, 2/3 or 1 with chances 1, 3, 3, 1
        // in 8, so that each end holds more than 2.5 %.
        let got = difference(&tallies(&[2], 4), &tallies(&[4], 4)).unwrap();
        assert_eq!((got.here, got.interval), (Some((0.0, 1.0)), None));
        assert_eq!(difference(&tallies(&[4, 0], 4), &tallies(&[4, 4], 4)).unwrap().here, None);
    }

    #[test]
    fn draws_are_the_same_every_time() {
        let first = tallies(&[3, 9, 12, 20, 0, 7, 15, 2], 20);
        let second = tallies(&[5, 9, 16, 19, 1, 11, 15, 4], 20);
        let got = difference(&first, &second).unwrap();
        assert_eq!(difference(&first, &second).unwrap(), got);
        let (low, high) = got.interval.unwrap();
        assert!(low < got.mean && got.mean < high);
    }

    #[test]
    fn many_sums_are_drawn_and_agree_with_the_exact_ones() {
        let first: Vec<Tally> = (0..40).map(|i| Tally { n: 10, c: i % 8 }).collect();
        let second: Vec<Tally> = (0..40).map(|i| Tally { n: 10, c: (i % 8 + (i + 2) % 3).min(10) }).collect();
        let exactly = difference(&first, &second).unwrap().p;
        // The same shares of numbers that have no small common multiple.
        let blown = |tallies: &[Tally], by: [u32; 3]| -> Vec<Tally> {
            let times = |(tally, i): (&Tally, usize)| Tally { n: tally.n * by[i % 3], c: tally.c * by[i % 3] };
            tallies.iter().zip(0..).map(times).collect()
        };
        let drawn = difference(&blown(&first, [997, 991, 983]), &blown(&second, [977, 971, 967])).unwrap().p;
        assert!((drawn - exactly).abs() < 0.005, "{drawn} {exactly}");
    }

    #[test]
    fn nothing_to_compare() {
        assert_eq!(difference(&[], &[]), None);
        assert_eq!(difference(&tallies(&[0], 0), &tallies(&[1], 4)), None);
        assert_eq!(difference(&tallies(&[1, 1], 4), &tallies(&[1], 4)), None);
    }

    #[test]
    fn holm_by_hand() {
        let got = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, expected) in got.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
        assert_eq!(holm(&[0.9, 0.8]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }
}
