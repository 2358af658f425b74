//! Is a run worse than the accepted one, and by more than noise? The tests behind `--gate noise`.
//!
//! Both are exact and one-sided: gains raise no alarm. Under the hypothesis that no problem's chance has changed, all
//! alarms of one run together have a chance of at most [`FALSE_ALARMS`], whatever the number of problems and samples:
//! half of it goes to the sum over all problems, half, by Bonferroni, to the single problems. Bonferroni and not Holm,
//! so that a problem's test can be decided as soon as that problem is judged.

use super::{Tally, exact};

/// The chance, per run, that a gate raises any alarm although nothing has changed.
pub const FALSE_ALARMS: f64 = 0.01;

/// A loss that noise does not explain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// The accepted pass@1, 0 to 1.
    pub accepted: f64,
    /// The pass@1 of now, 0 to 1.
    pub now: f64,
    /// The chance of such a loss, or a larger one, were nothing changed.
    pub p: f64,
    /// The level that `p` does not exceed.
    pub level: f64,
}

/// Decides about one run: one label on one dataset.
///
/// ```
/// use passk::score::{Tally, noise::Gate};
/// let gate = Gate::new(164); // the problems that are compared
/// let tally = |c| Tally { n: 20, c };
/// assert_eq!(gate.problem(tally(20), tally(14)), None); // p 0.0101: one of 164 may do that
/// assert!(gate.problem(tally(20), tally(4)).is_some());
/// let run = vec![(tally(20), tally(14)); 164];
/// assert!(gate.overall(&run).is_some()); // but not all of them
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    problems: usize,
}

impl Gate {
    /// A gate over so many problems: those that are in both the run and the accepted snapshot.
    pub fn new(problems: usize) -> Gate {
        Gate { problems: problems.max(1) }
    }

    /// The loss of one problem, if it is one: Fisher's exact test at [`FALSE_ALARMS`] / 2 / problems.
    pub fn problem(self, accepted: Tally, now: Tally) -> Option<Loss> {
        let level = FALSE_ALARMS / 2.0 / self.problems as f64;
        loss(&[(accepted, now)], problem_p(accepted, now), level)
    }

    /// The loss over all (accepted, now), if it is one: the exact stratified test at [`FALSE_ALARMS`] / 2.
    pub fn overall(self, pairs: &[(Tally, Tally)]) -> Option<Loss> {
        loss(pairs, overall_p(pairs), FALSE_ALARMS / 2.0)
    }
}

/// The chance that `now` has so few correct samples, or fewer, if both tallies come from one chance: Fisher's exact
/// test, one-sided. 1 where nothing was judged.
pub fn problem_p(accepted: Tally, now: Tally) -> f64 {
    exact::correct_of(accepted, now).at_most(now.c.into())
}

/// The chance that the second tallies have so few correct samples together, or fewer, if each pair comes from one
/// chance of its own: the exact stratified test, one-sided.
pub fn overall_p(pairs: &[(Tally, Tally)]) -> f64 {
    exact::correct_of_all(pairs).at_most(pairs.iter().map(|(_, now)| u64::from(now.c)).sum())
}

fn loss(pairs: &[(Tally, Tally)], p: f64, level: f64) -> Option<Loss> {
    let mean = |of: fn(&(Tally, Tally)) -> Tally| {
        let scores: Option<Vec<f64>> = pairs.iter().map(|pair| of(pair).pass_at_k(1)).collect();
        scores.map(|scores| scores.iter().sum::<f64>() / scores.len().max(1) as f64)
    };
    let (accepted, now) = (mean(|pair| pair.0)?, mean(|pair| pair.1)?);
    // With unlike numbers of samples the counts may fall short where the mean does not.
    (p <= level && now < accepted).then_some(Loss { accepted, now, p, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(c: u32, n: u32) -> Tally {
        Tally { n, c }
    }

    #[test]
    fn one_problem_by_hand() {
        // The lady tasting tea: 3 of 4 right against 1 of 4, (C(4,1)·C(4,3) + C(4,0)·C(4,4)) / C(8,4) = 17/70.
        assert!((problem_p(tally(3, 4), tally(1, 4)) - 17.0 / 70.0).abs() < 1e-12);
        assert!((problem_p(tally(4, 4), tally(0, 4)) - 1.0 / 70.0).abs() < 1e-12);
        assert_eq!(problem_p(tally(0, 4), tally(0, 4)), 1.0);
        assert!((problem_p(tally(1, 4), tally(4, 4)) - 1.0).abs() < 1e-12);
        assert_eq!(problem_p(tally(0, 0), tally(0, 4)), 1.0);
    }

    #[test]
    fn with_one_sample_each_it_is_mcnemar() {
        // Of 5 problems that moved, 4 were lost: P(Binomial(5, 1/2) ≤ 1) = 6/32.
        let mut pairs = vec![(tally(1, 1), tally(0, 1)); 4];
        pairs.push((tally(0, 1), tally(1, 1)));
        pairs.extend([(tally(1, 1), tally(1, 1)), (tally(0, 1), tally(0, 1))]);
        assert!((overall_p(&pairs) - 6.0 / 32.0).abs() < 1e-12);
    }

    #[test]
    fn strata_are_not_pooled() {
        // Two problems of two samples each, one always solved and one never: nothing can be lost, and p is 1.
        assert_eq!(overall_p(&[(tally(2, 2), tally(2, 2)), (tally(0, 2), tally(0, 2))]), 1.0);
        // Half of each lost: P(x₁ + x₂ ≤ 0) = (1/6)².
        assert!((overall_p(&[(tally(2, 2), tally(0, 2)); 2]) - 1.0 / 36.0).abs() < 1e-12);
        assert_eq!(overall_p(&[]), 1.0);
    }

    #[test]
    fn a_gain_is_no_loss_and_the_level_is_shared() {
        let gate = Gate::new(1);
        assert_eq!(gate.problem(tally(0, 20), tally(20, 20)), None);
        let (accepted, now) = (tally(20, 20), tally(12, 20));
        let loss = gate.problem(accepted, now).unwrap();
        assert!((loss.accepted - loss.now - 0.4).abs() < 1e-12 && loss.level == 0.005, "{loss:?}");
        assert!(loss.p > 0.0 && loss.p <= 0.005, "{loss:?}");
        assert_eq!(Gate::new(164).problem(accepted, now), None);
        assert_eq!(gate.problem(tally(0, 0), tally(0, 20)), None);
        assert_eq!(gate.overall(&[]), None);
    }

    #[test]
    fn large_n_stays_finite() {
        let p = problem_p(tally(900, 2000), tally(700, 2000));
        assert!(p > 0.0 && p < 1e-9, "{p}");
        let pairs = vec![(tally(100, 200), tally(90, 200)); 164];
        let p = overall_p(&pairs);
        assert!(p > 0.0 && p < 1e-9, "{p}");
    }
}
