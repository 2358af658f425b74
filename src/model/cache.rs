//! Keys and values of every position, in blocks that are allocated once and written in place.

use std::ops::Range;

/// Positions in a block.
pub(super) const BLOCK: usize = 16;

/// Which blocks there are, and which are free.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    made: usize,
    free: Vec<usize>,
}

impl Blocks {
    /// So many blocks, all free.
    pub(super) fn limited(count: usize) -> Blocks {
        Blocks { made: count, free: (0..count).rev().collect() }
    }

    /// Makes room for `more` further positions at the end of `span`; takes new blocks when none is free.
    pub(super) fn grow(&mut self, span: &mut Span, more: usize) {
        span.len += more;
        while span.blocks.len() * BLOCK < span.len {
            span.blocks.push(self.free.pop().unwrap_or_else(|| {
                self.made += 1;
                self.made - 1
            }));
        }
    }

    /// Takes back a span's blocks.
    pub(super) fn release(&mut self, span: Span) {
        self.free.extend(span.blocks);
    }

    /// Blocks taken or free.
    pub(super) fn made(&self) -> usize {
        self.made
    }

    /// Blocks in use.
    pub(super) fn used(&self) -> usize {
        self.made - self.free.len()
    }
}

/// A pool of blocks. A block holds 16 positions of every layer: keys as (layer, kv head, head_dim, position), so that
/// scores of 16 positions are computed side by side, and values as (layer, kv head, position, head_dim).
pub struct Cache {
    layers: usize,
    kv_heads: usize,
    head_dim: usize,
    numbers: Blocks,
    blocks: Vec<Block>,
}

struct Block {
    keys: Box<[f32]>,
    values: Box<[f32]>,
}

/// Which blocks hold a run of consecutive positions.
#[derive(Debug, Default)]
pub struct Span {
    blocks: Vec<usize>,
    len: usize,
}

impl Span {
    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Its blocks, in order.
    pub(super) fn blocks(&self) -> &[usize] {
        &self.blocks
    }

    /// The slot of its `index`-th position, of all the slots of all blocks.
    pub(super) fn slot(&self, index: usize) -> usize {
        self.blocks[index / BLOCK] * BLOCK + index % BLOCK
    }

    /// Whether no position is held yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Cache {
    pub(super) fn new(layers: usize, kv_heads: usize, head_dim: usize) -> Cache {
        Cache { layers, kv_heads, head_dim, numbers: Blocks::default(), blocks: Vec::new() }
    }

    /// Makes room for `more` further positions at the end of `span`.
    pub fn grow(&mut self, span: &mut Span, more: usize) {
        self.numbers.grow(span, more);
        let floats = self.layers * self.layer_floats();
        let block = || vec![0f32; floats].into_boxed_slice();
        self.blocks.resize_with(self.numbers.made(), || Block { keys: block(), values: block() });
    }

    /// Takes back a span's blocks.
    pub fn release(&mut self, span: Span) {
        self.numbers.release(span);
    }

    /// Blocks in use.
    pub fn used(&self) -> usize {
        self.numbers.used()
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.blocks.len() * self.block_bytes()
    }

    /// Bytes that `positions` consecutive positions take.
    pub fn bytes_of(&self, positions: usize) -> usize {
        positions.div_ceil(BLOCK) * self.block_bytes()
    }

    fn block_bytes(&self) -> usize {
        2 * self.layers * self.layer_floats() * size_of::<f32>()
    }

    fn layer_floats(&self) -> usize {
        BLOCK * self.kv_heads * self.head_dim
    }

    /// Writes key and value, each (kv_heads, head_dim), of the `index`-th position of `span`.
    pub(super) fn write(&mut self, layer: usize, span: &Span, index: usize, key: &[f32], value: &[f32]) {
        let (start, slot) = (layer * self.layer_floats(), index % BLOCK);
        let size = BLOCK * self.head_dim;
        let block = &mut self.blocks[span.blocks[index / BLOCK]];
        for (head, key) in key.chunks_exact(self.head_dim).enumerate() {
            let keys = &mut block.keys[start + head * size..][..size];
            keys[slot..].iter_mut().step_by(BLOCK).zip(key).for_each(|(to, key)| *to = *key);
        }
        for (head, value) in value.chunks_exact(self.head_dim).enumerate() {
            block.values[start + head * size + slot * self.head_dim..][..self.head_dim].copy_from_slice(value);
        }
    }

    /// Keys, (heads, head_dim, 16), and values, (heads, 16, head_dim), of `heads` at the first `len` positions of `span` in
    /// order, with the number of positions that count.
    pub(super) fn runs<'a>(
        &'a self,
        layer: usize,
        heads: Range<usize>,
        span: &'a Span,
        len: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32], usize)> + Clone {
        let size = BLOCK * self.head_dim;
        let start = layer * self.layer_floats();
        let range = start + heads.start * size..start + heads.end * size;
        span.blocks[..len.div_ceil(BLOCK)].iter().enumerate().map(move |(i, &block)| {
            let block = &self.blocks[block];
            (&block.keys[range.clone()], &block.values[range.clone()], (len - i * BLOCK).min(BLOCK))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_in_order_and_blocks_are_used_again() {
        let mut cache = Cache::new(2, 2, 1);
        let mut span = Span::default();
        for i in 0..40 {
            cache.grow(&mut span, 1);
            cache.write(1, &span, i, &[i as f32, 100.0], &[-(i as f32), 200.0]);
        }
        let read = |head: usize| -> Vec<(f32, f32)> {
            let pairs = |(keys, values, len): (&[f32], &[f32], usize)| {
                keys[..len].iter().copied().zip(values[..len].iter().copied()).collect::<Vec<_>>()
            };
            cache.runs(1, head..head + 1, &span, 35).flat_map(pairs).collect()
        };
        assert_eq!(read(0), (0..35).map(|i| (i as f32, -(i as f32))).collect::<Vec<_>>());
        assert_eq!(read(1), vec![(100.0, 200.0); 35]);
        assert_eq!(cache.used(), 3);
        cache.release(span);
        let mut other = Span::default();
        cache.grow(&mut other, 48);
        assert_eq!((cache.used(), cache.blocks.len()), (3, 3));
    }
}
