//! The same model on candle's tensors: on a GPU, and, for the tests, on candle's CPU device. What a step does besides
//! matrix products is ours on NVIDIA's GPUs (`kernels.cu`), and composed of candle's operations elsewhere.
//!
//! Weights, cache and matrix products have the device's type (bf16, f16 or f32); the residual stream, norms, rotary
//! embedding, softmax and all sums are f32. One thread owns the device.
//!
//! A library's matrix product may take another way for another number of rows, and then its sums are added in another
//! order. So products are computed with a few row counts only, whose results were seen to be equal, bit for bit, for
//! this model's shapes on this device ([`Model::load`] tries them); a step is padded up to the next of them. On CUDA
//! steps of few rows are recorded and replayed.

mod cache;
mod composed;
mod counts;
mod cuda;
mod graphs;
#[cfg(feature = "cuda")]
mod launch;
mod load;
mod metal;
mod ops;
mod plan;

use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::cache::Span;
use super::config::Config;
use super::{Heads, ModelError, Picked, Row, random_values};
use crate::checkpoint::Checkpoint;
pub use cache::Cache;
use counts::{Counts, MAX_ROWS};
pub use cuda::{BUILT, Dtype, count, kind, open};
pub use graphs::Replays;
use graphs::{Graphs, Made, Recorder, Replaying, Segment};
pub use metal::{METAL, METAL_BUILT, open_metal};
use ops::{BLOCK, Given, Inputs, Ops, Plan, Way, multiply};
use plan::plan;

/// Weights of one model on a device.
pub struct Model {
    config: Config,
    device: Device,
    dtype: DType,
    embeddings: Tensor, // (vocab, dim)
    blocks: Vec<Block>, // trunk, head 0, extra heads
    norm: Tensor,       // (dim), f32
    output: Tensor,     // (vocab, dim)
    ops: Ops,
    counts: Counts,
    bytes: usize,
    replays: Replaying,
}

struct Block {
    attention_norm: Tensor, // (dim), f32
    qkv: Tensor,            // (dim + 2 kv_dim, dim)
    out: Tensor,            // (dim, dim)
    ffn_norm: Tensor,       // (dim), f32
    gate_up: Tensor,        // (2 hidden, dim)
    down: Tensor,           // (dim, hidden)
}

/// What the last step left on the device.
#[derive(Default)]
pub struct Workspace {
    trunk: Option<Tensor>, // (rows, dim), f32, with padding at the end
    x: Option<Tensor>,     // (picked, dim), f32
    graphs: Option<Graphs>,
}

/// A draw from row `row` of logits: the key of its noise, and the position.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The row.
    pub row: usize,
    /// The key of the sample's noise.
    pub key: [u32; 2],
    /// The position of the token that is drawn.
    pub position: usize,
}

/// Logits on the device: (rows, vocab).
#[derive(Clone)]
pub struct Logits(Tensor);

impl Model {
    /// Loads a checkpoint whose names and shapes are those of `config`, tensor by tensor, onto `device`.
    ///
    /// # Errors
    /// A tensor is missing, unexpected, misshapen, or holds a value that is not finite; the device fails or is full.
    pub fn load(
        checkpoint: &Checkpoint,
        config: Config,
        heads: Heads,
        device: Device,
        dtype: DType,
    ) -> Result<Model, ModelError> {
        checkpoint.expect(&config.tensors())?;
        Model::build(config, heads, device, dtype, &|name, shape, device| {
            load::weight(checkpoint, name, shape, dtype, device)
        })
    }

    /// The model of [`super::Model::random`].
    ///
    /// # Errors
    /// The device fails or is full.
    pub fn random(config: Config, heads: Heads, seed: u64, device: Device, dtype: DType) -> Result<Model, ModelError> {
        Model::build(config, heads, device, dtype, &|name, shape, device| {
            let values = random_values(name, shape, seed);
            let count = values.len();
            Ok(Tensor::from_vec(values, count, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)?)
        })
    }

    /// A model with weights drawn on the device, for a benchmark: norms are one, others normal with variance 1 / width.
    ///
    /// # Errors
    /// The device fails or is full.
    pub fn drawn(config: Config, heads: Heads, device: Device, dtype: DType) -> Result<Model, ModelError> {
        Model::build(config, heads, device, dtype, &|_, shape, device| {
            let count: usize = shape.iter().product();
            Ok(match shape {
                &[_, width] => Tensor::randn(0f32, (1.0 / width as f32).sqrt(), count, device)?.to_dtype(dtype)?,
                _ => Tensor::ones(count, dtype, device)?,
            })
        })
    }

    fn build(
        config: Config,
        heads: Heads,
        device: Device,
        dtype: DType,
        read: &impl Fn(&str, &[usize], &Device) -> Result<Tensor, ModelError>,
    ) -> Result<Model, ModelError> {
        let &Config { dim, hidden_dim, vocab_size, .. } = &config;
        let kv_dim = config.kv_dim();
        let vector = |name: &str| -> Result<Tensor, ModelError> {
            Ok(read(&format!("{name}.weight"), &[dim], &device)?.to_dtype(DType::F32)?)
        };
        let matrix = |parts: &[(&str, usize)], block: &str, width: usize| -> Result<Tensor, ModelError> {
            let parts = parts.iter().map(|(part, out)| {
                let name = format!("{block}{part}.weight");
                Ok(read(&name, &[*out, width], &device)?.reshape((*out, width))?)
            });
            join(parts.collect::<Result<_, ModelError>>()?)
        };
        let wanted = heads.blocks(&config);
        let mut blocks = Vec::with_capacity(wanted);
        for name in config.blocks().iter().take(wanted) {
            let block = format!("{name}.");
            blocks.push(Block {
                attention_norm: vector(&format!("{block}attention_norm"))?,
                qkv: matrix(&[("attention.wq", dim), ("attention.wk", kv_dim), ("attention.wv", kv_dim)], &block, dim)?,
                out: matrix(&[("attention.wo", dim)], &block, dim)?,
                ffn_norm: vector(&format!("{block}ffn_norm"))?,
                gate_up: matrix(&[("feed_forward.w1", hidden_dim), ("feed_forward.w3", hidden_dim)], &block, dim)?,
                down: matrix(&[("feed_forward.w2", dim)], &block, hidden_dim)?,
            });
        }
        let turns: Vec<f32> = super::block::turns(&config).into_iter().flat_map(|(cos, sin)| [cos, sin]).collect();
        let ops = Ops {
            way: Way::of(&device),
            dim,
            head_dim: config.head_dim(),
            eps: config.norm_eps,
            dtype,
            table: Tensor::from_vec(turns, (config.max_seq_len, config.head_dim() / 2, 2), &device)?,
            #[cfg(feature = "cuda")]
            kernels: match &device {
                Device::Cuda(cuda) => Some(launch::Kernels::compile(cuda, dtype, config.head_dim())?),
                _ => None,
            },
        };
        let embeddings = matrix(&[("tok_embeddings", vocab_size)], "", dim)?;
        let output = matrix(&[("output", vocab_size)], "", dim)?;
        let matrices = || {
            let of_blocks = blocks.iter().flat_map(|block| [&block.qkv, &block.out, &block.gate_up, &block.down]);
            of_blocks.chain([&embeddings, &output])
        };
        Ok(Model {
            bytes: matrices().map(|matrix| matrix.elem_count() * dtype.size_in_bytes()).sum(),
            counts: Counts::equal(matrices(), dtype, &device)?,
            norm: vector("norm")?,
            embeddings,
            output,
            blocks,
            ops,
            replays: Replaying::new(device.is_cuda()),
            device,
            dtype,
            config,
        })
    }

    /// The same model, computed by candle's own operations, as on devices that we have no kernels for.
    pub fn composed(mut self) -> Model {
        self.ops.way = Way::Composed;
        self
    }

    /// The same model, whose steps of few rows are replayed or not. They are on CUDA unless this says otherwise;
    /// elsewhere nothing can be recorded, and replaying is running again.
    pub fn replaying(mut self, on: bool) -> Model {
        self.replays = Replaying::new(on);
        self
    }

    /// What became of replaying.
    pub fn replays(&self) -> Replays {
        self.replays.so_far()
    }

    /// The model's shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Heads that were loaded.
    pub fn heads(&self) -> usize {
        self.blocks.len() - self.config.trunk_len()
    }

    /// Bytes of the weights.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that are free on the device, when it says so.
    pub fn free(&self) -> Option<usize> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(cuda) = &self.device {
            return cuda.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free);
        }
        None
    }

    /// The most rows of one step.
    pub fn max_rows(&self) -> usize {
        MAX_ROWS
    }

    /// Bytes that `positions` consecutive positions take in the cache.
    pub fn cache_bytes(&self, positions: usize) -> usize {
        positions.div_ceil(BLOCK) * BLOCK * 2 * self.config.kv_dim() * self.blocks.len() * self.dtype.size_in_bytes()
    }

    /// Bytes that a step of `rows` rows needs at once, `picked` of them with logits.
    pub fn workspace_bytes(&self, rows: usize, picked: usize) -> usize {
        let &Config { dim, hidden_dim, vocab_size, .. } = &self.config;
        let size = self.dtype.size_in_bytes();
        let of_rows = |rows: usize| rows * (8 * dim + size * (3 * dim + 2 * self.config.kv_dim() + 3 * hidden_dim));
        // Recordings take turns in memory of their own.
        let recorded = match self.replays.wanted() {
            true => of_rows(graphs::MOST_ROWS) + Graphs::bytes(dim, self.most_numbers()),
            false => 0,
        };
        of_rows(self.counts.padded(rows)) + self.counts.padded(picked) * vocab_size * size + recorded
    }

    /// A cache of `bytes`.
    ///
    /// # Errors
    /// The device is full.
    pub fn cache(&self, bytes: usize) -> Result<Cache, ModelError> {
        let blocks = bytes.div_ceil(self.cache_bytes(1));
        Cache::new(self.blocks.len(), blocks, self.config.kv_dim(), self.dtype, &self.device)
    }

    /// Embeds the rows' tokens and runs the blocks below the heads. Keys and values go into the cache.
    ///
    /// # Errors
    /// A token is outside the vocabulary; the device fails.
    pub fn trunk(&self, rows: &[Row], cache: &mut Cache, work: &mut Workspace) -> Result<(), ModelError> {
        let vocab_size = self.config.vocab_size;
        if let Some(&Row { token, .. }) = rows.iter().find(|row| row.token as usize >= vocab_size) {
            return Err(ModelError::Token { token, vocab_size });
        }
        cache.check()?;
        let mut parts = Vec::new();
        for rows in rows.chunks(self.max_rows()) {
            let (numbers, places) = plan(rows, Picked::All, &self.counts);
            let inputs =
                Inputs { ids: self.counts.pad(rows.iter().map(|row| row.token)), chosen: None, numbers, places };
            let segment = Segment::Trunk { rows: inputs.ids.len() };
            let step = |given: &Given| {
                let mut x = self.embeddings.index_select(&given.ids, 0)?.to_dtype(DType::F32)?;
                for layer in 0..self.config.trunk_len() {
                    x = self.forward(layer, x, given, cache)?;
                }
                Ok(x)
            };
            // Whatever pads a piece stands after its rows, and all pieces but the last are full.
            parts.push(self.run(Some(segment), inputs, cache, work, &step)?);
        }
        work.trunk = Some(join(parts)?);
        Ok(())
    }

    /// Runs some heads, one after the other, over `rows`, of which the i-th is row `from[i]` of the last
    /// [`trunk`](Self::trunk), and keeps the hidden states of the picked ones.
    ///
    /// # Errors
    /// The device fails.
    pub fn run_heads(
        &self,
        heads: Range<usize>,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut Cache,
        work: &mut Workspace,
    ) -> Result<(), ModelError> {
        let (several, mut parts) = (heads.len() > 1, Vec::new());
        for head in heads {
            for x in self.run_head(head, rows, from, picked, cache, work)? {
                // The next head's recording leaves its result in the same place.
                parts.push(if several { x.force_contiguous()? } else { x });
            }
        }
        work.x = if parts.is_empty() { None } else { Some(join(parts)?) };
        Ok(())
    }

    /// The hidden states of the picked rows, in pieces.
    fn run_head(
        &self,
        head: usize,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut Cache,
        work: &mut Workspace,
    ) -> Result<Vec<Tensor>, ModelError> {
        let Some(trunk) = work.trunk.clone() else { return Err(ModelError::Device("no trunk was run".to_owned())) };
        cache.check()?;
        let picked: Vec<usize> = (0..picked.len(rows.len())).map(|i| picked.row(i)).collect();
        let layer = self.config.trunk_len() + head;
        let mut parts = Vec::new();
        for (piece, rows) in rows.chunks(self.max_rows()).enumerate() {
            let first = piece * self.max_rows();
            let here = |&&row: &&usize| (first..first + rows.len()).contains(&row);
            let picked: Vec<usize> = picked.iter().filter(here).map(|row| row - first).collect();
            let (numbers, places) = plan(rows, Picked::These(&picked), &self.counts);
            let ids = self.counts.pad((first..first + rows.len()).map(|i| from.row(i) as u32));
            let chosen = self.counts.pad(picked.iter().map(|&row| row as u32));
            let segment = Segment::Head { head, rows: ids.len(), picked: chosen.len() };
            let inputs = Inputs { ids, chosen: Some(chosen), numbers, places };
            if picked.is_empty() {
                let given = self.ops.give(inputs, cache.slots())?;
                self.remember(layer, &trunk.index_select(&given.ids, 0)?, &given.plan, cache)?;
                continue;
            }
            let step = |given: &Given| self.forward(layer, trunk.index_select(&given.ids, 0)?, given, cache);
            let recorded = work.graphs.as_ref().is_some_and(|graphs| graphs.is_trunk(&trunk));
            let x = self.run(recorded.then_some(segment), inputs, cache, work, &step)?;
            parts.push(x.narrow(0, 0, picked.len())?);
        }
        Ok(parts)
    }

    /// Logits of the hidden states that the last [`run_heads`](Self::run_heads) left: (heads · picked, vocab).
    ///
    /// # Errors
    /// The device fails.
    pub fn logits(&self, work: &Workspace) -> Result<Logits, ModelError> {
        let Some(x) = &work.x else { return Err(ModelError::Device("no head was run".to_owned())) };
        let mut parts = Vec::new();
        let count = x.dim(0)?;
        for first in (0..count).step_by(self.max_rows()) {
            let len = self.max_rows().min(count - first);
            let rows = self.counts.pad((first..first + len).map(|row| row as u32));
            let x = x.index_select(&Tensor::new(rows, &self.device)?, 0)?;
            parts.push(multiply(&self.ops.norm(&x, &self.norm)?, &self.output)?.narrow(0, 0, len)?);
        }
        Ok(Logits(join(parts)?))
    }

    /// A token for each of `draws`, `None` in place of one whose logits are not numbers. Only the tokens leave the
    /// device. `None` where tokens cannot be drawn on it.
    ///
    /// # Errors
    /// The device fails.
    pub fn draw(
        &self,
        logits: &Logits,
        draws: &[Draw],
        temperature: f64,
        top_p: f64,
    ) -> Result<Option<Vec<Option<u32>>>, ModelError> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            if draws.is_empty() {
                return Ok(Some(Vec::new()));
            }
            let numbers: Vec<u32> = draws
                .iter()
                .flat_map(|draw| [draw.row as u32, draw.key[0], draw.key[1], draw.position as u32])
                .collect();
            let numbers = Tensor::from_vec(numbers, draws.len() * 4, &self.device)?;
            let op = ops::DrawTokens { ops: &self.ops, temperature, top_p };
            let tokens = logits.0.apply_op2_no_bwd(&numbers, &op)?.to_vec1::<u32>()?;
            return Ok(Some(tokens.into_iter().map(|token| (token != ops::NONE).then_some(token)).collect()));
        }
        let _ = (logits, draws, temperature, top_p);
        Ok(None)
    }

    /// The rows of logits, off the device: (rows, vocab).
    ///
    /// # Errors
    /// The device fails.
    pub fn fetch(&self, logits: &Logits) -> Result<Vec<f32>, ModelError> {
        Ok(logits.0.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// One row of logits, to be kept: (1, vocab).
    ///
    /// # Errors
    /// The device fails.
    pub fn keep(&self, logits: &Logits, row: usize) -> Result<Logits, ModelError> {
        // A copy, though one row is contiguous as it stands: the others need not be kept for it.
        Ok(Logits(logits.0.narrow(0, row, 1)?.force_contiguous()?))
    }

    /// Every loaded head's logits of every position of one sequence: (heads, positions, vocab).
    ///
    /// # Errors
    /// A token is outside the vocabulary; the device fails.
    pub fn all_logits(&self, ids: &[u32]) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut cache = self.cache(self.cache_bytes(ids.len()))?;
        let (prefix, mut own, mut work) = (Span::default(), Span::default(), Workspace::default());
        cache.grow(&mut own, ids.len());
        let row = |(position, &token)| Row { token, position, prefix: &prefix, own: &own };
        let rows: Vec<Row> = ids.iter().enumerate().map(row).collect();
        self.trunk(&rows, &mut cache, &mut work)?;
        let of_head = |head| {
            self.run_heads(head..head + 1, &rows, Picked::All, Picked::All, &mut cache, &mut work)?;
            self.fetch(&self.logits(&work)?)
        };
        (0..self.heads()).map(of_head).collect()
    }

    /// Runs a segment, by replaying where that pays and holds.
    fn run(
        &self,
        segment: Option<Segment>,
        inputs: Inputs,
        cache: &Cache,
        work: &mut Workspace,
        step: &dyn Fn(&Given) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor, ModelError> {
        if let Some(segment) = segment
            && let Some(graphs) = self.graphs(&inputs, cache, work)?
        {
            let (x, ran) = graphs.run(segment, &inputs, step)?;
            self.replays.note(ran);
            return Ok(x);
        }
        Ok(step(&self.ops.give(inputs, cache.slots())?)?)
    }

    /// The recordings for this cache, where those inputs can go along with them.
    fn graphs<'w>(
        &self,
        inputs: &Inputs,
        cache: &Cache,
        work: &'w mut Workspace,
    ) -> Result<Option<&'w mut Graphs>, ModelError> {
        let Some(layer) = cache.layers.first() else { return Ok(None) };
        if !self.replays.wanted() || inputs.ids.len() > graphs::MOST_ROWS || self.ops.way != Way::Own {
            return Ok(None);
        }
        let made = Made { model: self.embeddings.id(), cache: layer.id() };
        if work.graphs.as_ref().is_none_or(|graphs| graphs.made != made) {
            let graphs = Graphs::new(made, self.recorder(), self.most_numbers(), self.config.dim, &self.device)?;
            work.graphs = Some(graphs);
        }
        Ok(work.graphs.as_mut().filter(|graphs| graphs.fits(inputs)))
    }

    fn most_numbers(&self) -> usize {
        graphs::most_numbers(self.config.max_seq_len.div_ceil(BLOCK))
    }

    fn recorder(&self) -> Box<dyn Recorder> {
        match &self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Box::new(launch::Capture(cuda.clone())),
            _ => Box::new(graphs::Again),
        }
    }

    /// The first part of a block: x (rows, dim), f32 → (rows, dim + 2 kv_dim). Keys and values go into the cache.
    fn remember(&self, layer: usize, x: &Tensor, plan: &Plan, cache: &Cache) -> candle_core::Result<Tensor> {
        let block = &self.blocks[layer];
        let qkv = multiply(&self.ops.norm(x, &block.attention_norm)?, &block.qkv)?;
        self.ops.store(&cache.layers[layer], &qkv, plan)?;
        Ok(qkv)
    }

    /// One block: x (rows, dim), f32 → (picked, dim), f32.
    fn forward(&self, layer: usize, x: Tensor, given: &Given, cache: &Cache) -> candle_core::Result<Tensor> {
        let qkv = self.remember(layer, &x, &given.plan, cache)?;
        let (block, ops) = (&self.blocks[layer], &self.ops);
        let x = match &given.chosen {
            Some(chosen) => x.index_select(chosen, 0)?,
            None => x,
        };
        let attended = ops.attention(&qkv, &cache.layers[layer], &given.plan)?;
        let x = ops.add(x, &multiply(&attended, &block.out)?)?;

        let both = multiply(&ops.norm(&x, &block.ffn_norm)?, &block.gate_up)?; // (picked, 2 hidden)
        ops.add(x, &multiply(&ops.swiglu(&both)?, &block.down)?)
    }
}

/// Rows of several pieces, one after the other.
fn join(mut parts: Vec<Tensor>) -> Result<Tensor, ModelError> {
    match parts.len() {
        1 => Ok(parts.swap_remove(0)),
        _ => Ok(Tensor::cat(&parts, 0)?),
    }
}
