//! Keys and values on a device.

use candle_core::{DType, Device, Tensor};

use super::ModelError;
use super::ops::BLOCK;
use crate::model::cache::{Blocks, Span};

/// Keys and values: for each layer (2, slots, kv_dim).
pub struct Cache {
    pub(super) layers: Vec<Tensor>,
    blocks: Blocks,
    limit: usize, // blocks that there are
}

impl Cache {
    /// Room for `blocks` blocks of positions in each of `layers` layers.
    pub(super) fn new(
        layers: usize,
        blocks: usize,
        kv_dim: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Cache, ModelError> {
        let layer = |_| Tensor::zeros((2, blocks * BLOCK, kv_dim), dtype, device);
        let layers = (0..layers).map(layer).collect::<Result<_, _>>()?;
        Ok(Cache { layers, blocks: Blocks::limited(blocks), limit: blocks })
    }

    /// That no slot is written which does not exist.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        if self.blocks.made() > self.limit { Err(ModelError::OutOfMemory) } else { Ok(()) }
    }

    /// Slots of a layer.
    pub(super) fn slots(&self) -> usize {
        self.limit * BLOCK
    }

    /// Makes room for `more` further positions at the end of `span`.
    pub fn grow(&mut self, span: &mut Span, more: usize) {
        self.blocks.grow(span, more);
    }

    /// Takes back a span's blocks.
    pub fn release(&mut self, span: Span) {
        self.blocks.release(span);
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.elem_count() * layer.dtype().size_in_bytes()).sum()
    }
}
