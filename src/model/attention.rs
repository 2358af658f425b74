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
/// always added in the same order. All rows of a few heads are walked before the next heads, so that the keys of a prompt
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
    let together = (TOGETHER / head_dim).clamp(1, config.n_kv_heads); // kv heads
    let width = together * group * head_dim; // of their queries
    let count = picked.len(rows.len());
    scratch.parts.resize_with(config.n_kv_heads.div_ceil(together), Default::default);
    let of_heads = |(part, Part { scores, totals, out }): (usize, &mut Part)| {
        let heads = part * together..config.n_kv_heads.min((part + 1) * together);
        let (from, to) = (part * width, dim.min((part + 1) * width));
        out.resize(count * (to - from), 0.0);
        for (i, out) in out.chunks_exact_mut(to - from).enumerate() {
            let row = &rows[picked.row(i)];
            let queries = &qkv[picked.row(i) * (dim + 2 * kv_dim)..][from..to];
            let own = row.position + 1 - row.prefix.len();
            let prefix = cache.runs(layer, heads.clone(), row.prefix, row.prefix.len());
            let runs = prefix.chain(cache.runs(layer, heads.clone(), row.own, own));
            attend(queries, head_dim, group, runs, scores, totals, out);
        }
    };
    // About as long as a thread needs to wake up.
    let positions: usize = (0..count).map(|i| rows[picked.row(i)].position + 1).sum();
    match threads == Threads::All && positions * dim > 1 << 17 {
        true => scratch.parts.par_iter_mut().enumerate().with_max_len(1).for_each(of_heads),
        false => scratch.parts.iter_mut().enumerate().for_each(of_heads),
    }
    out.resize(count * dim, 0.0);
    for (part, scratch) in scratch.parts.iter().enumerate() {
        let (from, to) = (part * width, dim.min((part + 1) * width));
        for (out, part) in out.chunks_exact_mut(dim).zip(scratch.out.chunks_exact(to - from)) {
            out[from..to].copy_from_slice(part);
        }
    }
}

/// Numbers of a key that are walked side by side, of several heads where heads are small: sums enough that none waits
/// for the one before, and memory that lies together.
const TOGETHER: usize = 128;

/// What attention needs besides: kept, so that a step allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    parts: Vec<Part>,
}

/// Heads that are walked together.
#[derive(Default)]
struct Part {
    scores: Vec<[f32; BLOCK]>, // (heads, blocks)
    totals: Vec<f32>,          // (heads)
    out: Vec<f32>,             // (rows, heads, head_dim)
}

vectorised! {
    /// One row's queries, (heads, head_dim), over its positions → (heads, head_dim). Each `group` of heads shares keys
    /// and values.
    fn attend['a, R: Iterator<Item = (&'a [f32], &'a [f32], usize)> + Clone](
        queries: &[f32],
        head_dim: usize,
        group: usize,
        runs: R,
        scores: &mut Vec<[f32; BLOCK]>,
        totals: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let size = BLOCK * head_dim;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let blocks = runs.clone().count();
        scores.resize(queries.len() / head_dim * blocks, [0.0; BLOCK]);
        for (block, (keys, _, count)) in runs.clone().enumerate() {
            for (head, query) in queries.chunks_exact(head_dim).enumerate() {
                let scores = &mut scores[head * blocks + block];
                *scores = dots(query, &keys[head / group * size..][..size]);
                scores.iter_mut().for_each(|score| *score *= scale);
                scores[count..].fill(f32::NEG_INFINITY);
            }
        }
        for scores in scores.chunks_exact_mut(blocks) {
            let mut largest = [f32::NEG_INFINITY; BLOCK];
            for scores in scores.iter() {
                largest.iter_mut().zip(scores).for_each(|(largest, score)| *largest = largest.max(*score));
            }
            let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
            scores.as_flattened_mut().iter_mut().for_each(|score| *score = exp(*score - largest));
        }
        out.fill(0.0);
        totals.clear();
        totals.resize(queries.len() / head_dim, 0.0);
        for (block, (_, values, count)) in runs.enumerate() {
            for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                let weights = &scores[head * blocks + block][..count];
                totals[head] = weights.iter().fold(totals[head], |total, weight| total + weight);
                add_weighted(weights, &values[head / group * size..][..size], out);
            }
        }
        for (out, total) in out.chunks_exact_mut(head_dim).zip(totals.iter()) {
            out.iter_mut().for_each(|v| *v /= total);
        }
    }
}

/// Adds values, (positions, head_dim), each times its weight, to `out`, (head_dim).
#[inline(always)]
fn add_weighted(weights: &[f32], values: &[f32], out: &mut [f32]) {
    /// Values summed side by side.
    const WIDE: usize = 32;
    let head_dim = out.len();
    let whole = head_dim - head_dim % WIDE;
    for (from, out) in out.as_chunks_mut::<WIDE>().0.iter_mut().enumerate() {
        let mut sums = *out;
        for (value, weight) in values.chunks_exact(head_dim).zip(weights) {
            let value = &value[from * WIDE..][..WIDE];
            for i in 0..WIDE {
                sums[i] += weight * value[i];
            }
        }
        *out = sums;
    }
    for (value, weight) in values.chunks_exact(head_dim).zip(weights) {
        for (out, v) in out[whole..].iter_mut().zip(&value[whole..]) {
            *out += weight * v;
        }
    }
}

/// The query, (head_dim), times 16 keys, (head_dim, 16); each sum in the order of [`dot`](super::math::dot).
#[inline(always)]
fn dots(query: &[f32], keys: &[f32]) -> [f32; BLOCK] {
    /// Partial sums that are computed side by side: all would need more registers than AVX2 has.
    const SOME: usize = 4;
    let keys = keys.as_chunks::<BLOCK>().0;
    let (queries, query_rest) = query.as_chunks::<LANES>();
    let (chunks, keys_rest) = keys.as_chunks::<LANES>();
    let mut dots = [0f32; BLOCK];
    for first in (0..LANES).step_by(SOME) {
        let mut sums = [[0f32; BLOCK]; SOME];
        for (query, keys) in queries.iter().zip(chunks) {
            for lane in 0..SOME {
                for i in 0..BLOCK {
                    sums[lane][i] += query[first + lane] * keys[first + lane][i];
                }
            }
        }
        for sums in sums {
            for i in 0..BLOCK {
                dots[i] += sums[i];
            }
        }
    }
    let mut rest = [0f32; BLOCK];
    for (q, keys) in query_rest.iter().zip(keys_rest) {
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
