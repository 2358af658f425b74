//! Sums and exponentials in one fixed order, so that a row's result depends on nothing but the row.

use super::kernel::vectorised;

/// Partial sums kept side by side: enough for the compiler's vectors, and the same on every machine.
pub(super) const LANES: usize = 8;

/// Σ a_i b_i, always added in the same order.
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// e^x, within 2 ulp for x ≤ 88; 0 below −87.
///
/// Plain multiplications and additions (the reduction and polynomial of Cephes' `expf`), so that it vectorises and
/// does not depend on the C library.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding and subtracting it rounds to a whole number
    let clamped = x.clamp(-87.0, 88.0);
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = clamped - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    // The last bits of what was rounded are those of n. Wrapping, since a check for each value keeps vectors away.
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    if x < -87.0 { 0.0 } else { (p * r * r + r + 1.0) * power }
}

vectorised! {
    /// Root-mean-square norm of each `dim`-wide row of `x`, times `weight`: (rows, dim) → `out`.
    pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut Vec<f32>) {
        let dim = weight.len();
        out.resize(x.len(), 0.0);
        for (out, row) in out.chunks_exact_mut(dim).zip(x.chunks_exact(dim)) {
            let scale = 1.0 / (dot(row, row) / dim as f32 + eps).sqrt();
            for ((out, v), w) in out.iter_mut().zip(row).zip(weight) {
                *out = v * scale * w;
            }
        }
    }
}

vectorised! {
    /// silu(gate) · up of one row: (2 hidden) → (hidden).
    pub(super) fn swiglu(gate_up: &[f32], out: &mut [f32]) {
        let (gate, up) = gate_up.split_at(out.len());
        for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *out = g / (1.0 + exp(-g)) * u;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp() {
        for i in -86_000..88_000 {
            let x = i as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.4e-7, "exp({x}) is off by {error:e}");
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn dot_by_hand() {
        let a: Vec<f32> = (1..=11).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), 506.0);
    }
}
