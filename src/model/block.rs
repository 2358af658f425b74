//! One pre-norm LLaMA block: attention, then SwiGLU, each added to the residual stream.

use rayon::prelude::*;

use super::attention::attention;
use super::cache::Layer;
use super::config::Config;
use super::kernel::{Matrix, Threads};
use super::math::{rms_norm, swiglu};
use super::weights::Weights;
use super::{Desk, ModelError, Picked, Row};

/// Weights of one block; the projections of one input are fused into one matrix.
pub(super) struct Block {
    attention_norm: Vec<f32>, // (dim)
    qkv: Matrix,              // (dim + 2 kv_dim, dim)
    out: Matrix,              // (dim, dim)
    ffn_norm: Vec<f32>,       // (dim)
    gate_up: Matrix,          // (2 hidden, dim)
    down: Matrix,             // (dim, hidden)
}

impl Block {
    /// Reads the block called `name`, e.g. `layers.0`.
    pub(super) fn load<W: Weights>(config: &Config, name: &str, weights: &mut W) -> Result<Block, ModelError> {
        let whole = |part: &str| format!("{name}.{part}.weight");
        let mut fuse = |parts: &[(&str, usize)], width: usize| {
            let parts: Vec<_> = parts.iter().map(|(part, out)| (whole(part), *out)).collect();
            weights.matrix(&parts, width)
        };
        let &Config { dim, hidden_dim, .. } = config;
        let kv_dim = config.kv_dim();
        let qkv = fuse(&[("attention.wq", dim), ("attention.wk", kv_dim), ("attention.wv", kv_dim)], dim)?;
        let out = fuse(&[("attention.wo", dim)], dim)?;
        let gate_up = fuse(&[("feed_forward.w1", hidden_dim), ("feed_forward.w3", hidden_dim)], dim)?;
        let down = fuse(&[("feed_forward.w2", dim)], hidden_dim)?;
        let attention_norm = weights.values(&whole("attention_norm"))?;
        let ffn_norm = weights.values(&whole("ffn_norm"))?;
        Ok(Block { attention_norm, qkv, out, ffn_norm, gate_up, down })
    }

    /// Bytes of its weights.
    pub(super) fn bytes(&self) -> usize {
        self.qkv.bytes() + self.out.bytes() + self.gate_up.bytes() + self.down.bytes()
    }

    /// `desk.x`: (rows, dim) → (picked, dim). Keys and values of all rows go into `layer`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn forward(
        &self,
        rows: &[Row],
        picked: Picked,
        layer: &mut Layer,
        config: &Config,
        rotary: &Rotary,
        desk: &mut Desk,
        threads: Threads,
    ) {
        let &Config { dim, hidden_dim, norm_eps, .. } = config;
        let Desk { x, normed, wide, narrow, scratch, .. } = desk;
        rms_norm(x, &self.attention_norm, norm_eps, normed);
        self.qkv.multiply(normed, wide, threads); // (rows, dim + 2 kv_dim)
        for (row, qkv) in rows.iter().zip(wide.chunks_exact_mut(dim + 2 * config.kv_dim())) {
            let (qk, value) = qkv.split_at_mut(dim + config.kv_dim());
            rotary.apply(row.position, qk);
            layer.write(row.own, row.position - row.prefix.len(), &qk[dim..], value);
        }
        if let Picked::These(picked) = picked {
            for (to, &from) in picked.iter().enumerate() {
                x.copy_within(from * dim..(from + 1) * dim, to * dim);
            }
            x.truncate(picked.len() * dim);
        }
        if x.is_empty() {
            return;
        }
        attention(wide, rows, picked, layer, config, scratch, narrow, threads); // (picked, dim)
        self.out.multiply(narrow, normed, threads);
        add(x, normed);

        rms_norm(x, &self.ffn_norm, norm_eps, normed);
        self.gate_up.multiply(normed, wide, threads); // (picked, 2 hidden)
        narrow.resize(wide.len() / 2, 0.0); // (picked, hidden)
        let halves = |(out, both): (&mut [f32], &[f32])| swiglu(both, out);
        match threads == Threads::All && wide.len() > 1 << 16 {
            true => narrow.par_chunks_exact_mut(hidden_dim).zip(wide.par_chunks_exact(2 * hidden_dim)).for_each(halves),
            false => narrow.chunks_exact_mut(hidden_dim).zip(wide.chunks_exact(2 * hidden_dim)).for_each(halves),
        }
        self.down.multiply(narrow, normed, threads);
        add(x, normed);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Rotary position embedding on interleaved pairs (2i, 2i+1) (Su et al. 2021, arXiv 2104.09864, eq. 34).
pub(super) struct Rotary {
    head_dim: usize,
    table: Vec<(f32, f32)>, // (max_seq_len, head_dim / 2): cos and sin
}

/// Cosine and sine for every position and pair: (max_seq_len, head_dim / 2).
pub(super) fn turns(config: &Config) -> Vec<(f32, f32)> {
    let frequencies = config.rotary_frequencies();
    let mut table = Vec::with_capacity(config.max_seq_len * frequencies.len());
    for position in 0..config.max_seq_len {
        for frequency in &frequencies {
            let angle = position as f32 * frequency;
            table.push((libm::cosf(angle), libm::sinf(angle)));
        }
    }
    table
}

impl Rotary {
    pub(super) fn new(config: &Config) -> Rotary {
        Rotary { head_dim: config.head_dim(), table: turns(config) }
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
