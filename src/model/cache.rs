//! Keys and values of every position, in blocks that are allocated once and written in place.

use super::kernel::{Aligned, LANES};

/// Positions in a block: as many as the kernel computes side by side.
pub(super) const BLOCK: usize = LANES;

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

/// A pool of blocks of 16 positions, for every layer.
pub struct Cache {
    numbers: Blocks,
    layers: Vec<Layer>,
}

/// One layer's keys and values. Of each block it has the keys as (kv head, head_dim, position), so that scores of 16
/// positions are computed side by side, and the values as (kv head, head_dim / 16, position, 16), so that 16 of their sums
/// are. head_dim is rounded up to a multiple of 16 here.
pub(super) struct Layer {
    kv_heads: usize,
    head_dim: usize,
    blocks: Vec<Block>,
}

struct Block {
    keys: Aligned,
    values: Aligned,
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
        let layer = || Layer { kv_heads, head_dim, blocks: Vec::new() };
        Cache { numbers: Blocks::default(), layers: std::iter::repeat_with(layer).take(layers).collect() }
    }

    /// Makes room for `more` further positions at the end of `span`.
    pub fn grow(&mut self, span: &mut Span, more: usize) {
        self.numbers.grow(span, more);
        for layer in &mut self.layers {
            let floats = layer.floats();
            let block = || Block { keys: Aligned::zeros(floats), values: Aligned::zeros(floats) };
            layer.blocks.resize_with(self.numbers.made(), block);
        }
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
        self.numbers.made() * self.block_bytes()
    }

    /// Bytes that `positions` consecutive positions take.
    pub fn bytes_of(&self, positions: usize) -> usize {
        positions.div_ceil(BLOCK) * self.block_bytes()
    }

    fn block_bytes(&self) -> usize {
        self.layers.iter().map(|layer| 2 * layer.floats() * size_of::<f32>()).sum()
    }

    /// The layers, in order.
    pub(super) fn layers(&mut self) -> &mut [Layer] {
        &mut self.layers
    }
}

impl Layer {
    fn floats(&self) -> usize {
        self.kv_heads * self.head_floats()
    }

    fn head_floats(&self) -> usize {
        BLOCK * self.head_dim.next_multiple_of(LANES)
    }

    /// Writes key and value, each (kv_heads, head_dim), of the `index`-th position of `span`.
    pub(super) fn write(&mut self, span: &Span, index: usize, key: &[f32], value: &[f32]) {
        let (size, slot) = (self.head_floats(), index % BLOCK);
        let block = &mut self.blocks[span.blocks[index / BLOCK]];
        for (keys, key) in block.keys.chunks_exact_mut(size).zip(key.chunks_exact(self.head_dim)) {
            keys[slot..].iter_mut().step_by(BLOCK).zip(key).for_each(|(to, key)| *to = *key);
        }
        for (values, value) in block.values.chunks_exact_mut(size).zip(value.chunks_exact(self.head_dim)) {
            for (to, part) in values.chunks_exact_mut(BLOCK * LANES).zip(value.chunks(LANES)) {
                to[slot * LANES..][..part.len()].copy_from_slice(part);
            }
        }
    }

    /// Keys, (head_dim, 16 positions), and values, (head_dim / 16, 16 positions, 16), of one head in the blocks that hold
    /// the first `len` positions of `span`, in order.
    #[inline(always)]
    pub(super) fn runs<'a>(
        &'a self,
        head: usize,
        span: &'a Span,
        len: usize,
    ) -> impl Iterator<Item = (&'a [[f32; BLOCK]], &'a [[f32; LANES]])> + Clone {
        let range = head * self.head_floats()..(head + 1) * self.head_floats();
        span.blocks[..len.div_ceil(BLOCK)].iter().map(move |&block| {
            let Block { keys, values } = &self.blocks[block];
            (keys[range.clone()].as_chunks().0, values[range.clone()].as_chunks().0)
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
            cache.layers[1].write(&span, i, &[i as f32, 100.0], &[-(i as f32), 200.0]);
        }
        let read = |head: usize| -> Vec<(f32, f32)> {
            let pairs = |(keys, values): (&[[f32; BLOCK]], &[[f32; LANES]])| {
                (0..BLOCK).map(|i| (keys[0][i], values[i][0])).collect::<Vec<_>>()
            };
            cache.layers[1].runs(head, &span, 35).flat_map(pairs).take(40).collect()
        };
        assert_eq!(read(0), (0..40).map(|i| (i as f32, -(i as f32))).collect::<Vec<_>>());
        assert_eq!(read(1), vec![(100.0, 200.0); 40]);
        assert_eq!(cache.used(), 3);
        cache.release(span);
        let mut other = Span::default();
        cache.grow(&mut other, 48);
        assert_eq!((cache.used(), cache.layers[0].blocks.len()), (3, 3));
    }
}
