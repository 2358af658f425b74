//! Starts the kernels of `kernels.cu` on CUDA.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr, LaunchConfig, PushKernelArg, ValidAsZeroBits};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{CudaStorage, DType, Error, Result, Storage, bail};
use half::{bf16, f16};

use super::ops::{Ops, Places};

/// The kernels, compiled for one element type and head size.
#[derive(Clone)]
pub(super) struct Kernels {
    ptx: String,
    module: String,
}

impl Kernels {
    /// Compiles them with NVRTC.
    pub(super) fn compile(_: &CudaDevice, dtype: DType, head_dim: usize) -> Result<Kernels> {
        let element = match dtype {
            DType::F32 => "float",
            DType::F16 => "Half",
            DType::BF16 => "Bfloat",
            _ => bail!("there are no kernels for {dtype:?}"),
        };
        // As many as 16 bytes hold, and as a head divides into.
        let pack = (0..4).map(|i| 8 >> i).find(|pack| head_dim % pack == 0 && pack * dtype.size_in_bytes() <= 16);
        let options = CompileOptions {
            // Runs on whatever is newer; nothing here needs more.
            arch: Some("compute_80"),
            // As on the CPU: no multiplication and addition is fused that is not written so.
            fmad: Some(false),
            options: vec![
                format!("-DELEMENT={element}"),
                format!("-DPACK={}", pack.unwrap_or(1)),
                format!("-DHEAD_DIM={head_dim}"),
                "--std=c++17".to_owned(),
            ],
            ..CompileOptions::default()
        };
        let ptx = compile_ptx_with_opts(include_str!("kernels.cu"), options).map_err(Error::wrap)?;
        Ok(Kernels { ptx: ptx.to_src(), module: format!("passk_{element}_{head_dim}") })
    }
}

/// Threads of a block; kernels.cu counts on it.
const THREADS: usize = 256;

/// A block of threads for each of (blocks, others).
fn grid(blocks: usize, others: usize) -> LaunchConfig {
    let block_dim = (THREADS as u32, 1, 1);
    LaunchConfig { grid_dim: (blocks as u32, others as u32, 1), block_dim, shared_mem_bytes: 0 }
}

/// Calls a generic function for an element type.
macro_rules! typed {
    ($dtype:expr, $function:ident($($argument:expr),* $(,)?)) => {
        match $dtype {
            DType::F32 => $function::<f32>($($argument),*),
            DType::F16 => $function::<f16>($($argument),*),
            DType::BF16 => $function::<bf16>($($argument),*),
            other => bail!("there are no kernels for {other:?}"),
        }
    };
}

/// Starts kernel `$name` on the device of `$storage` over `$grid` with `$argument`s, in the order of its parameters.
macro_rules! start {
    ($ops:expr, $storage:expr, $name:literal, $grid:expr, $($argument:expr),* $(,)?) => {{
        let kernels = $ops.kernels()?;
        let function = $storage.device().get_or_load_custom_func($name, &kernels.module, &kernels.ptx)?;
        let mut builder = function.builder();
        $(builder.arg($argument);)*
        // SAFETY: the arguments are those of the kernel in kernels.cu, and every index it computes from them lies
        // inside the tensors whose shapes they say.
        #[allow(unsafe_code)]
        unsafe { builder.launch($grid) }.map_err(Error::wrap)?;
    }};
}

fn with_table<R>(ops: &Ops, f: impl FnOnce(&CudaSlice<f32>) -> Result<R>) -> Result<R> {
    let (storage, _) = ops.table.storage_and_layout();
    match &*storage {
        Storage::Cuda(table) => f(table.as_cuda_slice::<f32>()?),
        _ => bail!("the rotary table is not on the device"),
    }
}

/// Room for `count` elements, every one of which the kernel that follows writes.
fn room<T: CudaDType + DeviceRepr>(device: &CudaDevice, count: usize) -> Result<CudaSlice<T>> {
    // SAFETY: as said above; nothing reads an element before.
    #[allow(unsafe_code)]
    unsafe {
        device.alloc::<T>(count)
    }
}

pub(super) fn add(ops: &Ops, x: &mut CudaStorage, y: &CudaStorage, count: usize) -> Result<()> {
    fn of<T: CudaDType + DeviceRepr>(ops: &Ops, x: &mut CudaStorage, y: &CudaStorage, count: usize) -> Result<()> {
        let (x, from) = (x.as_cuda_slice_mut::<f32>()?, y.as_cuda_slice::<T>()?);
        let (over, count) = (grid(count.div_ceil(THREADS), 1), count as u32);
        start!(ops, y, "add", over, x, from, &count);
        Ok(())
    }
    typed!(y.dtype(), of(ops, x, y, count))
}

pub(super) fn norm(
    ops: &Ops,
    x: &CudaStorage,
    weight: &CudaStorage,
    (rows, dim): (usize, usize),
    eps: f32,
    dtype: DType,
) -> Result<CudaStorage> {
    fn of<T: CudaDType + DeviceRepr>(
        ops: &Ops,
        x: &CudaStorage,
        weight: &CudaStorage,
        (rows, dim): (usize, usize),
        eps: f32,
    ) -> Result<CudaStorage> {
        let mut out = room::<T>(x.device(), rows * dim)?;
        let (from, weight) = (x.as_cuda_slice::<f32>()?, weight.as_cuda_slice::<f32>()?);
        let dim = dim as u32;
        start!(ops, x, "rms_norm", grid(rows, 1), from, weight, &mut out, &dim, &eps);
        Ok(CudaStorage::wrap_cuda_slice(out, x.device().clone()))
    }
    typed!(dtype, of(ops, x, weight, (rows, dim), eps))
}

pub(super) fn swiglu(ops: &Ops, both: &CudaStorage, rows: usize, hidden: usize) -> Result<CudaStorage> {
    fn of<T: CudaDType + DeviceRepr>(ops: &Ops, both: &CudaStorage, rows: usize, hidden: usize) -> Result<CudaStorage> {
        let count = rows * hidden;
        let mut out = room::<T>(both.device(), count)?;
        let from = both.as_cuda_slice::<T>()?;
        let over = grid(count.div_ceil(THREADS), 1);
        let (hidden, count) = (hidden as u32, count as u32);
        start!(ops, both, "swiglu", over, from, &mut out, &hidden, &count);
        Ok(CudaStorage::wrap_cuda_slice(out, both.device().clone()))
    }
    typed!(both.dtype(), of(ops, both, rows, hidden))
}

/// `sizes`: dim, kv_dim and slots.
pub(super) fn store(
    ops: &Ops,
    cache: &mut CudaStorage,
    qkv: &CudaStorage,
    places: &CudaStorage,
    rows: usize,
    sizes: [usize; 3],
) -> Result<()> {
    fn of<T: CudaDType + DeviceRepr>(
        ops: &Ops,
        cache: &mut CudaStorage,
        qkv: &CudaStorage,
        places: &CudaStorage,
        rows: usize,
        sizes: [usize; 3],
    ) -> Result<()> {
        let (cache, from, places) =
            (cache.as_cuda_slice_mut::<T>()?, qkv.as_cuda_slice::<T>()?, places.as_cuda_slice::<u32>()?);
        let [dim, kv_dim, slots] = sizes.map(|size| size as u32);
        with_table(ops, |table| {
            start!(ops, qkv, "store", grid(rows, 1), cache, from, table, places, &dim, &kv_dim, &slots);
            Ok(())
        })
    }
    typed!(qkv.dtype(), of(ops, cache, qkv, places, rows, sizes))
}

/// `sizes`: dim, kv_dim and slots.
pub(super) fn attention(
    ops: &Ops,
    qkv: &CudaStorage,
    cache: &CudaStorage,
    plan: &CudaStorage,
    places: Places,
    sizes: [usize; 3],
) -> Result<CudaStorage> {
    fn of<T: CudaDType + DeviceRepr + ValidAsZeroBits>(
        ops: &Ops,
        qkv: &CudaStorage,
        cache: &CudaStorage,
        plan: &CudaStorage,
        places: Places,
        sizes: [usize; 3],
    ) -> Result<CudaStorage> {
        // Zeros: rows that pad the picked ones are not written, and are multiplied afterwards.
        let mut out = qkv.device().alloc_zeros::<T>(places.picked * sizes[0])?;
        let (from, cache, plan) =
            (qkv.as_cuda_slice::<T>()?, cache.as_cuda_slice::<T>()?, plan.as_cuda_slice::<u32>()?);
        let [dim, kv_dim, slots] = sizes.map(|size| size as u32);
        let [queries, order, blocks, picked] =
            [places.queries, places.order, places.blocks, places.picked].map(|place| place as u32);
        let over = grid(places.picked.div_ceil(THREADS / 32), sizes[0] / ops.head_dim);
        with_table(ops, |table| {
            start!(
                ops,
                qkv,
                "attention",
                over,
                &mut out,
                from,
                cache,
                table,
                plan,
                &queries,
                &order,
                &blocks,
                &picked,
                &dim,
                &kv_dim,
                &slots,
            );
            Ok(())
        })?;
        Ok(CudaStorage::wrap_cuda_slice(out, qkv.device().clone()))
    }
    typed!(qkv.dtype(), of(ops, qkv, cache, plan, places, sizes))
}

pub(super) fn draw(
    ops: &Ops,
    logits: &CudaStorage,
    draws: &CudaStorage,
    (count, vocab): (usize, usize),
    temperature: f64,
    top_p: f64,
) -> Result<CudaStorage> {
    fn of<T: CudaDType + DeviceRepr>(
        ops: &Ops,
        logits: &CudaStorage,
        draws: &CudaStorage,
        (count, vocab): (usize, usize),
        temperature: f64,
        top_p: f64,
    ) -> Result<CudaStorage> {
        let mut out = room::<u32>(logits.device(), count)?;
        let (from, draws) = (logits.as_cuda_slice::<T>()?, draws.as_cuda_slice::<u32>()?);
        let (vocab, temperature) = (vocab as u32, temperature as f32);
        start!(ops, logits, "draw", grid(count, 1), from, draws, &mut out, &vocab, &temperature, &top_p);
        Ok(CudaStorage::wrap_cuda_slice(out, logits.device().clone()))
    }
    typed!(logits.dtype(), of(ops, logits, draws, (count, vocab), temperature, top_p))
}
