//! Causal attention as one operation over (head, row).

use rayon::prelude::*;

use super::cache::{BLOCK, Cache};
use super::config::Config;
use super::kernel::{Threads, vectorised};
use super::math::{LANES, exp};
use super::{Picked, Row};

/// Attention of each picked row over its sequence: (picked, dim) → `out`.
///
/// 1. scores: q · k / √head_dim over the prefix, then over the row's own positions up to itself
/// 2. softmax, shifted by the largest score
/// 3. the sum of the values so weighted
///
/// Keys are walked in the order of positions whether they came by prompt or by decoding, so that a row's sums are
/// always added in the same order. All rows of a head are walked before the next head, so that the keys of a prompt
/// are read from memory once for all its samples and come from the cache after that.
#[allow(clippy::too_many_arguments)]
pub(super) fn attention(
    qkv: &[f32], // (rows, dim + 2 kv_dim)
    rows: &[Row],
    picked: Picked,
    layer: usize,
    cache: &Cache,
    config: &Config,
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
    threads: Threads,
) {
    let (dim, head_dim, kv_dim) = (config.dim, config.head_dim(), config.kv_dim());
    let group = config.n_heads / config.n_kv_heads;
    let count = picked.len(rows.len());
    scratch.heads.resize_with(config.n_heads, Default::default);
    let of_head = |(head, scratch): (usize, &mut HeadScratch)| {
        scratch.out.resize(count * head_dim, 0.0);
        for (i, out) in scratch.out.chunks_exact_mut(head_dim).enumerate() {
            let row = &rows[picked.row(i)];
            let query = &qkv[picked.row(i) * (dim + 2 * kv_dim) + head * head_dim..][..head_dim];
            let own = row.position + 1 - row.prefix.len();
            let runs = cache.runs(layer, head / group, row.prefix, row.prefix.len()).chain(cache.runs(
                layer,
                head / group,
                row.own,
                own,
            ));
            attend(query, runs, row.position + 1, &mut scratch.scores, out);
        }
    };
    // About as long as a thread needs to wake up.
    let positions: usize = (0..count).map(|i| rows[picked.row(i)].position + 1).sum();
    let heads = scratch.heads.iter_mut().enumerate();
    match threads == Threads::All && positions * dim > 1 << 17 {
        true => scratch.heads.par_iter_mut().enumerate().with_max_len(1).for_each(of_head),
        false => heads.for_each(of_head),
    }
    out.resize(count * dim, 0.0);
    for (head, scratch) in scratch.heads.iter().enumerate() {
        for (out, part) in out.chunks_exact_mut(dim).zip(scratch.out.chunks_exact(head_dim)) {
            out[head * head_dim..][..head_dim].copy_from_slice(part);
        }
    }
}

/// What attention needs besides: kept, so that a step allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    heads: Vec<HeadScratch>,
}

#[derive(Default)]
struct HeadScratch {
    scores: Vec<f32>, // (positions)
    out: Vec<f32>,    // (rows, head_dim)
}

vectorised! {
    /// One query, (head_dim), over `len` positions → (head_dim).
    fn attend['a, R: Iterator<Item = (&'a [f32], &'a [f32], usize)> + Clone](
        query: &[f32],
        runs: R,
        len: usize,
        scores: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let head_dim = query.len();
        let scale = 1.0 / (head_dim as f32).sqrt();
        scores.resize(len, 0.0);
        let mut at = 0;
        for (keys, _, count) in runs.clone() {
            let dots = dots(query, keys);
            for (score, dot) in scores[at..at + count].iter_mut().zip(dots) {
                *score = dot * scale;
            }
            at += count;
        }
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        scores.iter_mut().for_each(|score| *score = exp(*score - largest));
        let total = scores.iter().fold(0.0, |total, score| total + score);
        out.fill(0.0);
        let mut at = 0;
        for (_, values, count) in runs {
            let weights = &scores[at..at + count];
            let whole = head_dim - head_dim % WIDE;
            for from in (0..whole).step_by(WIDE) {
                let out = &mut out[from..from + WIDE];
                let mut sums: [f32; WIDE] = std::array::from_fn(|i| out[i]);
                for (value, weight) in values.chunks_exact(head_dim).zip(weights) {
                    let value: &[f32] = &value[from..from + WIDE];
                    for i in 0..WIDE {
                        sums[i] += weight * value[i];
                    }
                }
                out.copy_from_slice(&sums);
            }
            for (value, weight) in values.chunks_exact(head_dim).zip(weights) {
                for (out, v) in out[whole..].iter_mut().zip(&value[whole..]) {
                    *out += weight * v;
                }
            }
            at += count;
        }
        out.iter_mut().for_each(|v| *v /= total);
    }
}

/// Values summed side by side.
const WIDE: usize = 32;

/// The query, (head_dim), times 16 keys, (head_dim, 16); each sum in the order of [`dot`](super::math::dot).
#[inline(always)]
fn dots(query: &[f32], keys: &[f32]) -> [f32; BLOCK] {
    let keys = keys.as_chunks::<BLOCK>().0;
    let whole = query.len() - query.len() % LANES;
    let mut dots = [0f32; BLOCK];
    for lane in 0..LANES {
        let mut sums = [0f32; BLOCK];
        for at in (lane..whole).step_by(LANES) {
            let (q, keys) = (query[at], &keys[at]);
            for i in 0..BLOCK {
                sums[i] += q * keys[i];
            }
        }
        for i in 0..BLOCK {
            dots[i] += sums[i];
        }
    }
    let mut rest = [0f32; BLOCK];
    for at in whole..query.len() {
        let (q, keys) = (query[at], &keys[at]);
        for i in 0..BLOCK {
            rest[i] += q * keys[i];
        }
    }
    for i in 0..BLOCK {
        dots[i] += rest[i];
    }
    dots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::math::dot;

    #[test]
    fn sixteen_keys_at_once_are_sixteen_dots() {
        for head_dim in [2, 8, 12, 64] {
            let value = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0;
            let query: Vec<f32> = (0..head_dim).map(value).collect();
            let keys: Vec<f32> = (99..99 + head_dim * BLOCK).map(value).collect();
            for (i, got) in dots(&query, &keys).into_iter().enumerate() {
                let key: Vec<f32> = keys[i..].iter().step_by(BLOCK).copied().collect();
                assert_eq!(got.to_bits(), dot(&query, &key).to_bits(), "head_dim {head_dim}, key {i}");
            }
        }
    }
}
