//! What a step does besides matrix products, composed of candle's tensor operations: for devices that we have no
//! kernels for, such as Apple's GPUs. The tests hold it on candle's CPU device against the CPU engine.
//!
//! A row's result must not depend on its neighbours, whatever way a library's products and sums take for another
//! shape. So norms and activations are taken row by row, and attention query by query: every shape in it is the row's
//! own. That a device computes the same numbers in the same shape alike is left to assume, and that it sums a row the
//! same way whatever the number of rows: only the device itself can prove it.

use candle_core::{D, DType, Device, Result, Tensor};

use super::ops::{NONE, Places};

/// What goes along with a forward, for this form of it; see [`Places`].
pub(super) struct Walks {
    positions: Tensor,  // (rows)
    slots: Tensor,      // (2 rows): where keys go, then where values go, of all the cache's (2 slots)
    queries: Vec<Walk>, // of the picked rows
    picked: usize,      // their number, padding included
}

/// A query's row, and what it attends to.
struct Walk {
    row: usize,
    slots: Tensor, // (2 len): where its keys lie, in the order of positions, then where its values lie
}

impl Walks {
    /// Reads the numbers that [`Places`] tells of, for a cache of `slots` slots. Padding is left out.
    pub(super) fn new(numbers: &[u32], places: Places, slots: usize, device: &Device) -> Result<Walks> {
        let with_values = |mut keys: Vec<u32>| {
            keys.extend_from_within(..);
            let count = keys.len();
            keys[count / 2..].iter_mut().for_each(|slot| *slot += slots as u32);
            Tensor::from_vec(keys, count, device)
        };
        let rows = numbers[..places.queries].as_chunks::<2>().0.iter().filter(|[_, slot]| *slot != NONE);
        let (positions, stored): (Vec<u32>, Vec<u32>) = rows.map(|&[position, slot]| (position, slot)).unzip();
        let walk = |query: &[u32; 5]| {
            let keys = places.walk(numbers, query).map(|slot| slot as u32).collect();
            Ok(Walk { row: query[0] as usize, slots: with_values(keys)? })
        };
        let queries = numbers[places.queries..places.order].as_chunks::<5>().0.iter();
        let count = positions.len();
        Ok(Walks {
            positions: Tensor::from_vec(positions, count, device)?,
            slots: with_values(stored)?,
            queries: queries.filter(|query| query[0] != NONE).map(walk).collect::<Result<_>>()?,
            picked: places.picked,
        })
    }

    fn rows(&self) -> usize {
        self.positions.elem_count()
    }

    /// x (rows, n head_dim), each pair turned to its row's position, in f32. `table`: (positions, head_dim / 2, 2).
    fn turned(&self, x: &Tensor, table: &Tensor) -> Result<Tensor> {
        let turns = table.index_select(&self.positions, 0)?.unsqueeze(1)?; // (rows, 1, head_dim / 2, 2)
        let (rows, width, pairs) = (x.dim(0)?, x.dim(1)?, turns.dim(2)?);
        let x = x.to_dtype(DType::F32)?.reshape((rows, width / pairs / 2, pairs, 2))?;
        let (a, b) = (x.narrow(3, 0, 1)?, x.narrow(3, 1, 1)?);
        let (cos, sin) = (turns.narrow(3, 0, 1)?, turns.narrow(3, 1, 1)?);
        let first = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        let second = (a.broadcast_mul(&sin)? + b.broadcast_mul(&cos)?)?;
        Tensor::cat(&[first, second], 3)?.reshape((rows, width))
    }
}

/// As [`Norm`](super::ops::Norm).
pub(super) fn norm(x: &Tensor, weight: &Tensor, eps: f32, dtype: DType) -> Result<Tensor> {
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?; // (rows, 1)
    x.broadcast_div(&size)?.broadcast_mul(weight)?.to_dtype(dtype)
}

/// As [`Add`](super::ops::Add).
pub(super) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x + y.to_dtype(DType::F32)?
}

/// As [`Swiglu`](super::ops::Swiglu).
pub(super) fn swiglu(both: &Tensor) -> Result<Tensor> {
    let hidden = both.dim(1)? / 2;
    let part = |first| both.narrow(1, first, hidden)?.to_dtype(DType::F32)?.contiguous();
    (part(0)?.silu()? * part(hidden)?)?.to_dtype(both.dtype())
}

/// As [`Store`](super::ops::Store).
pub(super) fn store(cache: &Tensor, qkv: &Tensor, table: &Tensor, walks: &Walks) -> Result<()> {
    let (_, slots, kv_dim) = cache.dims3()?;
    let (rows, dim) = (walks.rows(), qkv.dim(1)? - 2 * kv_dim);
    let qkv = qkv.narrow(0, 0, rows)?;
    let keys = walks.turned(&qkv.narrow(1, dim, kv_dim)?, table)?.to_dtype(cache.dtype())?;
    let both = Tensor::cat(&[keys, qkv.narrow(1, dim + kv_dim, kv_dim)?], 0)?.contiguous()?;
    let places = walks.slots.unsqueeze(1)?.broadcast_as(both.shape())?.contiguous()?;
    cache.reshape((2 * slots, kv_dim))?.scatter_set(&places, &both, 0)
}

/// As [`Attention`](super::ops::Attention).
pub(super) fn attention(qkv: &Tensor, cache: &Tensor, table: &Tensor, walks: &Walks) -> Result<Tensor> {
    let (_, slots, kv_dim) = cache.dims3()?;
    let (dim, head_dim) = (qkv.dim(1)? - 2 * kv_dim, 2 * table.dim(1)?);
    let (kv_heads, group) = (kv_dim / head_dim, dim / kv_dim);
    let cache = cache.reshape((2 * slots, kv_dim))?;
    let queries = walks.turned(&qkv.narrow(0, 0, walks.rows())?.narrow(1, 0, dim)?, table)?;
    let queries = (queries / (head_dim as f64).sqrt())?;
    let out = Tensor::zeros((walks.picked, dim), DType::F32, qkv.device())?;
    for (at, Walk { row, slots }) in walks.queries.iter().enumerate() {
        // 1. What the row attends to: (kv_heads, len, head_dim) of keys and of values.
        let len = slots.elem_count() / 2;
        let seen = cache.index_select(slots, 0)?.to_dtype(DType::F32)?.reshape((2 * len, kv_heads, head_dim))?;
        let part = |first| seen.narrow(0, first, len)?.transpose(0, 1)?.contiguous();
        let (keys, values) = (part(0)?, part(len)?);
        // 2. Scores, their softmax, and the values so weighted.
        let scores = queries.narrow(0, *row, 1)?.reshape((kv_heads, group, head_dim))?.matmul(&keys.t()?)?;
        let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        let attended = weights.matmul(&values)?.broadcast_div(&total)?;
        out.slice_set(&attended.reshape((1, dim))?, 0, at)?;
    }
    out.to_dtype(qkv.dtype())
}
