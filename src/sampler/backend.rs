//! What the engine asks of a model, wherever it runs.

use std::ops::Range;

use super::Sampling;
use super::noise::Noise;
use super::nucleus::{self, NotFinite};
use crate::model::{self, Config, ModelError, Picked, Row, Span, Threads, device};

/// A model, with the cache and the workspace that go with it.
pub trait Backend: Send + Sync {
    /// Keys and values.
    type Cache;
    /// What a step computes in.
    type Work;
    /// One row of logits that is kept: those after a prompt, from which every sample's first token is drawn.
    type Kept: Send + Sync;
    /// The logits of a step.
    type Logits<'w>: Logits<Kept = Self::Kept>
    where
        Self: 'w;

    /// The model's shape.
    fn config(&self) -> &Config;
    /// Heads that were loaded.
    fn heads(&self) -> usize;
    /// Bytes of the weights.
    fn bytes(&self) -> usize;
    /// Bytes that are free for cache and workspace, where that is known.
    fn free(&self) -> Option<usize>;
    /// Lanes that it is fastest in.
    fn lanes(&self) -> usize;
    /// Sequences of a lane beyond which more of them at once gain nothing.
    fn enough(&self) -> usize;
    /// The most rows of a step that is done at once.
    fn max_rows(&self) -> usize;
    /// Bytes that `positions` consecutive positions take in the cache.
    fn cache_bytes(&self, positions: usize) -> usize;
    /// Bytes that a step of `rows` rows needs, `picked` of them with logits.
    fn workspace_bytes(&self, rows: usize, picked: usize) -> usize;

    /// A cache that may grow to `bytes`.
    ///
    /// # Errors
    /// The device is full.
    fn cache(&self, bytes: usize) -> Result<Self::Cache, ModelError>;
    /// Makes room for `more` further positions at the end of `span`.
    fn grow(cache: &mut Self::Cache, span: &mut Span, more: usize);
    /// Takes back a span's blocks.
    fn release(cache: &mut Self::Cache, span: Span);
    /// Bytes that the cache has allocated.
    fn allocated(cache: &Self::Cache) -> usize;
    /// A workspace.
    fn workspace(&self, threads: Threads) -> Self::Work;

    /// See [`model::Model::trunk`].
    ///
    /// # Errors
    /// A token is outside the vocabulary; the device fails.
    fn trunk(&self, rows: &[Row], cache: &mut Self::Cache, work: &mut Self::Work) -> Result<(), ModelError>;
    /// See [`model::Model::run_heads`].
    ///
    /// # Errors
    /// The device fails.
    fn run_heads(
        &self,
        heads: Range<usize>,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut Self::Cache,
        work: &mut Self::Work,
    ) -> Result<(), ModelError>;
    /// Logits of the hidden states that the last [`run_heads`](Self::run_heads) left. `wanted` are the draws that may
    /// follow, the i-th from row i.
    ///
    /// # Errors
    /// The device fails.
    fn logits<'w>(
        &'w self,
        work: &'w mut Self::Work,
        wanted: &[Draw],
        sampling: Sampling,
    ) -> Result<Self::Logits<'w>, ModelError>;
    /// Draws from a kept row.
    ///
    /// # Errors
    /// The device fails.
    fn draw_kept(&self, kept: &Self::Kept, draw: Draw, sampling: Sampling) -> Result<Drawn, ModelError>;
}

/// A token, or logits that are not numbers.
pub type Drawn = Result<u32, NotFinite>;

/// A token to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// The row of logits.
    pub row: usize,
    /// The sample's noise.
    pub noise: Noise,
    /// The token's position.
    pub position: usize,
}

/// Logits of a step's picked rows.
pub trait Logits: Sync {
    /// What a kept row is.
    type Kept;
    /// Draws a token.
    fn draw(&self, draw: Draw, sampling: Sampling) -> Drawn;
    /// Keeps a row.
    ///
    /// # Errors
    /// The device fails.
    fn keep(&self, row: usize) -> Result<Self::Kept, ModelError>;
}

/// Logits in our own memory: (rows, vocab).
pub struct Host<'w> {
    logits: &'w [f32],
    vocab: usize,
}

impl Logits for Host<'_> {
    type Kept = Vec<f32>;

    fn draw(&self, draw: Draw, sampling: Sampling) -> Drawn {
        nucleus::sample(&self.logits[draw.row * self.vocab..][..self.vocab], sampling, draw.noise, draw.position)
    }

    fn keep(&self, row: usize) -> Result<Vec<f32>, ModelError> {
        Ok(self.logits[row * self.vocab..][..self.vocab].to_vec())
    }
}

impl Backend for model::Model {
    type Cache = model::Cache;
    type Work = model::Workspace;
    type Kept = Vec<f32>;
    type Logits<'w> = Host<'w>;

    fn config(&self) -> &Config {
        self.config()
    }

    fn heads(&self) -> usize {
        self.heads()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn free(&self) -> Option<usize> {
        let info = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
    }

    /// A model whose weights stay in the processor's cache runs in as many lanes as there are threads, which never
    /// wait for each other; a larger one in a single lane whose products all threads share, so that weights are read
    /// from memory once.
    fn lanes(&self) -> usize {
        if self.stays_in_cache() { rayon::current_num_threads() } else { 1 }
    }

    /// Where weights cost nothing to read, rows need only fill the registers; keys and values of more sequences would
    /// drive each other out of the cache.
    fn enough(&self) -> usize {
        if self.stays_in_cache() { model::FULL } else { usize::MAX }
    }

    fn max_rows(&self) -> usize {
        usize::MAX
    }

    fn cache_bytes(&self, positions: usize) -> usize {
        self.cache().bytes_of(positions)
    }

    fn workspace_bytes(&self, rows: usize, picked: usize) -> usize {
        self.workspace_bytes(rows, picked)
    }

    fn cache(&self, _: usize) -> Result<model::Cache, ModelError> {
        Ok(self.cache())
    }

    fn grow(cache: &mut model::Cache, span: &mut Span, more: usize) {
        cache.grow(span, more);
    }

    fn release(cache: &mut model::Cache, span: Span) {
        cache.release(span);
    }

    fn allocated(cache: &model::Cache) -> usize {
        cache.bytes()
    }

    fn workspace(&self, threads: Threads) -> model::Workspace {
        self.workspace(threads)
    }

    fn trunk(&self, rows: &[Row], cache: &mut model::Cache, work: &mut model::Workspace) -> Result<(), ModelError> {
        self.trunk(rows, cache, work)
    }

    fn run_heads(
        &self,
        heads: Range<usize>,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut model::Cache,
        work: &mut model::Workspace,
    ) -> Result<(), ModelError> {
        self.run_heads(heads, rows, from, picked, cache, work);
        Ok(())
    }

    fn logits<'w>(&'w self, work: &'w mut model::Workspace, _: &[Draw], _: Sampling) -> Result<Host<'w>, ModelError> {
        Ok(Host { logits: self.logits(work), vocab: self.config().vocab_size })
    }

    fn draw_kept(&self, kept: &Vec<f32>, draw: Draw, sampling: Sampling) -> Result<Drawn, ModelError> {
        Ok(nucleus::sample(kept, sampling, draw.noise, draw.position))
    }
}

/// Logits on a device, and what was drawn from them there, or, where none is drawn there, themselves.
pub struct Remote<'w> {
    model: &'w device::Model,
    logits: device::Logits,
    drawn: Vec<Option<u32>>,
    fetched: Vec<f32>,
}

/// What a device is told of a draw.
fn told(draw: Draw) -> device::Draw {
    device::Draw { row: draw.row, key: draw.noise.key(), position: draw.position }
}

impl<'w> Remote<'w> {
    fn new(
        model: &'w device::Model,
        logits: device::Logits,
        wanted: &[Draw],
        sampling: Sampling,
    ) -> Result<Remote<'w>, ModelError> {
        let wanted: Vec<device::Draw> = wanted.iter().copied().map(told).collect();
        let drawn = model.draw(&logits, &wanted, sampling.temperature, sampling.top_p)?;
        let fetched = if drawn.is_none() { model.fetch(&logits)? } else { Vec::new() };
        Ok(Remote { model, logits, drawn: drawn.unwrap_or_default(), fetched })
    }
}

impl Logits for Remote<'_> {
    type Kept = device::Logits;

    fn draw(&self, draw: Draw, sampling: Sampling) -> Drawn {
        match self.drawn.get(draw.row) {
            Some(token) => token.ok_or(NotFinite),
            None => Host { logits: &self.fetched, vocab: self.model.config().vocab_size }.draw(draw, sampling),
        }
    }

    fn keep(&self, row: usize) -> Result<device::Logits, ModelError> {
        self.model.keep(&self.logits, row)
    }
}

impl Backend for device::Model {
    type Cache = device::Cache;
    type Work = device::Workspace;
    type Kept = device::Logits;
    type Logits<'w> = Remote<'w>;

    fn config(&self) -> &Config {
        self.config()
    }

    fn heads(&self) -> usize {
        self.heads()
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn free(&self) -> Option<usize> {
        self.free()
    }

    fn lanes(&self) -> usize {
        1
    }

    fn enough(&self) -> usize {
        usize::MAX
    }

    fn max_rows(&self) -> usize {
        self.max_rows()
    }

    fn cache_bytes(&self, positions: usize) -> usize {
        self.cache_bytes(positions)
    }

    fn workspace_bytes(&self, rows: usize, picked: usize) -> usize {
        self.workspace_bytes(rows, picked)
    }

    fn cache(&self, bytes: usize) -> Result<device::Cache, ModelError> {
        self.cache(bytes)
    }

    fn grow(cache: &mut device::Cache, span: &mut Span, more: usize) {
        cache.grow(span, more);
    }

    fn release(cache: &mut device::Cache, span: Span) {
        cache.release(span);
    }

    fn allocated(cache: &device::Cache) -> usize {
        cache.bytes()
    }

    fn workspace(&self, _: Threads) -> device::Workspace {
        device::Workspace::default()
    }

    fn trunk(&self, rows: &[Row], cache: &mut device::Cache, work: &mut device::Workspace) -> Result<(), ModelError> {
        self.trunk(rows, cache, work)
    }

    fn run_heads(
        &self,
        heads: Range<usize>,
        rows: &[Row],
        from: Picked,
        picked: Picked,
        cache: &mut device::Cache,
        work: &mut device::Workspace,
    ) -> Result<(), ModelError> {
        self.run_heads(heads, rows, from, picked, cache, work)
    }

    fn logits<'w>(
        &'w self,
        work: &'w mut device::Workspace,
        wanted: &[Draw],
        sampling: Sampling,
    ) -> Result<Remote<'w>, ModelError> {
        Remote::new(self, self.logits(work)?, wanted, sampling)
    }

    fn draw_kept(&self, kept: &device::Logits, draw: Draw, sampling: Sampling) -> Result<Drawn, ModelError> {
        let draw = Draw { row: 0, ..draw };
        Ok(Remote::new(self, kept.clone(), &[draw], sampling)?.draw(draw, sampling))
    }
}
