//! Two runs on the same problems: by how much do they differ, and is it more than noise?
//!
//! Comparing problem by problem takes out that some problems are harder than others, the largest part of the noise of
//! two separate scores (Miller 2024, arXiv 2411.00640, section 4.2).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::erf::erf;

use super::{Tally, Z, exact, mean_with};

/// Draws where a sign-flip test is too large to be counted out.
const REPLICATES: usize = 100_000;

/// pass@1 of the second run less that of the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// Problems that both have.
    pub problems: usize,
    /// The mean over problems, −1 to 1.
    pub mean: f64,
    /// Its 95 % interval, problems taken as drawn from a larger population: what to expect on problems like these.
    pub interval: (f64, f64),
    /// The share of experiments in which `interval` covers if no problem differs more than these: 0.95 and a little where
    /// they differ enough, nearly 1 where two runs hardly differ.
    pub covers: f64,
    /// Its 95 % interval for these very problems, only the samples taken as drawn. `None` with one sample of a problem, and
    /// where no problem was in doubt.
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
/// - `interval` is the mean ± z standard errors over the problems and two more: one that does not differ, and half a one
///   that differs by 1 in either direction. That is what Agresti & Min 2005 ("Simple improved confidence intervals for
///   comparing matched proportions") do for matched pairs. The bare standard error covers too little on few problems,
///   where a rare large difference was perhaps not met.
/// - `covers` is more than 95 % where two runs hardly differ, and has to be: runs that differ much on one problem in
///   fifty look the same as long as none of those was met, so an interval that covers the truth of these covers too
///   much for runs that differ by nothing. tests/it/statistics.rs simulates both.
/// - `here` takes problems as strata: the variances of their shares add up (Cochran 1977, "Sampling techniques", theorem
///   5.3), with Satterthwaite's degrees of freedom (his eq. 5.16).
/// - `p` flips the signs of the problems' differences in all ways.
/// - `detectable` is (z₀.₉₇₅ + z₀.₈) standard errors (Bloom 1995, "Minimum detectable effects").
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
    let (centre, cautious) = mean_with(&differences, &[(0.0, 1.0), (1.0, 0.5), (-1.0, 0.5)]);
    Some(Difference {
        problems: differences.len(),
        mean,
        interval: ((centre - Z * cautious).max(-1.0), (centre + Z * cautious).min(1.0)),
        covers: if spread { erf(Z * cautious / error / std::f64::consts::SQRT_2) } else { 1.0 },
        here: over_samples(first, second),
        p: p_value(first, second, &differences),
        detectable: spread.then_some((Z + 0.841_621) * error),
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

fn over_samples(first: &[Tally], second: &[Tally]) -> Option<(f64, f64)> {
    let (mut sum, mut variance, mut uncertainty) = (0.0, 0.0, 0.0);
    for (tallies, sign) in [(first, -1.0), (second, 1.0)] {
        for tally in tallies {
            let (share, freedom) = (f64::from(tally.c) / f64::from(tally.n), f64::from(tally.n) - 1.0);
            if freedom < 1.0 {
                return None;
            }
            let of_this = share * (1.0 - share) / freedom;
            sum += sign * share;
            variance += of_this;
            uncertainty += of_this * of_this / freedom;
        }
    }
    if variance == 0.0 {
        return None;
    }
    let count = first.len() as f64;
    let (mean, margin) = (sum / count, students_t(variance * variance / uncertainty)? * variance.sqrt() / count);
    Some(((mean - margin).max(-1.0), (mean + margin).min(1.0)))
}

/// The 97.5 % quantile of Student's t; `None` without a degree of freedom.
fn students_t(freedom: f64) -> Option<f64> {
    Some(StudentsT::new(0.0, 1.0, freedom).ok().filter(|_| freedom >= 1.0)?.inverse_cdf(0.975))
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
    let far = (0..REPLICATES).filter(|_| flipped().abs() >= sum).count();
    (far + 1) as f64 / (REPLICATES + 1) as f64
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
        assert_eq!((got.mean, got.p, got.detectable), (0.0, 1.0, None));
    }

    fn near((low, high): (f64, f64), expected: (f64, f64)) {
        assert!(
            (low - expected.0).abs() < 1e-4 && (high - expected.1).abs() < 1e-4,
            "{low} {high} are not {expected:?}"
        );
    }

    #[test]
    fn spread_by_hand() {
        // Differences 0 and 1: variance 1/2, standard error 1/2.
        let got = difference(&tallies(&[0, 0], 4), &tallies(&[0, 4], 4)).unwrap();
        assert!((got.detectable.unwrap() - 2.801_585 / 2.0).abs() < 1e-6, "{got:?}");
        // No problem was in doubt, so nothing is to be said about these alone.
        assert_eq!(got.here, None);
    }

    #[test]
    fn the_interval_over_problems_by_hand() {
        // Ten differences of 1/2, ten of 0, and two problems more: the mean is 5/22, the mean square 3.5/22, so that the
        // standard error is √((3.5/22 − 25/484) / 22) = 0.069882.
        let (first, second) = (tallies(&[2; 20], 4), tallies(&[[4; 10], [2; 10]].concat(), 4));
        near(difference(&first, &second).unwrap().interval, (0.090_306, 0.364_240));
        // The other way round the signs change and nothing else.
        near(difference(&second, &first).unwrap().interval, (-0.364_240, -0.090_306));
        // Two runs that are equal on two problems prove little: √(1/4 / 4) = 1/4.
        let equal = difference(&first[..2], &first[..2]).unwrap();
        near(equal.interval, (-0.489_991, 0.489_991));
        assert_eq!(equal.covers, 1.0);
    }

    #[test]
    fn what_the_interval_covers_by_hand() {
        let covers = |first: &[Tally], second: &[Tally]| difference(first, second).unwrap().covers;
        // The ten and ten of above: the standard error without the two is √(1/16 · 20/19 / 20) = 0.057354, so that the
        // interval has 1.959964 · 0.069882 / 0.057354 = 2.388081 of them on either side, and erf(2.388081 / √2) = 0.983064.
        let (first, second) = (tallies(&[2; 20], 4), tallies(&[[4; 10], [2; 10]].concat(), 4));
        assert!((covers(&first, &second) - 0.983_064).abs() < 1e-6);
        // On a hundred times as many problems the two do not count.
        assert!((covers(&first.repeat(100), &second.repeat(100)) - 0.95).abs() < 1e-3);
    }

    #[test]
    fn the_interval_of_these_problems_by_hand() {
        // 10 of 20 against 15 of 20 and 5 of 5: the variances are 1/76, 3/304 and 0 (19 degrees of freedom each), so
        // that the sum 7/304 has (7/304)² / ((1/76² + (3/304)²) / 19) = 37.24 of them; t = 2.025752.
        let got = difference(&[tally(10, 20), tally(5, 5)], &[tally(15, 20), tally(5, 5)]).unwrap();
        near(got.here.unwrap(), (0.125 - 0.153_698, 0.125 + 0.153_698));
        assert_eq!(difference(&tallies(&[1, 0], 1), &tallies(&[0, 0], 1)).unwrap().here, None);
    }

    fn tally(c: u32, n: u32) -> Tally {
        Tally { n, c }
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
