//! Numbers only: counts in, pass@k and its interval, and what two runs' difference is worth, out.

mod exact;
pub mod noise;
pub mod paired;

/// How many of a problem's judged samples are correct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Judged samples.
    pub n: u32,
    /// Correct ones among them.
    pub c: u32,
}

impl Tally {
    /// The unbiased estimate of the chance that one of `k` samples is correct: 1 − C(n−c, k) / C(n, k),
    /// as the product of Chen et al. 2021 (arXiv 2107.03374, figure 3). `None` when n < k or k = 0.
    pub fn pass_at_k(self, k: u32) -> Option<f64> {
        let Tally { n, c } = self;
        if k == 0 || n < k {
            return None;
        }
        if n - c < k {
            return Some(1.0);
        }
        let all_wrong: f64 = (n - c + 1..=n).map(|i| 1.0 - f64::from(k) / f64::from(i)).product();
        Some(1.0 - all_wrong)
    }
}

/// A mean over problems with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean over problems.
    pub mean: f64,
    /// Lower end, not below 0.
    pub low: f64,
    /// Upper end, not above 1.
    pub high: f64,
}

/// The 97.5 % quantile of the normal distribution.
const Z: f64 = 1.959_964;

/// pass@k of a benchmark: the mean over problems of [`Tally::pass_at_k`].
///
/// The interval takes problems as drawn from a larger population (Miller 2024, arXiv 2411.00640, eq. 1), with some
/// problems more: z²/2 that are solved and z²/2 that are not, as Agresti & Coull 1998 ("Approximate is better than
/// exact") do it for a proportion. So it stays honest for few problems and near 0 and 1, where the bare standard error
/// covers too little; what it covers is simulated in tests/it/statistics.rs.
///
/// `None` when there is no problem, or one with fewer than `k` samples: a k that does not hold for every problem is not
/// reported at all.
pub fn pass_at_k(tallies: &[Tally], k: u32) -> Option<Estimate> {
    let scores: Vec<f64> = tallies.iter().map(|tally| tally.pass_at_k(k)).collect::<Option<_>>()?;
    if scores.is_empty() {
        return None;
    }
    let half = Z * Z / 2.0;
    let (centre, error) = mean_with(&scores, &[(0.0, half), (1.0, half)]);
    let mean = scores.iter().sum::<f64>() / scores.len() as f64;
    Some(Estimate { mean, low: (centre - Z * error).max(0.0), high: (centre + Z * error).min(1.0) })
}

/// The mean of `values` and of further (value, weight), and its standard error.
fn mean_with(values: &[f64], further: &[(f64, f64)]) -> (f64, f64) {
    let all = || values.iter().map(|&value| (value, 1.0)).chain(further.iter().copied());
    let count: f64 = all().map(|(_, weight)| weight).sum();
    let mean = all().map(|(value, weight)| value * weight).sum::<f64>() / count;
    let variance = all().map(|(value, weight)| (value - mean).powi(2) * weight).sum::<f64>() / count;
    (mean, (variance / count).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to draw k of n samples, of which the first c are correct.
    fn brute_force(n: u32, c: u32, k: u32) -> f64 {
        let (mut hits, mut draws) = (0u32, 0u32);
        for subset in 0u32..1 << n {
            if subset.count_ones() == k {
                draws += 1;
                hits += u32::from(subset & ((1 << c) - 1) != 0);
            }
        }
        f64::from(hits) / f64::from(draws)
    }

    #[test]
    fn equals_brute_force() {
        for n in 1..=10 {
            for c in 0..=n {
                for k in 1..=n {
                    let got = Tally { n, c }.pass_at_k(k).unwrap();
                    assert!((got - brute_force(n, c, k)).abs() < 1e-12, "n {n} c {c} k {k}: {got}");
                }
            }
        }
    }

    #[test]
    fn equals_human_eval() {
        let known = [
            (6, 3, 1, 0.5),
            (10, 3, 5, 11.0 / 12.0),
            (20, 1, 10, 0.5),
            (20, 2, 10, 29.0 / 38.0),
            (100, 5, 10, 0.4162476330738),
            (200, 13, 10, 0.4975511147306),
            (200, 13, 100, 0.9999194971988),
            (5, 0, 5, 0.0),
        ];
        for (n, c, k, expected) in known {
            let got = Tally { n, c }.pass_at_k(k).unwrap();
            assert!((got - expected).abs() < 1e-12, "n {n} c {c} k {k}: {got} is not {expected}");
        }
    }

    #[test]
    fn is_the_mean_over_problems_not_pooled() {
        let tallies = [Tally { n: 2, c: 2 }, Tally { n: 8, c: 0 }];
        assert_eq!(pass_at_k(&tallies, 1).unwrap().mean, 0.5);
    }

    #[test]
    fn a_problem_with_too_few_samples_blocks_its_k() {
        let tallies = [Tally { n: 10, c: 1 }, Tally { n: 4, c: 1 }];
        assert!(pass_at_k(&tallies, 4).is_some());
        assert_eq!(pass_at_k(&tallies, 5), None);
        assert_eq!(pass_at_k(&[], 1), None);
    }

    #[test]
    fn interval_by_hand() {
        // Agresti & Coull's for a quarter of 100 problems, which is Wilson's centre: (25 + z²/2) / (100 + z²).
        let tallies: Vec<Tally> = (0..100).map(|i| Tally { n: 1, c: u32::from(i < 25) }).collect();
        let estimate = pass_at_k(&tallies, 1).unwrap();
        let (centre, count) = ((25.0 + 1.920_729) / 103.841_459, 103.841_459f64);
        let margin = 1.959_964 * (centre * (1.0 - centre) / count).sqrt();
        assert_eq!(estimate.mean, 0.25);
        assert!((estimate.low - (centre - margin)).abs() < 1e-6, "{estimate:?}");
        assert!((estimate.high - (centre + margin)).abs() < 1e-6, "{estimate:?}");
    }

    #[test]
    fn nothing_solved_is_no_certainty() {
        // Of 164 problems none, or all: the rule of three says that up to some 2 % may be otherwise.
        let all = |c| pass_at_k(&vec![Tally { n: 1, c }; 164], 1).unwrap();
        let (none, every) = (all(0), all(1));
        assert_eq!((none.mean, none.low, every.mean, every.high), (0.0, 0.0, 1.0, 1.0));
        assert!((0.018..0.03).contains(&none.high) && (every.low - (1.0 - none.high)).abs() < 1e-12, "{none:?}");
    }
}
