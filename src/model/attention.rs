//! Causal attention as one operation over (kv head, row).

use std::ops::Range;

use rayon::prelude::*;

use super::cache::{BLOCK, Layer, Span};
use super::config::Config;
use super::kernel::{Aligned, LANES, MOST, Panel, Sums, Threads, Vectors, Work, accumulate, beside};
use super::math::exp;
use super::{Picked, Row};

/// Attention of each picked row over its sequence: (picked, dim) → `out`.
///
/// 1. scores: q · k / √head_dim over the prefix, then over the row's own positions up to itself
/// 2. softmax, shifted by the largest score
/// 3. the sum of the values so weighted
///
/// A score is one chain of fused multiply-adds over head_dim, a sum of values one over the positions in their order,
/// whether they came by prompt or by decoding; the sum of the weights is kept as 16 that are added in the end. So a row's
/// result is the same bits whatever rows stand beside it. Rows of one prompt that stand together are walked together, so
/// that a key or value of the prompt is read once for all of them.
#[allow(clippy::too_many_arguments)]
pub(super) fn attention(
    qkv: &[f32], // (rows, dim + 2 kv_dim)
    rows: &[Row],
    picked: Picked,
    layer: &Layer,
    config: &Config,
    scratch: &mut Scratch,
    out: &mut Vec<f32>,
    threads: Threads,
) {
    let (dim, head_dim) = (config.dim, config.head_dim());
    let group = config.n_heads / config.n_kv_heads;
    let count = picked.len(rows.len());
    let scene = Scene { qkv, rows, picked, layer, head_dim, group, dim, kv_dim: config.kv_dim() };
    // Heads whose keys lie together: memory is read by the page.
    let together = (TOGETHER / head_dim).clamp(1, config.n_kv_heads);
    scratch.parts.resize_with(config.n_kv_heads.div_ceil(together), Part::default);
    let of_heads = |(number, part): (usize, &mut Part)| {
        let first = number * together;
        Vectors::best().run(Walk { scene: &scene, heads: first..config.n_kv_heads.min(first + together), part });
    };
    // About as long as a thread needs to wake up.
    let positions: usize = (0..count).map(|i| rows[picked.row(i)].position + 1).sum();
    match threads == Threads::All && positions * dim > 1 << 17 {
        true => scratch.parts.par_iter_mut().enumerate().with_max_len(1).for_each(of_heads),
        false => scratch.parts.iter_mut().enumerate().for_each(of_heads),
    }
    out.resize(count * dim, 0.0);
    let width = together * group * head_dim;
    for (number, part) in scratch.parts.iter().enumerate() {
        let columns = number * width..dim.min((number + 1) * width);
        for (out, part) in out.chunks_exact_mut(dim).zip(part.out.chunks_exact(columns.len())) {
            out[columns.clone()].copy_from_slice(part);
        }
    }
}

/// Panels of values that are handed to the kernel together, at most.
const PIECES: usize = 64;
/// Numbers of a position's keys that one thread walks.
const TOGETHER: usize = 128;

/// What attention needs besides: kept, so that a step allocates nothing.
#[derive(Default)]
pub(super) struct Scratch {
    parts: Vec<Part>,
}

/// A thread's.
#[derive(Default)]
struct Part {
    scores: Aligned, // (queries, blocks, 16)
    sums: Aligned,   // (queries, head_dim / 16, 16)
    out: Vec<f32>,   // (rows, heads, head_dim)
}

/// What is attended to by whom.
struct Scene<'a> {
    qkv: &'a [f32],
    rows: &'a [Row<'a>],
    picked: Picked<'a>,
    layer: &'a Layer,
    head_dim: usize,
    group: usize, // queries that share a key
    dim: usize,
    kv_dim: usize,
}

impl<'a> Scene<'a> {
    /// The picked row of this number.
    fn row(&self, i: usize) -> &Row<'a> {
        &self.rows[self.picked.row(i)]
    }

    /// Positions of its own that a picked row sees.
    fn own(&self, i: usize) -> usize {
        self.row(i).position + 1 - self.row(i).prefix.len()
    }

    /// The most of their own positions that one of some picked rows sees.
    fn most(&self, rows: Range<usize>) -> usize {
        rows.map(|i| self.own(i)).max().unwrap_or(0)
    }

    /// Query `query` of those of picked rows from `first` on and kv head `head`: (rows, group), each (head_dim).
    #[inline(always)]
    fn query(&self, first: usize, head: usize, query: usize) -> &'a [f32] {
        let row = self.picked.row(first + query / self.group);
        let head = head * self.group + query % self.group;
        &self.qkv[row * (self.dim + 2 * self.kv_dim) + head * self.head_dim..][..self.head_dim]
    }

    /// The picked `rows`, cut where the next one has another span.
    fn families(
        &'a self,
        rows: Range<usize>,
        span: impl Fn(&Row<'a>) -> &'a Span + Copy,
    ) -> impl Iterator<Item = Range<usize>> + Clone {
        let family = move |first: usize| {
            let same = |&i: &usize| std::ptr::eq(span(self.row(i)), span(self.row(first)));
            (first < rows.end).then(|| first..first + (first..rows.end).take_while(same).count())
        };
        std::iter::successors(family(rows.start), move |before| family(before.end))
    }
}

/// Some kv heads of all picked rows.
struct Walk<'a, 'b> {
    scene: &'a Scene<'a>,
    heads: Range<usize>,
    part: &'b mut Part,
}

impl Work for Walk<'_, '_> {
    #[inline(always)]
    fn run<S: Sums>(self) {
        let Walk { scene, heads, part } = self;
        let count = scene.picked.len(scene.rows.len());
        part.out.resize(count * heads.len() * scene.group * scene.head_dim, 0.0);
        for family in scene.families(0..count, |row| row.prefix) {
            let tiles = family.len().div_ceil((S::ROWS / scene.group).max(1));
            for tile in 0..tiles {
                let at = |tile: usize| family.start + family.len() * tile / tiles;
                let rows = at(tile)..at(tile + 1);
                for head in heads.clone() {
                    attend::<S>(scene, rows.clone(), head, part);
                    give(scene, rows.clone(), head - heads.start, heads.len(), part);
                }
            }
        }
    }
}

/// Sums of the values that the queries of some rows, which share a prefix, see in one kv head, into `part.sums`.
#[inline(always)]
fn attend<'a, S: Sums>(scene: &'a Scene<'a>, rows: Range<usize>, head: usize, part: &mut Part) {
    let (group, layer) = (scene.group, scene.layer);
    let prefix = scene.row(rows.start).prefix;
    let shared = prefix.len().div_ceil(BLOCK);
    let runs = shared + scene.most(rows.clone()).div_ceil(BLOCK);
    let wide = scene.head_dim.div_ceil(LANES);
    part.scores.renew(rows.len() * group * runs * BLOCK);
    part.scores.fill(0.0);
    part.sums.renew(rows.len() * group * wide * LANES);
    part.sums.fill(0.0);
    let scores = part.scores.as_chunks_mut().0; // (queries, runs, 16)
    let sums = part.sums.as_chunks_mut().0; // (queries, head_dim / 16, 16)

    // Rows that share their own positions, too: those of a prompt, or of drafts.
    let siblings = scene.families(rows.clone(), |row| row.own);
    let of = |some: &Range<usize>| (some.start - rows.start) * group..(some.end - rows.start) * group;

    let keys = |span, len| layer.runs(head, span, len).map(|(keys, _)| keys);
    let query = |query: usize| scene.query(rows.start, head, query);
    score::<S>(of(&rows), query, keys(prefix, prefix.len()), scores, runs);
    for some in siblings.clone() {
        let own = scene.most(some.clone());
        score::<S>(of(&some), query, keys(scene.row(some.start).own, own), &mut scores[shared..], runs);
    }

    for (i, scores) in rows.clone().zip(scores.chunks_exact_mut(group * runs)) {
        for scores in scores.chunks_exact_mut(runs) {
            let (before, own) = scores.split_at_mut(shared);
            before.as_flattened_mut()[prefix.len()..].fill(f32::NEG_INFINITY);
            own.as_flattened_mut()[scene.own(i)..].fill(f32::NEG_INFINITY);
            softmax(scores, 1.0 / (scene.head_dim as f32).sqrt());
        }
    }

    let values = |span, len| layer.runs(head, span, len).map(|(_, values)| values);
    weigh::<S>(of(&rows), scores, runs, prefix.len(), values(prefix, prefix.len()), sums, wide);
    for some in siblings {
        let (own, most) = (scene.row(some.start).own, scene.most(some.clone()));
        let least = some.clone().map(|i| scene.own(i)).min().unwrap_or(0);
        let common = if least == most { most } else { least / BLOCK * BLOCK };
        weigh::<S>(of(&some), &scores[shared..], runs, common, values(own, common), sums, wide);
        for i in some.filter(|&i| scene.own(i) > common) {
            let (run, rest) = (common / BLOCK, scene.own(i) - common);
            let values = values(own, common + rest).skip(run);
            weigh::<S>(of(&(i..i + 1)), &scores[shared + run..], runs, rest, values, sums, wide);
        }
    }
}

/// scores (queries, runs, 16) += query · key, for the positions of the runs of `keys` in order.
#[inline(always)]
fn score<'a, S: Sums>(
    queries: Range<usize>,
    query: impl Fn(usize) -> &'a [f32],
    keys: impl Iterator<Item = &'a [[f32; BLOCK]]> + Clone,
    scores: &mut Panel,
    runs: usize,
) {
    for first in queries.clone().step_by(S::ROWS) {
        let count = S::ROWS.min(queries.end - first);
        let mut x: [&[f32]; MOST] = [&[]; MOST];
        for (i, x) in x.iter_mut().enumerate().take(count) {
            *x = query(first + i);
        }
        let depth = x[0].len();
        let (mut keys, mut at) = (keys.clone(), first * runs);
        let mut panels: [&Panel; MOST] = [&[]; MOST];
        loop {
            let (mut some, room) = (0, beside::<S>(count, usize::MAX));
            while some < room {
                let Some(keys) = keys.next() else { break };
                panels[some] = &keys[..depth];
                some += 1;
            }
            if some == 0 {
                break;
            }
            let mut done = 0;
            while done < some {
                let now = beside::<S>(count, some - done);
                accumulate::<S, f32>(&x[..count], &panels[done..done + now], now, &mut scores[at..], runs);
                (done, at) = (done + now, at + now);
            }
        }
    }
}

/// sums (queries, wide, 16) += the weights of `count` positions, the first of those in (queries, runs, 16), times their
/// values, which come in runs of (wide, 16 positions, 16).
#[inline(always)]
fn weigh<'a, S: Sums>(
    queries: Range<usize>,
    weights: &Panel,
    runs: usize,
    count: usize,
    values: impl Iterator<Item = &'a Panel> + Clone,
    sums: &mut Panel,
    wide: usize,
) {
    for first in queries.clone().step_by(S::ROWS) {
        let some = S::ROWS.min(queries.end - first);
        let mut at = 0;
        while at < wide {
            let now = beside::<S>(some, wide - at);
            let (mut values, mut done) = (values.clone(), 0);
            while done < count {
                let (mut end, mut filled) = (done, 0);
                let mut panels: [&Panel; PIECES] = [&[]; PIECES];
                while end < count && filled + now <= PIECES {
                    let Some(values) = values.next() else { break };
                    let depth = BLOCK.min(count - end);
                    for j in 0..now {
                        panels[filled + j] = &values[(at + j) * BLOCK..][..depth];
                    }
                    (end, filled) = (end + depth, filled + now);
                }
                if filled == 0 {
                    break;
                }
                let mut x: [&[f32]; MOST] = [&[]; MOST];
                for (i, x) in x.iter_mut().enumerate().take(some) {
                    *x = &weights[(first + i) * runs..].as_flattened()[done..end];
                }
                accumulate::<S, f32>(&x[..some], &panels[..filled], now, &mut sums[first * wide + at..], wide);
                done = end;
            }
            at += now;
        }
    }
}

/// Scores of whole blocks times `scale` → weights, whose sum is one.
#[inline(always)]
fn softmax(scores: &mut Panel, scale: f32) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    for scores in scores.iter_mut() {
        for (largest, score) in largest.iter_mut().zip(scores) {
            *score *= scale;
            *largest = if *score > *largest { *score } else { *largest };
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    let mut totals = [0f32; LANES];
    for scores in scores.iter_mut() {
        for (total, score) in totals.iter_mut().zip(scores) {
            *score = exp(*score - largest);
            *total += *score;
        }
    }
    let share = 1.0 / totals.iter().sum::<f32>();
    scores.as_flattened_mut().iter_mut().for_each(|weight| *weight *= share);
}

/// Takes the sums of some rows and one head to their places in `part.out`.
#[inline(always)]
fn give(scene: &Scene, rows: Range<usize>, head: usize, heads: usize, part: &mut Part) {
    let (head_dim, width) = (scene.head_dim, scene.group * scene.head_dim);
    let mut sums = part.sums.chunks_exact(head_dim.next_multiple_of(LANES));
    for row in part.out.chunks_exact_mut(heads * width).skip(rows.start).take(rows.len()) {
        for (out, sums) in row[head * width..][..width].chunks_exact_mut(head_dim).zip(&mut sums) {
            out.copy_from_slice(&sums[..head_dim]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cache::Cache;
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0
    }

    /// One query over `keys` and `values`, a number at a time, as [`attention`] says it. Beside a key and a value
    /// stands which of the 16 sums its weight goes to.
    fn by_definition(query: &[f32], seen: &[(Vec<f32>, Vec<f32>, usize)]) -> Vec<f32> {
        let scale = 1.0 / (query.len() as f32).sqrt();
        let score = |key: &[f32]| query.iter().zip(key).fold(0f32, |sum, (q, k)| q.mul_add(*k, sum)) * scale;
        let scores: Vec<f32> = seen.iter().map(|(key, ..)| score(key)).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|score| exp(score - largest)).collect();
        let mut totals = [0f32; LANES];
        weights.iter().zip(seen).for_each(|(weight, (.., lane))| totals[*lane] += weight);
        let share = 1.0 / totals.iter().sum::<f32>();
        let sum = |i: usize| weights.iter().zip(seen).fold(0f32, |sum, (w, (_, v, _))| (w * share).mul_add(v[i], sum));
        (0..query.len()).map(sum).collect()
    }

    /// Samples of prompts of several lengths, rows of drafts, and a prompt on its way, with grouped queries and without.
    #[test]
    fn every_row_is_what_it_is_alone() {
        for (heads, kv_heads, head_dim) in [(4, 4, 32), (4, 1, 8), (16, 1, 20), (2, 2, 128)] {
            let (dim, kv_dim) = (heads * head_dim, kv_heads * head_dim);
            let config = Config { dim, n_heads: heads, n_kv_heads: kv_heads, ..crate::bench::large() };
            let mut cache = Cache::new(1, kv_heads, head_dim);
            let number = |span: usize, index: usize| value(span * 7919 + index * 104_729);
            let numbers =
                |of: usize, index: usize| (0..kv_dim).map(|i| number(of, index * kv_dim + i)).collect::<Vec<_>>();
            let mut filled = 0;
            let mut span = |len: usize| {
                let (mut span, of) = (Span::default(), 2 * filled);
                filled += 1;
                cache.grow(&mut span, len);
                (0..len).for_each(|i| cache.layers()[0].write(&span, i, &numbers(of, i), &numbers(of + 1, i)));
                (span, of)
            };
            let (nothing, long, short) = (span(0), span(37), span(16));
            let owns: Vec<_> = [1, 16, 17, 40, 5, 33, 2, 9, 30, 31, 18, 7, 3, 21].map(&mut span).into();
            let opening = span(50);
            let mut places = Vec::new(); // prefix, own, positions of its own that count
            for (i, own) in owns.iter().enumerate() {
                places.push((if i < 9 { &long } else { &short }, own, own.0.len()));
            }
            places.extend([16, 17, 18].map(|seen| (&short, &owns[13], seen))); // drafts
            places.extend((28..50).map(|seen| (&nothing, &opening, seen)));
            let mut rows = Vec::new();
            for (prefix, own, seen) in &places {
                let position = prefix.0.len() + seen - 1;
                rows.push(Row { token: 0, position, prefix: &prefix.0, own: &own.0 });
            }
            let qkv: Vec<f32> = (0..rows.len() * (dim + 2 * kv_dim)).map(value).collect();
            let (mut scratch, mut out) = (Scratch::default(), Vec::new());
            let picked: Vec<usize> = (0..rows.len()).filter(|i| i % 11 != 10).collect();
            let these = Picked::These(&picked);
            attention(&qkv, &rows, these, &cache.layers()[0], &config, &mut scratch, &mut out, Threads::All);
            for (i, out) in picked.iter().zip(out.chunks_exact(dim)) {
                for (head, out) in out.chunks_exact(head_dim).enumerate() {
                    let query = &qkv[i * (dim + 2 * kv_dim) + head * head_dim..][..head_dim];
                    let part = head / (heads / kv_heads) * head_dim;
                    let cut = |of: usize, i: usize| numbers(of, i)[part..part + head_dim].to_vec();
                    let (prefix, own, seen) = places[*i];
                    let spans = [(prefix.1, prefix.0.len()), (own.1, seen)];
                    let positions = spans.into_iter().flat_map(|(of, len)| (0..len).map(move |i| (of, i)));
                    let seen: Vec<_> = positions.map(|(of, i)| (cut(of, i), cut(of + 1, i), i % BLOCK)).collect();
                    let expected = by_definition(query, &seen);
                    assert!(out == expected, "row {i}, head {head} of {heads}: {out:?}, not {expected:?}");
                }
            }
        }
    }
}
