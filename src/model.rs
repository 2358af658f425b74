//! The multi-token-prediction LLaMA.
//!
//! A *row* is one token of one sequence at one position. Prompts and completions are rows alike, and a row's result
//! does not depend on the rows beside it: matrix products add up every element in one order of its own, and all
//! else works row by row in a fixed order. The sampler's rule "one row, one result" stands on this.

mod attention;
mod block;
mod cache;
mod config;
pub mod device;
mod kernel;
mod math;
mod weights;

use std::ops::Range;

use thiserror::Error;

use crate::checkpoint::{Checkpoint, CheckpointError};
use block::{Block, Rotary};
pub use cache::{Cache, Span};
pub use config::{CONFIG_FILES, Config, ConfigError, RopeScaling, find_folder};
use kernel::Matrix;
pub use kernel::Threads;
pub(crate) use kernel::vectorised;
pub(crate) use math::exp;
use weights::{Stored, Weights};

/// The most rows of one call: what the workspace of a step is planned for. Longer prompts go in pieces.
pub const MAX_ROWS: usize = 128;
/// Rows that fill the widest registers.
pub const FULL: usize = kernel::MOST;

/// What arithmetic a sample depends on beside the weights; records keep it.
#[cfg(target_arch = "x86_64")]
pub const DEVICE: &str = "cpu-x86_64";
#[allow(missing_docs)] // the same constant, elsewhere
#[cfg(target_arch = "aarch64")]
pub const DEVICE: &str = "cpu-aarch64";
#[allow(missing_docs)]
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const DEVICE: &str = "cpu-other";
/// Type of activations and cache, to which weights are widened.
pub const DTYPE: &str = "f32";

/// Why a model could not be loaded or run.
#[derive(Debug, Error)]
pub enum ModelError {
    /// A tensor is missing, misshapen or unreadable.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The weights hold a value that is not finite.
    #[error("tensor `{0}` of the checkpoint holds a value that is not finite")]
    NotFinite(String),
    /// The device has no room.
    #[error("the device has no room left: use a smaller --batch")]
    OutOfMemory,
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
    /// A token id outside the vocabulary: tokenizer and model do not belong together.
    #[error("token {token} is outside the model's vocabulary of {vocab_size}: the tokenizer belongs to another model")]
    Token {
        /// The id.
        token: u32,
        /// Rows of the embedding.
        vocab_size: usize,
    },
}

impl From<candle_core::Error> for ModelError {
    fn from(error: candle_core::Error) -> ModelError {
        // A backtrace may follow.
        let text = error.to_string().lines().next().unwrap_or_default().to_owned();
        match text.contains("OUT_OF_MEMORY") || text.contains("out of memory") {
            true => ModelError::OutOfMemory,
            false => ModelError::Device(text),
        }
    }
}

/// How many of a model's heads are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// Head 0: enough to sample token by token.
    Next,
    /// All of them.
    All,
}

impl Heads {
    /// How many of the model's blocks that takes.
    fn blocks(self, config: &Config) -> usize {
        match self {
            Heads::Next => config.trunk_len() + 1,
            Heads::All => config.n_layers,
        }
    }
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

/// Which rows' results are wanted; keys and values of all rows are kept.
#[derive(Clone, Copy)]
pub enum Picked<'a> {
    /// Every row's.
    All,
    /// Those of these rows, in rising order.
    These(&'a [usize]),
}

impl Picked<'_> {
    fn len(self, rows: usize) -> usize {
        match self {
            Picked::All => rows,
            Picked::These(picked) => picked.len(),
        }
    }

    fn row(self, i: usize) -> usize {
        match self {
            Picked::All => i,
            Picked::These(picked) => picked[i],
        }
    }
}

/// Weights of one model on the CPU, each matrix in a type that loses no bit of it. Products are computed in f32.
pub struct Model {
    config: Config,
    embeddings: Matrix,     // (vocab, dim)
    blocks: Vec<Block>,     // trunk, head 0, extra heads
    norm: Vec<f32>,         // (dim)
    output: Option<Matrix>, // (vocab, dim), unless the embeddings are it
    rotary: Rotary,
}

/// What a step computes in: kept from step to step, so that none allocates.
pub struct Workspace {
    trunk: Vec<f32>,  // (rows, dim): what all heads read
    hidden: Vec<f32>, // (heads, picked, dim): what they made of it
    desk: Desk,
    logits: Vec<f32>, // (heads · picked, vocab)
    threads: Threads,
}

/// What one block after the other computes in.
#[derive(Default)]
struct Desk {
    x: Vec<f32>,      // (rows, dim): the residual stream
    normed: Vec<f32>, // (rows, dim)
    wide: Vec<f32>,   // (rows, dim + 2 kv_dim) or (rows, 2 hidden)
    narrow: Vec<f32>, // (rows, dim) or (rows, hidden)
    scratch: attention::Scratch,
}

impl Model {
    /// Loads a checkpoint whose names and shapes are those of `config`.
    ///
    /// # Errors
    /// A tensor is missing, unexpected, misshapen, or holds a value that is not finite.
    pub fn load(checkpoint: &Checkpoint, config: Config, heads: Heads) -> Result<Model, ModelError> {
        Model::load_with_progress(checkpoint, config, heads, &mut |_, _| {})
    }

    /// As [`load`](Self::load). `progress` is told bytes of weights that are in place, and all bytes.
    ///
    /// # Errors
    /// As `load`.
    pub fn load_with_progress(
        checkpoint: &Checkpoint,
        config: Config,
        heads: Heads,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Model, ModelError> {
        let tensors = config.tensors();
        checkpoint.expect(&tensors)?;
        let left_out = &config.blocks()[heads.blocks(&config)..];
        let is_left_out = |name: &str| {
            let of_block = left_out.iter().any(|block| name.starts_with(&format!("{block}.")));
            of_block || config.tied_output && name == "output.weight"
        };
        let loaded = tensors.iter().filter(|(name, _)| !is_left_out(name));
        let bytes =
            loaded.map(|(name, shape)| shape.iter().product::<usize>() * checkpoint.exact_dtype(name).size_in_bytes());
        let all = bytes.sum::<usize>() as u64;
        Model::build(config, heads, &mut Stored { checkpoint, progress, done: 0, all })
    }

    /// A model with weights drawn from `seed`: for benchmarks and tests. Norms are one; other weights are uniform with
    /// variance 1 / width, so that activations keep their size.
    ///
    /// # Errors
    /// None that can happen; the type is that of [`load`](Self::load).
    pub fn random(config: Config, heads: Heads, seed: u64) -> Result<Model, ModelError> {
        let shapes: std::collections::HashMap<String, Vec<usize>> = config.tensors().into_iter().collect();
        Model::build(config, heads, &mut |name: &str| {
            Ok(random_values(name, shapes.get(name).map_or(&[], Vec::as_slice), seed))
        })
    }

    fn build(config: Config, heads: Heads, weights: &mut impl Weights) -> Result<Model, ModelError> {
        let names = config.blocks();
        let blocks = names.iter().take(heads.blocks(&config)).map(|name| Block::load(&config, name, weights));
        let blocks = blocks.collect::<Result<_, _>>()?;
        let mut matrix = |name: &str| weights.matrix(&[(name.to_owned(), config.vocab_size)], config.dim);
        let output = if config.tied_output { None } else { Some(matrix("output.weight")?) };
        Ok(Model {
            blocks,
            embeddings: matrix("tok_embeddings.weight")?,
            norm: weights.values("norm.weight")?,
            output,
            rotary: Rotary::new(&config),
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

    /// Whether the weights stay in a processor's cache.
    pub fn stays_in_cache(&self) -> bool {
        self.bytes() <= 16 << 20
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        let matrices = std::iter::once(&self.embeddings).chain(&self.output).map(Matrix::bytes);
        size_of_val(&self.norm[..]) + matrices.chain(self.blocks.iter().map(Block::bytes)).sum::<usize>()
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> Cache {
        Cache::new(self.blocks.len(), self.config.n_kv_heads, self.config.head_dim())
    }

    /// A workspace for this model.
    pub fn workspace(&self, threads: Threads) -> Workspace {
        let empty = Vec::new;
        Workspace { trunk: empty(), hidden: empty(), desk: Desk::default(), logits: empty(), threads }
    }

    /// Bytes that a workspace has after a step of `rows` rows, `picked` of them with logits.
    pub fn workspace_bytes(&self, rows: usize, picked: usize) -> usize {
        let &Config { dim, hidden_dim, vocab_size, .. } = &self.config;
        let wide = (2 * hidden_dim).max(dim + 2 * self.config.kv_dim());
        (rows * (4 * dim + wide + hidden_dim.max(dim)) + picked * (dim + vocab_size)) * size_of::<f32>()
    }

    /// Embeds the rows' tokens and runs the blocks below the heads; the heads read the result in `work`. Keys and
    /// values of the rows go into the cache.
    ///
    /// # Errors
    /// A token is outside the vocabulary.
    pub fn trunk(&self, rows: &[Row], cache: &mut Cache, work: &mut Workspace) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        let Workspace { trunk, desk, threads, .. } = work;
        desk.x.clear();
        for &Row { token, .. } in rows {
            if token as usize >= vocab_size {
                return Err(ModelError::Token { token, vocab_size });
            }
            self.embeddings.row(token as usize, &mut desk.x);
        }
        for (block, layer) in self.blocks.iter().zip(cache.layers()).take(self.config.trunk_len()) {
            block.forward(rows, Picked::All, layer, &self.config, &self.rotary, desk, *threads);
        }
        std::mem::swap(&mut desk.x, trunk);
        Ok(())
    }

    /// Runs some heads, one after the other, over `rows`, of which the i-th is row `from[i]` of the last
    /// [`trunk`](Self::trunk), and leaves the hidden states of the picked ones in `work`.
    pub fn run_heads(
        &self,
        heads: Range<usize>,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut Cache,
        work: &mut Workspace,
    ) {
        let dim = self.config.dim;
        let Workspace { trunk, hidden, desk, threads, .. } = work;
        hidden.clear();
        for head in heads {
            desk.x.clear();
            for i in 0..rows.len() {
                desk.x.extend_from_slice(&trunk[from.row(i) * dim..][..dim]);
            }
            let at = self.config.trunk_len() + head;
            let layer = &mut cache.layers()[at];
            self.blocks[at].forward(rows, picked, layer, &self.config, &self.rotary, desk, *threads);
            hidden.extend_from_slice(&desk.x);
        }
    }

    /// Logits of the hidden states that the last [`run_heads`](Self::run_heads) left: (heads · picked, vocab).
    pub fn logits<'w>(&self, work: &'w mut Workspace) -> &'w [f32] {
        math::rms_norm(&work.hidden, &self.norm, self.config.norm_eps, &mut work.desk.normed);
        self.output.as_ref().unwrap_or(&self.embeddings).multiply(&work.desk.normed, &mut work.logits, work.threads);
        &work.logits
    }

    /// Every loaded head's logits of every position of one sequence: (heads, positions, vocab).
    ///
    /// # Errors
    /// A token is outside the vocabulary.
    pub fn all_logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut cache = self.cache();
        let mut work = self.workspace(Threads::All);
        let (prefix, mut own) = (Span::default(), Span::default());
        cache.grow(&mut own, ids.len());
        let mut logits = vec![Vec::new(); self.heads()];
        for (piece, tokens) in ids.chunks(MAX_ROWS).enumerate() {
            let rows: Vec<Row> = tokens
                .iter()
                .enumerate()
                .map(|(i, &token)| Row { token, position: piece * MAX_ROWS + i, prefix: &prefix, own: &own })
                .collect();
            self.trunk(&rows, &mut cache, &mut work)?;
            self.run_heads(0..self.heads(), &rows, Picked::All, Picked::All, &mut cache, &mut work);
            let size = rows.len() * self.config.vocab_size;
            for (all, piece) in logits.iter_mut().zip(self.logits(&mut work).chunks_exact(size)) {
                all.extend_from_slice(piece);
            }
        }
        Ok(logits)
    }
}

/// Values of the tensor `name` of a random model: ones for a vector, else uniform with variance 1 / width.
fn random_values(name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
    let count = shape.iter().product();
    let &[_, width] = shape else { return vec![1.0; count] };
    let mut stream = blake3::Hasher::new().update(&seed.to_le_bytes()).update(name.as_bytes()).finalize_xof();
    let mut bytes = vec![0u8; 4 * count];
    stream.fill(&mut bytes);
    let scale = (3.0 / width as f32).sqrt();
    let uniform = |b: &[u8; 4]| u32::from_le_bytes(*b) as f32 / (1u64 << 31) as f32 - 1.0;
    bytes.as_chunks::<4>().0.iter().map(|bytes| scale * uniform(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Whatever a checkpoint is stored in, its logits are those of the same weights widened before: bit for bit.
    #[test]
    fn narrow_weights_change_no_bit() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoints");
        let ids = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2];
        let check = |checkpoint: &mut Checkpoint, config: Config| {
            checkpoint.fit(config.head_dim(), config.tied_output);
            let wide =
                Model::build(config.clone(), Heads::All, &mut |name: &str| Ok(checkpoint.read_f32(name)?)).unwrap();
            let kept = Model::load(checkpoint, config, Heads::All).unwrap();
            let bits = |model: &Model| {
                let logits = model.all_logits(&ids).unwrap().concat();
                logits.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert_eq!(bits(&kept), bits(&wide), "{}", checkpoint.path.display());
            kept.bytes() < wide.bytes()
        };
        let variants = folder.join("variants");
        let config = || Config::from_folder(&variants.join("base")).unwrap();
        for name in ["bf16.pt", "bf16.safetensors", "f16.pt", "f8.pt"] {
            assert!(check(&mut Checkpoint::open(&variants.join(name)).unwrap(), config()), "{name} is kept in f32");
        }
        let mut changed = Checkpoint::open(&variants.join("lora.pt")).unwrap();
        changed.merge_onto(Checkpoint::open(&variants.join("bf16.pt")).unwrap());
        assert!(check(&mut changed, config()));
        for name in ["llama3", "tied"] {
            let folder = folder.join("hf").join(name);
            check(&mut Checkpoint::open(&folder).unwrap(), Config::from_folder(&folder).unwrap());
        }
    }
}
