//! One pre-norm LLaMA block: attention, then SwiGLU, each added to the residual stream.

use candle_core::Tensor;
use rayon::prelude::*;

use super::cache::Cache;
use super::config::Config;
use super::math::{dot, exp, rms_norm};
use super::{ModelError, Row, linear, matrix};

/// Weights of one block; the projections of one input are fused into one matrix.
pub(super) struct Block {
    attention_norm: Vec<f32>, // (dim)
    qkv: Tensor,              // (dim + 2 kv_dim, dim)
    out: Tensor,              // (dim, dim)
    ffn_norm: Vec<f32>,       // (dim)
    gate_up: Tensor,          // (2 hidden, dim)
    down: Tensor,             // (dim, hidden)
}

impl Block {
    /// Reads the block called `name`, e.g. `layers.0`.
    pub(super) fn load(
        config: &Config,
        name: &str,
        read: &impl Fn(&str) -> Result<Vec<f32>, ModelError>,
    ) -> Result<Block, ModelError> {
        let part = |part: &str| read(&format!("{name}.{part}.weight"));
        let fuse = |parts: &[&str]| -> Result<Vec<f32>, ModelError> {
            parts.iter().try_fold(Vec::new(), |mut fused, name| {
                fused.extend(part(name)?);
                Ok(fused)
            })
        };
        let &Config { dim, hidden_dim, .. } = config;
        Ok(Block {
            attention_norm: part("attention_norm")?,
            qkv: matrix(fuse(&["attention.wq", "attention.wk", "attention.wv"])?, dim + 2 * config.kv_dim(), dim)?,
            out: matrix(part("attention.wo")?, dim, dim)?,
            ffn_norm: part("ffn_norm")?,
            gate_up: matrix(fuse(&["feed_forward.w1", "feed_forward.w3"])?, 2 * hidden_dim, dim)?,
            down: matrix(part("feed_forward.w2")?, dim, hidden_dim)?,
        })
    }

    /// (rows, dim) → (rows, dim). Keys and values of the rows go into `layer` of the cache.
    pub(super) fn forward(
        &self,
        x: Vec<f32>,
        rows: &[Row],
        layer: usize,
        cache: &mut Cache,
        config: &Config,
        rotary: &Rotary,
    ) -> Result<Vec<f32>, ModelError> {
        let normed = rms_norm(&x, &self.attention_norm, config.norm_eps);
        let mut qkv = linear(normed, &self.qkv)?; // (rows, dim + 2 kv_dim)
        for (row, qkv) in rows.iter().zip(qkv.chunks_exact_mut(config.dim + 2 * config.kv_dim())) {
            let (qk, value) = qkv.split_at_mut(config.dim + config.kv_dim());
            rotary.apply(row.position, qk);
            cache.write(layer, row.own, row.position - row.prefix.len(), &qk[config.dim..], value);
        }
        let attended = attention(&qkv, rows, layer, cache, config); // (rows, dim)
        let x = add(x, linear(attended, &self.out)?);

        let normed = rms_norm(&x, &self.ffn_norm, config.norm_eps);
        let gate_up = linear(normed, &self.gate_up)?; // (rows, 2 hidden)
        let hidden = swiglu(&gate_up, config.hidden_dim); // (rows, hidden)
        Ok(add(x, linear(hidden, &self.down)?))
    }
}

fn add(mut x: Vec<f32>, y: Vec<f32>) -> Vec<f32> {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
    x
}

/// silu(gate) · up: (rows, 2 hidden) → (rows, hidden).
fn swiglu(gate_up: &[f32], hidden_dim: usize) -> Vec<f32> {
    gate_up
        .par_chunks_exact(2 * hidden_dim)
        .flat_map_iter(|row| {
            let (gate, up) = row.split_at(hidden_dim);
            gate.iter().zip(up).map(|(&g, &u)| g / (1.0 + exp(-g)) * u)
        })
        .collect()
}

/// Causal attention of each row over its sequence, one (row, head) at a time: (rows, dim).
///
/// 1. scores: q · k / √head_dim over the prefix, then over the row's own positions up to itself
/// 2. softmax, shifted by the largest score
/// 3. the sum of the values so weighted
///
/// Keys are walked in the order of positions whether they came by prompt or by decoding, so that a row's sums are
/// always added in the same order.
fn attention(qkv: &[f32], rows: &[Row], layer: usize, cache: &Cache, config: &Config) -> Vec<f32> {
    let (dim, head_dim, kv_dim) = (config.dim, config.head_dim(), config.kv_dim());
    let group = config.n_heads / config.n_kv_heads;
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut out = vec![0f32; rows.len() * dim];
    out.par_chunks_exact_mut(head_dim).enumerate().for_each_init(Vec::new, |scores, (i, out)| {
        let (row, head) = (&rows[i / config.n_heads], i % config.n_heads);
        let query = &qkv[i / config.n_heads * (dim + 2 * kv_dim) + head * head_dim..][..head_dim];
        let columns = head / group * head_dim..(head / group + 1) * head_dim;
        let runs = cache.runs(layer, row.prefix, row.prefix.len()).chain(cache.runs(
            layer,
            row.own,
            row.position + 1 - row.prefix.len(),
        ));

        scores.clear();
        for (keys, _) in runs.clone() {
            scores.extend(keys.chunks_exact(kv_dim).map(|key| dot(query, &key[columns.clone()]) * scale));
        }
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut total = 0.0;
        for score in scores.iter_mut() {
            *score = exp(*score - largest);
            total += *score;
        }
        let mut weights = scores.iter();
        for (_, values) in runs {
            for (value, weight) in values.chunks_exact(kv_dim).zip(&mut weights) {
                for (out, v) in out.iter_mut().zip(&value[columns.clone()]) {
                    *out += weight * v;
                }
            }
        }
        out.iter_mut().for_each(|v| *v /= total);
    });
    out
}

/// Rotary position embedding on interleaved pairs (2i, 2i+1) (Su et al. 2021, arXiv 2104.09864, eq. 34).
pub(super) struct Rotary {
    head_dim: usize,
    table: Vec<(f32, f32)>, // (max_seq_len, head_dim / 2): cos and sin
}

impl Rotary {
    pub(super) fn new(config: &Config) -> Rotary {
        let head_dim = config.head_dim();
        let mut table = Vec::with_capacity(config.max_seq_len * head_dim / 2);
        let frequencies = config.rotary_frequencies();
        for position in 0..config.max_seq_len {
            for frequency in &frequencies {
                let angle = position as f32 * frequency;
                table.push((libm::cosf(angle), libm::sinf(angle)));
            }
        }
        Rotary { head_dim, table }
    }

    /// Turns every head of `heads`, (heads, head_dim), to `position`.
    fn apply(&self, position: usize, heads: &mut [f32]) {
        let pairs = self.head_dim / 2;
        let turns = &self.table[position * pairs..(position + 1) * pairs];
        for head in heads.chunks_exact_mut(self.head_dim) {
            for (pair, (cos, sin)) in head.chunks_exact_mut(2).zip(turns) {
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
        }
    }
}
