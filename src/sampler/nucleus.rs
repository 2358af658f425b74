//! One token from one row of logits.

use super::Sampling;
use super::noise::Noise;
use crate::model::{exp, vectorised};

/// The logits hold NaN or positive infinity.
#[derive(Clone, Copy, Debug)]
pub struct NotFinite;

/// The token at `position`: the largest of logit / T + Gumbel noise over the nucleus, which is a draw from the
/// nucleus' renormalised softmax (the Gumbel-max trick); at T = 0 the most likely token. Ties go to the lower id.
///
/// # Errors
/// [`NotFinite`] when no probability can be computed.
pub fn sample(logits: &[f32], sampling: Sampling, noise: Noise, position: usize) -> Result<u32, NotFinite> {
    let largest = largest(logits);
    if !largest.is_finite() {
        return Err(NotFinite);
    }
    if sampling.temperature == 0.0 {
        return Ok(argmax(logits.iter().enumerate().map(|(id, &logit)| (id as u32, f64::from(logit)))));
    }
    let scaled = |id: u32| f64::from(logits[id as usize]) / sampling.temperature;
    let noisy = |id: u32| (id, scaled(id) + noise.gumbel(position, id));
    if sampling.top_p >= 1.0 {
        return Ok(argmax((0..logits.len() as u32).map(noisy)));
    }
    Ok(argmax(nucleus(logits, largest, sampling).into_iter().map(noisy)))
}

/// The largest logit; not a number if one of them is none.
fn largest(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b || a.is_nan() { a } else { b };
    let mut largest = [f32::NEG_INFINITY; 16];
    let (chunks, rest) = logits.as_chunks::<16>();
    for chunk in chunks {
        for (largest, &logit) in largest.iter_mut().zip(chunk) {
            *largest = larger(*largest, logit);
        }
    }
    largest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, larger)
}

/// Ids of the smallest set of most likely tokens whose probability reaches top-p; the one that crosses it is in.
fn nucleus(logits: &[f32], largest: f32, sampling: Sampling) -> Vec<u32> {
    let mut weights = vec![0.0; logits.len()];
    weigh(logits, largest, sampling.temperature, &mut weights);
    let total = total(&weights);

    // Tokens below this share cannot add up to 1 − top_p even all together, so the nucleus lies above it and the
    // few that are left are all that needs sorting.
    let threshold = (1.0 - sampling.top_p) * total / logits.len() as f64;
    let mut likely: Vec<u32> =
        (0..logits.len() as u32).filter(|&id| f64::from(weights[id as usize]) >= threshold).collect();
    likely.sort_by(|&a, &b| weights[b as usize].total_cmp(&weights[a as usize]).then(a.cmp(&b)));

    let mut mass = 0.0;
    let crossing = likely.iter().position(|&id| {
        mass += f64::from(weights[id as usize]);
        mass >= sampling.top_p * total
    });
    likely.truncate(crossing.map_or(likely.len(), |last| last + 1));
    likely
}

vectorised! {
    /// e^((logit − largest) / temperature) of each logit.
    fn weigh(logits: &[f32], largest: f32, temperature: f64, weights: &mut [f32]) {
        for (weight, logit) in weights.iter_mut().zip(logits) {
            *weight = exp((f64::from(logit - largest) / temperature) as f32);
        }
    }
}

/// Their sum, in an order in which no addition waits for the one before.
fn total(weights: &[f32]) -> f64 {
    let mut sums = [0f64; 16];
    let (chunks, rest) = weights.as_chunks::<16>();
    for chunk in chunks {
        for (sum, weight) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*weight);
        }
    }
    sums.into_iter().chain(rest.iter().copied().map(f64::from)).sum()
}

/// The id of the largest score; the lower id among equals, whatever their order.
fn argmax(scores: impl Iterator<Item = (u32, f64)>) -> u32 {
    let better = |best: (u32, f64), next: (u32, f64)| match next.1.total_cmp(&best.1) {
        std::cmp::Ordering::Greater => next,
        std::cmp::Ordering::Equal if next.0 < best.0 => next,
        _ => best,
    };
    scores.reduce(better).map_or(0, |(id, _)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::TaskId;

    fn sampling(temperature: f64, top_p: f64) -> Sampling {
        Sampling { temperature, top_p, max_tokens: 1, seed: 0 }
    }

    /// The nucleus and its renormalised probabilities, in f64 and by a full sort.
    fn expected(logits: &[f32], temperature: f64, top_p: f64) -> Vec<(usize, f64)> {
        let weights: Vec<f64> = logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
        let mut kept = Vec::new();
        let mut mass = 0.0;
        for id in order {
            kept.push(id);
            mass += weights[id] / total;
            if mass >= top_p {
                break;
            }
        }
        let kept_mass: f64 = kept.iter().map(|&id| weights[id] / total).sum();
        kept.into_iter().map(|id| (id, weights[id] / total / kept_mass)).collect()
    }

    /// χ² of 20,000 draws against the nucleus distribution stays below the 99.9 % quantile
    /// (Wilson–Hilferty), and nothing outside the nucleus is ever drawn.
    #[test]
    fn frequencies_are_those_of_the_nucleus() {
        let logits: Vec<f32> = (0..40).map(|i| ((i * 37 % 40) as f32) / 9.0 - (i % 3) as f32 * 0.4).collect();
        const DRAWS: usize = 20_000;
        for temperature in [0.2, 0.8, 1.0] {
            for top_p in [0.5, 0.95, 1.0] {
                let mut counts = vec![0usize; logits.len()];
                for index in 0..DRAWS {
                    let noise = Noise::new(11, &TaskId::from("chi"), index as u32);
                    counts[sample(&logits, sampling(temperature, top_p), noise, 9).unwrap() as usize] += 1;
                }
                let (mut chi2, mut bins, mut rare) = (0.0, 0usize, (0.0, 0usize));
                let mut seen = 0;
                for (id, p) in expected(&logits, temperature, top_p) {
                    seen += counts[id];
                    let mean = p * DRAWS as f64;
                    if mean < 5.0 {
                        rare = (rare.0 + mean, rare.1 + counts[id]); // pooled: χ² wants five in each bin
                    } else {
                        chi2 += (counts[id] as f64 - mean).powi(2) / mean;
                        bins += 1;
                    }
                }
                assert_eq!(seen, DRAWS, "a token outside the nucleus at T {temperature}, top-p {top_p}");
                if rare.0 >= 1.0 {
                    chi2 += (rare.1 as f64 - rare.0).powi(2) / rare.0;
                    bins += 1;
                }
                let freedom = bins.saturating_sub(1).max(1) as f64;
                let spread = 2.0 / (9.0 * freedom);
                let quantile = freedom * (1.0 - spread + 3.090 * spread.sqrt()).powi(3);
                assert!(chi2 <= quantile, "χ² {chi2} > {quantile} at T {temperature}, top-p {top_p}");
            }
        }
    }

    #[test]
    fn nucleus_equals_a_full_sort() {
        for salt in 0..50u32 {
            let logits: Vec<f32> = (0..300u32).map(|i| ((i * 7919 + salt * 104_729) % 1000) as f32 / 80.0).collect();
            for (temperature, top_p) in [(0.2, 0.5), (0.8, 0.95), (1.0, 0.95), (1.5, 0.999)] {
                let largest = logits.iter().copied().fold(f32::MIN, f32::max);
                let got = nucleus(&logits, largest, sampling(temperature, top_p));
                let sorted: Vec<u32> =
                    expected(&logits, temperature, top_p).into_iter().map(|(id, _)| id as u32).collect();
                assert_eq!(got, sorted, "T {temperature}, top-p {top_p}, salt {salt}");
            }
        }
    }

    #[test]
    fn corner_cases() {
        let noise = Noise::new(0, &TaskId::from("t"), 0);
        let check = |logits: &[f32], t, p| sample(logits, sampling(t, p), noise, 3);
        assert_eq!(check(&[1.0, 3.0, 3.0], 0.0, 0.95).unwrap(), 1); // ties go to the lower id
        assert_eq!(check(&[0.0, 50.0, 0.0], 0.2, 0.95).unwrap(), 1);
        assert_eq!(check(&[f32::NEG_INFINITY, 0.0], 1.0, 1.0).unwrap(), 1);
        assert_eq!(check(&[1.0, 2.0], 1e-9, 0.95).unwrap(), 1);
        assert!(check(&[1.0, f32::NAN], 0.2, 0.95).is_err());
        assert!(check(&[1.0, f32::INFINITY], 0.2, 0.95).is_err());
    }
}
