//! The multi-token-prediction LLaMA, and the only door to candle.
//!
//! A *row* is one token of one sequence at one position. Prompts and completions are rows alike, and a row's result
//! does not depend on the rows beside it: matrix products are padded to where that holds, and all
//! else works row by row in a fixed order. The sampler's rule "one row, one result" stands on this.

mod block;
mod cache;
mod config;
mod math;

use candle_core::{CpuStorage, Device, Storage, Tensor};
use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use block::{Block, Rotary};
pub use cache::{Cache, Span};
pub use config::{CONFIG_FILES, Config, ConfigError, RopeScaling, find_folder};
pub(crate) use math::exp;

/// The fewest rows of a matrix product with `out` columns.
///
/// candle's `gemm` adds up in another order where there is one row, and where the product is small: at most 16 × 16
/// elements, or 64 × 64 with long sums. Beyond that every row's result is the same to the bit whatever stands beside it.
fn min_rows(out: usize) -> usize {
    if out > 64 { 4 } else { (16 * 16 / out + 1).max(65) }
}

/// The most rows of one product, up to which that was measured. Longer prompts go in pieces.
pub const MAX_ROWS: usize = 128;

/// What arithmetic a sample depends on beside the weights; records keep it.
#[cfg(target_arch = "x86_64")]
pub const DEVICE: &str = "cpu-x86_64";
#[allow(missing_docs)] // the same constant, elsewhere
#[cfg(target_arch = "aarch64")]
pub const DEVICE: &str = "cpu-aarch64";
#[allow(missing_docs)]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const DEVICE: &str = "cpu-other";
/// Type of weights, activations and cache.
pub const DTYPE: &str = "f32";

/// Why a model could not be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A tensor is missing, misshapen or unreadable.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// candle failed.
    #[error("failed to compute: {0}")]
    Candle(#[from] candle_core::Error),
    /// The weights hold a value that is not finite.
    #[error("tensor `{0}` of the checkpoint holds a value that is not finite")]
    NotFinite(String),
    /// A token id outside the vocabulary: tokenizer and model do not belong together.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}: the tokenizer belongs to another model")]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}

/// How many of a model's heads are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// Head 0: enough to sample token by token.
    Next,
    /// All of them.
    All,
}

/// Where one token stands: its sequence is `prefix` (shared by the samples of a prompt) and then `own`.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The token.
    pub token: u32,
    /// Its position; keys and values of all earlier ones are in the cache, or are rows of the same call.
    pub position: usize,
    /// The prompt's positions, when `own` is a completion.
    pub prefix: &'a Span,
    /// The positions after the prefix; the row's own must be among them.
    pub own: &'a Span,
}

/// Weights of one model, in f32 on the CPU.
pub struct Model {
    config: Config,
    embeddings: Vec<f32>, // (vocab, dim)
    blocks: Vec<Block>,   // trunk, head 0, extra heads
    norm: Vec<f32>,       // (dim)
    output: Tensor,       // (vocab, dim)
    rotary: Rotary,
}

impl Model {
    /// Loads a checkpoint whose names and shapes are those of `config`.
    ///
    /// # Errors
    /// A tensor is missing, unexpected, misshapen, or holds a value that is not finite.
    pub fn load(checkpoint: &Checkpoint, config: Config, heads: Heads) -> Result<Model, ModelError> {
        checkpoint.expect(&config.tensors())?;
        let read = |name: &str| -> Result<Vec<f32>, ModelError> {
            let values = checkpoint.read_f32(name)?;
            match values.iter().all(|v| v.is_finite()) {
                true => Ok(values),
                false => Err(ModelError::NotFinite(name.to_owned())),
            }
        };
        let wanted = match heads {
            Heads::Next => config.trunk_len() + 1,
            Heads::All => config.n_layers,
        };
        let blocks = config
            .blocks()
            .iter()
            .take(wanted)
            .map(|name| Block::load(&config, name, &read))
            .collect::<Result<_, _>>()?;
        Ok(Model {
            embeddings: read("tok_embeddings.weight")?,
            norm: read("norm.weight")?,
            output: matrix(read("output.weight")?, config.vocab_size, config.dim)?,
            rotary: Rotary::new(&config),
            blocks,
            config,
        })
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Heads that were loaded.
    pub fn heads(&self) -> usize {
        self.blocks.len() - self.config.trunk_len()
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> Cache {
        Cache::new(self.blocks.len(), self.config.kv_dim())
    }

    /// Runs rows through trunk and head 0, writes their keys and values into the cache, and returns head 0's hidden
    /// state of each: (rows, dim). At most [`MAX_ROWS`] rows.
    pub fn forward(&self, rows: &[Row], cache: &mut Cache) -> Result<Vec<f32>, ModelError> {
        let trunk = self.trunk(rows, cache)?;
        self.head(0, rows, trunk, cache)
    }

    /// Logits of each hidden state: (rows, dim) → (rows, vocab).
    pub fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>, ModelError> {
        let normed = math::rms_norm(hidden, &self.norm, self.config.norm_eps);
        linear(normed, &self.output)
    }

    /// Every loaded head's logits of every position of one sequence: (heads, positions, vocab).
    pub fn all_logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut cache = self.cache();
        let (prefix, mut own) = (Span::default(), Span::default());
        cache.grow(&mut own, ids.len());
        let mut logits = vec![Vec::new(); self.heads()];
        for (piece, tokens) in ids.chunks(MAX_ROWS).enumerate() {
            let rows: Vec<Row> = tokens
                .iter()
                .enumerate()
                .map(|(i, &token)| Row { token, position: piece * MAX_ROWS + i, prefix: &prefix, own: &own })
                .collect();
            let trunk = self.trunk(&rows, &mut cache)?;
            for (head, logits) in logits.iter_mut().enumerate() {
                let hidden = self.head(head, &rows, trunk.clone(), &mut cache)?;
                logits.extend(self.logits(&hidden)?);
            }
        }
        Ok(logits)
    }

    /// Embeds the rows' tokens and runs the blocks below the heads: (rows, dim).
    fn trunk(&self, rows: &[Row], cache: &mut Cache) -> Result<Vec<f32>, ModelError> {
        let &Config { dim, vocab_size, .. } = &self.config;
        let mut x = Vec::with_capacity(rows.len() * dim);
        for &Row { token, .. } in rows {
            let at = token as usize * dim;
            let embedding = self.embeddings.get(at..at + dim).ok_or(ModelError::Token { token, vocab_size })?;
            x.extend_from_slice(embedding);
        }
        for layer in 0..self.config.trunk_len() {
            x = self.blocks[layer].forward(x, rows, layer, cache, &self.config, &self.rotary)?;
        }
        Ok(x)
    }

    /// Runs head `head` on the trunk's output: (rows, dim) → (rows, dim).
    fn head(&self, head: usize, rows: &[Row], trunk: Vec<f32>, cache: &mut Cache) -> Result<Vec<f32>, ModelError> {
        let layer = self.config.trunk_len() + head;
        self.blocks[layer].forward(trunk, rows, layer, cache, &self.config, &self.rotary)
    }
}

/// A weight (out, in) as candle holds it.
fn matrix(values: Vec<f32>, out: usize, width: usize) -> Result<Tensor, ModelError> {
    Ok(Tensor::from_vec(values, (out, width), &Device::Cpu)?)
}

/// x Wᵀ: (rows, in) and (out, in) → (rows, out), with at least [`min_rows`] rows in the product.
fn linear(mut x: Vec<f32>, weight: &Tensor) -> Result<Vec<f32>, ModelError> {
    let (out, width) = weight.dims2()?;
    let rows = x.len() / width;
    let padded = rows.max(min_rows(out));
    x.resize(padded * width, 0.0);
    let x = Tensor::from_vec(x, (padded, width), &Device::Cpu)?;
    let mut y = into_vec(x.matmul(&weight.t()?)?)?;
    y.truncate(rows * out);
    Ok(y)
}

/// The numbers of a fresh contiguous CPU tensor, copied once.
fn into_vec(tensor: Tensor) -> Result<Vec<f32>, ModelError> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(values[start..end].to_vec()),
        _ => Ok(tensor.flatten_all()?.to_vec1()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The property of candle's matrix product that everything stands on, at widths like real ones.
    #[test]
    fn a_rows_product_does_not_depend_on_its_neighbours() {
        let value = |i: usize| ((i * 2_654_435_761) % 1_000_003) as f32 / 500_000.0 - 1.0;
        for (width, out) in [
            (8, 8),
            (32, 64),
            (88, 32),
            (64, 192),
            (600, 64),
            (128, 384),
            (128, 512),
            (352, 128),
            (768, 2304),
            (2048, 768),
        ] {
            let weight = matrix((0..out * width).map(value).collect(), out, width).unwrap();
            let x: Vec<f32> = (7..7 + MAX_ROWS * width).map(value).collect();
            let all = linear(x.clone(), &weight).unwrap();
            for rows in (1..=40).chain([64, 65, 100, 127]) {
                for start in [0, 1, 5, MAX_ROWS - rows] {
                    let start = start.min(MAX_ROWS - rows);
                    let some = linear(x[start * width..(start + rows) * width].to_vec(), &weight).unwrap();
                    assert_eq!(some, all[start * out..(start + rows) * out], "{rows} rows at {start}, {width}→{out}");
                }
            }
        }
    }
}
