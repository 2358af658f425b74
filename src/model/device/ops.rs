//! What a step does besides matrix products, as operations on candle's tensors: in Rust on candle's CPU device, where
//! the tests hold them against the CPU engine, as kernels (`kernels.cu`) on CUDA, and elsewhere [`composed`].

#![cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "some of it is for the kernels alone"))]

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result,
    Shape, Storage, Tensor, bail,
};

use super::composed::{self, Walks};
#[cfg(feature = "cuda")]
use super::launch::{self, Kernels};
#[cfg(feature = "cuda")]
use candle_core::CudaStorage;

/// No row, no token.
pub(super) const NONE: u32 = u32::MAX;
/// Positions in a block of the cache.
pub(super) use crate::model::cache::BLOCK;

/// Who computes the operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// This file on the CPU, the kernels on CUDA.
    Own,
    /// Candle, of its own operations.
    Composed,
}

impl Way {
    /// What suits a device.
    pub(super) fn of(device: &Device) -> Way {
        if device.is_cpu() || device.is_cuda() { Way::Own } else { Way::Composed }
    }
}

/// What all operations of one model share.
pub(super) struct Ops {
    pub(super) way: Way,
    pub(super) dim: usize,
    pub(super) head_dim: usize,
    pub(super) eps: f32,
    pub(super) dtype: DType,
    pub(super) table: Tensor, // (max_seq_len, head_dim / 2, 2), f32: cos and sin of each position and pair
    #[cfg(feature = "cuda")]
    pub(super) kernels: Option<Kernels>,
}

/// What a segment of a step is told.
pub(super) struct Inputs {
    /// Tokens of the rows, or their rows of the trunk.
    pub(super) ids: Vec<u32>,
    /// The picked rows, where not all are.
    pub(super) chosen: Option<Vec<u32>>,
    /// The numbers that [`Places`] tells of.
    pub(super) numbers: Vec<u32>,
    pub(super) places: Places,
}

/// The same, on the device.
pub(super) struct Given {
    pub(super) ids: Tensor,            // (rows)
    pub(super) chosen: Option<Tensor>, // (picked)
    pub(super) plan: Plan,
}

/// What goes along with a forward.
pub(super) enum Plan {
    /// The numbers that [`Places`] tells of.
    Numbers(Tensor, Places),
    /// The same, read.
    Walks(Walks),
}

impl Ops {
    /// Puts inputs on the device, for a cache of `slots` slots.
    pub(super) fn give(&self, inputs: Inputs, slots: usize) -> Result<Given> {
        let device = self.table.device();
        let put = |numbers: Vec<u32>| {
            let count = numbers.len();
            Tensor::from_vec(numbers, count, device)
        };
        let Inputs { ids, chosen, numbers, places } = inputs;
        Ok(Given {
            ids: put(ids)?,
            chosen: chosen.map(put).transpose()?,
            plan: match self.way {
                Way::Own => Plan::Numbers(put(numbers)?, places),
                Way::Composed => Plan::Walks(Walks::new(&numbers, places, slots, device)?),
            },
        })
    }

    /// See [`Norm`].
    pub(super) fn norm(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self.way {
            Way::Own => x.apply_op2_no_bwd(weight, &Norm(self)),
            Way::Composed => composed::norm(x, weight, self.eps, self.dtype),
        }
    }

    /// See [`Add`]. Nobody else holds `x`.
    pub(super) fn add(&self, x: Tensor, y: &Tensor) -> Result<Tensor> {
        match self.way {
            Way::Own => x.inplace_op2(y, &Add(self)).map(|()| x),
            Way::Composed => composed::add(&x, y),
        }
    }

    /// See [`Swiglu`].
    pub(super) fn swiglu(&self, both: &Tensor) -> Result<Tensor> {
        match self.way {
            Way::Own => both.apply_op1_no_bwd(&Swiglu(self)),
            Way::Composed => composed::swiglu(both),
        }
    }

    /// See [`Store`].
    pub(super) fn store(&self, cache: &Tensor, qkv: &Tensor, plan: &Plan) -> Result<()> {
        match plan {
            Plan::Numbers(numbers, places) => {
                cache.inplace_op3(qkv, &numbers.narrow(0, 0, places.queries)?, &Store(self))
            }
            Plan::Walks(walks) => composed::store(cache, qkv, &self.table, walks),
        }
    }

    /// See [`Attention`].
    pub(super) fn attention(&self, qkv: &Tensor, cache: &Tensor, plan: &Plan) -> Result<Tensor> {
        match plan {
            &Plan::Numbers(ref numbers, places) => {
                qkv.apply_op3_no_bwd(cache, numbers, &Attention { ops: self, places })
            }
            Plan::Walks(walks) => composed::attention(qkv, cache, &self.table, walks),
        }
    }

    /// Calls `f` with the rotary table on the CPU.
    fn with_table<R>(&self, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
        let (storage, layout) = self.table.storage_and_layout();
        match &*storage {
            Storage::Cpu(table) => f(floats(table, layout)?),
            _ => bail!("the rotary table is not on the CPU"),
        }
    }

    #[cfg(feature = "cuda")]
    pub(super) fn kernels(&self) -> Result<&Kernels> {
        match &self.kernels {
            Some(kernels) => Ok(kernels),
            None => bail!("these operations were not compiled for a GPU"),
        }
    }
}

/// The numbers of a contiguous f32 tensor on the CPU.
fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<f32>()?[from..to]),
        None => bail!("a contiguous tensor is wanted"),
    }
}

fn floats_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    match (layout.contiguous_offsets(), storage) {
        (Some((from, to)), CpuStorage::F32(values)) => Ok(&mut values[from..to]),
        _ => bail!("a contiguous f32 tensor is wanted"),
    }
}

fn numbers<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [u32]> {
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&storage.as_slice::<u32>()?[from..to]),
        None => bail!("a contiguous tensor is wanted"),
    }
}

/// Writes numbers to the front of a tensor (n), n no fewer than they.
pub(super) struct Fill<'a>(pub(super) &'a [u32]);

impl InplaceOp1 for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn cpu_fwd(&self, to: &mut CpuStorage, _: &Layout) -> Result<()> {
        match to {
            CpuStorage::U32(to) if to.len() >= self.0.len() => to[..self.0.len()].copy_from_slice(self.0),
            _ => bail!("no room for {} numbers", self.0.len()),
        }
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, to: &mut CudaStorage, _: &Layout) -> Result<()> {
        launch::fill(to, self.0)
    }
}

/// x (rows, dim), f32, += y (rows, dim).
pub(super) struct Add<'a>(&'a Ops);

impl InplaceOp2 for Add<'_> {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, x_at: &Layout, y: &CpuStorage, y_at: &Layout) -> Result<()> {
        floats_mut(x, x_at)?.iter_mut().zip(floats(y, y_at)?).for_each(|(x, y)| *x += y);
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &mut CudaStorage, x_at: &Layout, y: &CudaStorage, _: &Layout) -> Result<()> {
        launch::add(self.0, x, y, x_at.shape().elem_count())
    }
}

/// Root-mean-square norm of x (rows, dim), f32, times weight (dim), f32 → (rows, dim) of the model's type.
pub(super) struct Norm<'a>(&'a Ops);

impl CustomOp2 for Norm<'_> {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, x_at: &Layout, w: &CpuStorage, w_at: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut out = Vec::new();
        crate::model::math::rms_norm(floats(x, x_at)?, floats(w, w_at)?, self.0.eps, &mut out);
        Ok((CpuStorage::F32(out), x_at.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, x_at: &Layout, w: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        let out = launch::norm(self.0, x, w, x_at.shape().dims2()?)?;
        Ok((out, x_at.shape().clone()))
    }
}

/// silu(gate) · up: (rows, 2 hidden) → (rows, hidden).
pub(super) struct Swiglu<'a>(&'a Ops);

impl CustomOp1 for Swiglu<'_> {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, both: &CpuStorage, at: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, wide) = at.shape().dims2()?;
        let mut out = vec![0f32; rows * wide / 2];
        for (out, both) in out.chunks_exact_mut(wide / 2).zip(floats(both, at)?.chunks_exact(wide)) {
            crate::model::math::swiglu(both, out);
        }
        Ok((CpuStorage::F32(out), Shape::from((rows, wide / 2))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, both: &CudaStorage, at: &Layout) -> Result<(CudaStorage, Shape)> {
        let (rows, wide) = at.shape().dims2()?;
        let out = launch::swiglu(self.0, both, rows, wide / 2)?;
        Ok((out, Shape::from((rows, wide / 2))))
    }
}

/// Turns the pair (2i, 2i + 1) of a head to `position`; `table`: (positions, head_dim / 2, cos and sin).
fn turned(pair: [f32; 2], table: &[f32], head_dim: usize, position: usize, i: usize) -> [f32; 2] {
    let at = (position * head_dim / 2 + i) * 2;
    let (cos, sin) = (table[at], table[at + 1]);
    [pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos]
}

/// Writes turned keys and values of qkv (rows, dim + 2 kv_dim) to the cache (2, slots, kv_dim). `rows`: (position,
/// slot) of each row, with no slot where there is no row.
pub(super) struct Store<'a>(&'a Ops);

impl InplaceOp3 for Store<'_> {
    fn name(&self) -> &'static str {
        "store"
    }

    fn cpu_fwd(
        &self,
        cache: &mut CpuStorage,
        at: &Layout,
        qkv: &CpuStorage,
        qkv_at: &Layout,
        rows: &CpuStorage,
        rows_at: &Layout,
    ) -> Result<()> {
        let (_, slots, kv_dim) = at.shape().dims3()?;
        let (keys, values) = floats_mut(cache, at)?.split_at_mut(slots * kv_dim);
        let qkv = floats(qkv, qkv_at)?;
        let &Ops { dim, head_dim, .. } = self.0;
        let places = numbers(rows, rows_at)?.as_chunks::<2>().0;
        self.0.with_table(|table| {
            for (qkv, &[position, slot]) in qkv.chunks_exact(dim + 2 * kv_dim).zip(places) {
                if slot == NONE {
                    continue;
                }
                let (key, value) = qkv[dim..].split_at(kv_dim);
                let place = slot as usize * kv_dim..(slot as usize + 1) * kv_dim;
                let pairs = keys[place.clone()].as_chunks_mut::<2>().0.iter_mut().zip(key.as_chunks::<2>().0);
                for (i, (to, &pair)) in pairs.enumerate() {
                    *to = turned(pair, table, head_dim, position as usize, i % (head_dim / 2));
                }
                values[place].copy_from_slice(value);
            }
            Ok(())
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        cache: &mut CudaStorage,
        at: &Layout,
        qkv: &CudaStorage,
        qkv_at: &Layout,
        rows: &CudaStorage,
        _: &Layout,
    ) -> Result<()> {
        let (_, slots, kv_dim) = at.shape().dims3()?;
        launch::store(self.0, cache, qkv, rows, qkv_at.shape().dims2()?.0, [kv_dim, slots])
    }
}

/// Where things lie in the numbers that go along with a forward.
///
/// First (position, slot) of each row; then for each picked row its row, and begin and length of its prefix and of
/// its own positions in the list of blocks; then the picked rows, those of a prompt together; then the blocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) queries: usize,
    pub(super) order: usize,
    pub(super) blocks: usize,
    /// Picked rows, padding included.
    pub(super) picked: usize,
}

impl Places {
    /// The slots that a query sees, in the order of positions; `query` is its five of the `numbers`.
    pub(super) fn walk<'a>(&self, numbers: &'a [u32], query: &[u32; 5]) -> impl Iterator<Item = usize> + 'a {
        let [_, prefix, prefix_len, own, own_len] = query.map(|number| number as usize);
        let blocks = &numbers[self.blocks..];
        let slots =
            move |begin: usize, len| (0..len).map(move |i| blocks[begin + i / BLOCK] as usize * BLOCK + i % BLOCK);
        slots(prefix, prefix_len).chain(slots(own, own_len))
    }
}

/// Causal attention of the picked rows over their positions in the cache (2, slots, kv_dim), with queries from qkv
/// (rows, dim + 2 kv_dim) and the numbers that [`Places`] tells of → (picked, dim).
pub(super) struct Attention<'a> {
    ops: &'a Ops,
    places: Places,
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        qkv: &CpuStorage,
        qkv_at: &Layout,
        cache: &CpuStorage,
        cache_at: &Layout,
        plan: &CpuStorage,
        plan_at: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (&Ops { dim, head_dim, .. }, places) = (self.ops, self.places);
        let (_, slots, kv_dim) = cache_at.shape().dims3()?;
        let (qkv, plan) = (floats(qkv, qkv_at)?, numbers(plan, plan_at)?);
        let (keys, values) = floats(cache, cache_at)?.split_at(slots * kv_dim);
        let mut all = vec![0f32; places.picked * dim];
        self.ops.with_table(|table| {
            for (out, query) in all.chunks_exact_mut(dim).zip(plan[places.queries..].as_chunks::<5>().0) {
                let row = query[0] as usize;
                if query[0] == NONE {
                    continue;
                }
                let slots: Vec<usize> = places.walk(plan, query).collect();
                for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
                    let part = head / (dim / kv_dim) * head_dim;
                    let query = &qkv[row * (dim + 2 * kv_dim) + head * head_dim..][..head_dim];
                    let position = plan[2 * row] as usize;
                    let pairs = query.as_chunks::<2>().0.iter().enumerate();
                    let query: Vec<f32> =
                        pairs.flat_map(|(i, &pair)| turned(pair, table, head_dim, position, i)).collect();
                    let score = |&slot: &usize| {
                        let key = &keys[slot * kv_dim + part..][..head_dim];
                        crate::model::math::dot(&query, key) / (head_dim as f32).sqrt()
                    };
                    let scores: Vec<f32> = slots.iter().map(score).collect();
                    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let weights: Vec<f32> = scores.iter().map(|&score| crate::model::exp(score - largest)).collect();
                    let total: f32 = weights.iter().sum();
                    for (slot, weight) in slots.iter().zip(&weights) {
                        let value = &values[slot * kv_dim + part..][..head_dim];
                        out.iter_mut().zip(value).for_each(|(out, v)| *out += weight * v);
                    }
                    out.iter_mut().for_each(|v| *v /= total);
                }
            }
            Ok(())
        })?;
        Ok((CpuStorage::F32(all), Shape::from((places.picked, dim))))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        qkv: &CudaStorage,
        _: &Layout,
        cache: &CudaStorage,
        cache_at: &Layout,
        plan: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (_, slots, kv_dim) = cache_at.shape().dims3()?;
        let out = launch::attention(self.ops, qkv, cache, plan, self.places, [kv_dim, slots])?;
        Ok((out, Shape::from((self.places.picked, self.ops.dim))))
    }
}

/// Chooses a token for each draw from logits (rows, vocab): [`crate::model::device::Draw`] as four numbers each → ids.
#[cfg(feature = "cuda")]
pub(super) struct DrawTokens<'a> {
    pub(super) ops: &'a Ops,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
}

#[cfg(feature = "cuda")]
impl CustomOp2 for DrawTokens<'_> {
    fn name(&self) -> &'static str {
        "draw"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        bail!("tokens are drawn on the CPU by the sampler")
    }

    fn cuda_fwd(
        &self,
        logits: &CudaStorage,
        at: &Layout,
        draws: &CudaStorage,
        of: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let (_, vocab) = at.shape().dims2()?;
        let count = of.shape().elem_count() / 4;
        let out = launch::draw(self.ops, logits, draws, (count, vocab), self.temperature, self.top_p)?;
        Ok((out, Shape::from(count)))
    }
}

/// x Wᵀ: (rows, width) × (out, width) → (rows, out).
pub(super) fn multiply(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    x.matmul(&weight.t()?)
}
