//! Keys and values of every position, in blocks that are allocated once and written in place.

/// Positions in a block.
const BLOCK: usize = 16;

/// A pool of blocks. A block holds 16 positions of every layer: keys and values, each (layer, position, kv_dim).
pub struct Cache {
    layers: usize,
    kv_dim: usize,
    blocks: Vec<Block>,
    free: Vec<usize>,
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

    /// Whether no position is held yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Cache {
    pub(super) fn new(layers: usize, kv_dim: usize) -> Cache {
        Cache { layers, kv_dim, blocks: Vec::new(), free: Vec::new() }
    }

    /// Makes room for `more` further positions at the end of `span`.
    pub fn grow(&mut self, span: &mut Span, more: usize) {
        span.len += more;
        while span.blocks.len() * BLOCK < span.len {
            span.blocks.push(self.free.pop().unwrap_or_else(|| {
                let floats = self.layers * BLOCK * self.kv_dim;
                let block = || vec![0f32; floats].into_boxed_slice();
                self.blocks.push(Block { keys: block(), values: block() });
                self.blocks.len() - 1
            }));
        }
    }

    /// Takes back a span's blocks.
    pub fn release(&mut self, span: Span) {
        self.free.extend(span.blocks);
    }

    /// Blocks in use.
    pub fn used(&self) -> usize {
        self.blocks.len() - self.free.len()
    }

    fn range(&self, layer: usize, slot: usize, positions: usize) -> std::ops::Range<usize> {
        let start = (layer * BLOCK + slot) * self.kv_dim;
        start..start + positions * self.kv_dim
    }

    /// Writes key and value, each (kv_dim), of the `index`-th position of `span`.
    pub(super) fn write(&mut self, layer: usize, span: &Span, index: usize, key: &[f32], value: &[f32]) {
        let range = self.range(layer, index % BLOCK, 1);
        let block = &mut self.blocks[span.blocks[index / BLOCK]];
        block.keys[range.clone()].copy_from_slice(key);
        block.values[range].copy_from_slice(value);
    }

    /// Keys and values of the first `len` positions of `span` in order, as runs of (positions, kv_dim).
    pub(super) fn runs<'a>(
        &'a self,
        layer: usize,
        span: &'a Span,
        len: usize,
    ) -> impl Iterator<Item = (&'a [f32], &'a [f32])> + Clone {
        span.blocks[..len.div_ceil(BLOCK)].iter().enumerate().map(move |(i, &block)| {
            let range = self.range(layer, 0, (len - i * BLOCK).min(BLOCK));
            let block = &self.blocks[block];
            (&block.keys[range.clone()], &block.values[range])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_in_order_and_blocks_are_used_again() {
        let mut cache = Cache::new(2, 1);
        let mut span = Span::default();
        for i in 0..40 {
            cache.grow(&mut span, 1);
            cache.write(1, &span, i, &[i as f32], &[-(i as f32)]);
        }
        let keys: Vec<f32> = cache.runs(1, &span, 35).flat_map(|(keys, _)| keys.to_vec()).collect();
        assert_eq!(keys, (0..35).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(cache.used(), 3);
        cache.release(span);
        let mut other = Span::default();
        cache.grow(&mut other, 48);
        assert_eq!((cache.used(), cache.blocks.len()), (3, 3));
    }
}
