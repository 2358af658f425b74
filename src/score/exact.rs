//! Distributions of counts under the hypothesis that nothing differs, computed and not simulated.

use statrs::function::factorial::ln_binomial;

use super::Tally;

/// A distribution over consecutive whole numbers.
#[derive(Clone, Debug)]
pub(super) struct Distribution {
    /// The number that `mass[0]` belongs to.
    lowest: u64,
    mass: Vec<f64>,
}

impl Distribution {
    /// The chance of `at` or less.
    pub(super) fn at_most(&self, at: u64) -> f64 {
        let many = at.checked_sub(self.lowest).map_or(0, |beyond| beyond as usize + 1).min(self.mass.len());
        self.mass[..many].iter().sum::<f64>().min(1.0)
    }

    /// The sum of two independent numbers.
    fn plus(&self, other: &Distribution) -> Distribution {
        let mut mass = vec![0.0; self.mass.len() + other.mass.len() - 1];
        for (i, a) in self.mass.iter().enumerate() {
            for (sum, b) in mass[i..].iter_mut().zip(&other.mass) {
                *sum += a * b;
            }
        }
        Distribution { lowest: self.lowest + other.lowest, mass }
    }
}

/// How many of the correct samples of one problem fall to `now`, were the correct ones of both tallies dealt out
/// blindly: hypergeometric, the distribution behind Fisher's exact test.
pub(super) fn correct_of(accepted: Tally, now: Tally) -> Distribution {
    let [n, c, drawn] = [accepted.n + now.n, accepted.c + now.c, now.n].map(u64::from);
    let lowest = (drawn + c).saturating_sub(n);
    let highest = drawn.min(c);
    let all = ln_binomial(n, drawn);
    let mass = (lowest..=highest).map(|x| (ln_binomial(c, x) + ln_binomial(n - c, drawn - x) - all).exp()).collect();
    Distribution { lowest, mass }
}

/// How many correct samples fall to the second of each pair together, the problems being strata: the distribution
/// behind the exact test of a common odds ratio (Agresti 2013, "Categorical data analysis", section 7.3.5). With one
/// sample a problem it is that of McNemar's exact test.
pub(super) fn correct_of_all(pairs: &[(Tally, Tally)]) -> Distribution {
    let none = Distribution { lowest: 0, mass: vec![1.0] };
    pairs.iter().fold(none, |sum, &(accepted, now)| sum.plus(&correct_of(accepted, now)))
}

/// The chance that a sum of `sizes` with random signs is at least as far from 0 as `sum`: the sign-flip test of paired
/// differences (Fisher 1935), over all 2^N choices of signs.
pub(super) fn sign_flips(sizes: &[u64], sum: u64) -> f64 {
    let reach: u64 = sizes.iter().sum();
    // mass[i] belongs to the sum i − reach
    let mut mass = vec![0.0; 2 * reach as usize + 1];
    mass[reach as usize] = 1.0;
    let mut so_far = 0;
    for &size in sizes.iter().filter(|&&size| size > 0) {
        let before = mass[(reach - so_far) as usize..=(reach + so_far) as usize].to_vec();
        so_far += size;
        let now = &mut mass[(reach - so_far) as usize..=(reach + so_far) as usize];
        now.fill(0.0);
        for (i, p) in before.into_iter().enumerate() {
            now[i] += p / 2.0;
            now[i + 2 * size as usize] += p / 2.0;
        }
    }
    let far: f64 = mass.iter().zip(0u64..).filter(|(_, i)| i.abs_diff(reach) >= sum).map(|(p, _)| p).sum();
    far.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_of_both_ends() {
        let d = Distribution { lowest: 2, mass: vec![0.25, 0.5, 0.25] };
        assert_eq!([1, 2, 3, 4, 9].map(|at| d.at_most(at)), [0.0, 0.25, 0.75, 1.0, 1.0]);
    }

    /// Deals the correct samples out in every way.
    #[test]
    fn equals_dealing_out_in_every_way() {
        for (accepted, now) in
            [((4, 3), (5, 2)), ((3, 0), (3, 0)), ((3, 3), (2, 2)), ((6, 5), (6, 1)), ((0, 0), (4, 2))]
        {
            let [accepted, now] = [accepted, now].map(|(n, c)| Tally { n, c });
            let (n, c) = (accepted.n + now.n, accepted.c + now.c);
            let got = correct_of(accepted, now);
            let deals: Vec<u32> = (0u32..1 << n).filter(|deal| deal.count_ones() == now.n).collect();
            for at in 0..=u64::from(now.n) {
                let hits = deals.iter().filter(|&&deal| u64::from((deal & ((1 << c) - 1)).count_ones()) <= at).count();
                let expected = hits as f64 / deals.len() as f64;
                assert!((got.at_most(at) - expected).abs() < 1e-12, "{accepted:?} {now:?} ≤ {at}: {expected}");
            }
        }
    }

    #[test]
    fn equals_flipping_every_sign() {
        for sizes in [&[3, 1, 4, 1, 5][..], &[0, 2, 2, 0], &[7], &[0, 0], &[]] {
            for sum in 0..=14 {
                let flips = 0u32..1 << sizes.len();
                let of = |flip: u32| -> i64 {
                    (0..).zip(sizes).map(|(i, &d)| if flip >> i & 1 == 1 { d as i64 } else { -(d as i64) }).sum()
                };
                let far = flips.clone().filter(|&flip| of(flip).unsigned_abs() >= sum).count();
                let expected = far as f64 / flips.len() as f64;
                let got = sign_flips(sizes, sum);
                assert!((got - expected).abs() < 1e-12, "{sizes:?} {sum}: {got} is not {expected}");
            }
        }
    }
}
