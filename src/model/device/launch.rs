//! Opens CUDA devices, starts the kernels of `kernels.cu` on them, and captures what was started.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaSlice, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDType, CudaDevice};
use candle_core::{CudaStorage, DType, Device, Error, Result, Storage, bail};
use half::{bf16, f16};

use super::graphs::{Recorder, Recording};
use super::ops::{Ops, Places};

/// Opens a device on a stream of its own, for whichever thread works with it.
pub(super) fn open(ordinal: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(ordinal)?;
    // SAFETY: events would order the uses of memory among streams, and there is this one alone. They cost a launch's
    // time each, and a capture cannot wait for one from outside.
    #[allow(unsafe_code)]
    unsafe {
        device.as_cuda_device()?.disable_event_tracking();
    }
    Ok(device)
}

/// Captures what is started on a device's stream.
pub(super) struct Capture(pub(super) CudaDevice);

impl Recorder for Capture {
    fn prepare(&self, step: &dyn Fn() -> Result<()>) -> Result<()> {
        // Shapes that candle tells its kernels stay on the device: a capture can point there, not copy them again.
        let _kept = self.0.enable_cuda_graph_htod_cache();
        step()
    }

    fn record(&self, step: &dyn Fn() -> Result<()>) -> Result<Box<dyn Recording>> {
        let _kept = self.0.enable_cuda_graph_htod_cache();
        let stream = self.0.cuda_stream();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(Error::wrap)?;
        // All that is allocated in between is freed in between: the result is copied to where it is wanted.
        let stepped = step();
        let ended = stream.end_capture(CUgraphInstantiate_flags(0));
        // An error of freeing in a capture that failed is kept for the next call, which it has nothing to do with.
        let freed = stream.context().check_err();
        stepped?;
        match ended.and_then(|graph| freed.map(|()| graph)).map_err(Error::wrap)? {
            Some(graph) => Ok(Box::new(Captured(graph))),
            None => bail!("nothing was captured"),
        }
    }
}

/// What was captured. It points to tensors of the model, the cache and the [`Graphs`](super::graphs::Graphs) that it
/// belongs to, and is launched with the same ones alone.
struct Captured(CudaGraph);

impl Recording for Captured {
    fn replay(&self, _: &dyn Fn() -> Result<()>) -> Result<()> {
        self.0.launch().map_err(Error::wrap)
    }
}

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
        let pack =
            (0..4).map(|i| 8 >> i).find(|pack| head_dim.is_multiple_of(*pack) && pack * dtype.size_in_bytes() <= 16);
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

/// Evaluates `$body` with `$element` as the element type that `$dtype` names.
macro_rules! typed {
    ($dtype:expr, $element:ident => $body:expr) => {{
        match $dtype {
            DType::F32 => {
                type $element = f32;
                $body
            }
            DType::F16 => {
                type $element = f16;
                $body
            }
            DType::BF16 => {
                type $element = bf16;
                $body
            }
            other => bail!("there are no kernels for {other:?}"),
        }
    }};
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

/// Sizes as the kernels take them.
fn narrow<const N: usize>(sizes: [usize; N]) -> [u32; N] {
    sizes.map(|size| size as u32)
}

pub(super) fn fill(to: &mut CudaStorage, numbers: &[u32]) -> Result<()> {
    let device = to.device().clone();
    match to.as_cuda_slice_mut::<u32>()?.try_slice_mut(..numbers.len()) {
        Some(mut front) => device.memcpy_htod(numbers, &mut front),
        None => bail!("no room for {} numbers", numbers.len()),
    }
}

pub(super) fn add(ops: &Ops, x: &mut CudaStorage, y: &CudaStorage, count: usize) -> Result<()> {
    let x = x.as_cuda_slice_mut::<f32>()?;
    let (over, [count]) = (grid(count.div_ceil(THREADS), 1), narrow([count]));
    typed!(y.dtype(), T => start!(ops, y, "add", over, x, y.as_cuda_slice::<T>()?, &count));
    Ok(())
}

pub(super) fn norm(
    ops: &Ops,
    x: &CudaStorage,
    weight: &CudaStorage,
    (rows, dim): (usize, usize),
) -> Result<CudaStorage> {
    let (from, weight) = (x.as_cuda_slice::<f32>()?, weight.as_cuda_slice::<f32>()?);
    let (over, [width]) = (grid(rows, 1), narrow([dim]));
    typed!(ops.dtype, T => {
        let mut out = room::<T>(x.device(), rows * dim)?;
        start!(ops, x, "rms_norm", over, from, weight, &mut out, &width, &ops.eps);
        Ok(CudaStorage::wrap_cuda_slice(out, x.device().clone()))
    })
}

pub(super) fn swiglu(ops: &Ops, both: &CudaStorage, rows: usize, hidden: usize) -> Result<CudaStorage> {
    let count = rows * hidden;
    let (over, [width, all]) = (grid(count.div_ceil(THREADS), 1), narrow([hidden, count]));
    typed!(both.dtype(), T => {
        let mut out = room::<T>(both.device(), count)?;
        start!(ops, both, "swiglu", over, both.as_cuda_slice::<T>()?, &mut out, &width, &all);
        Ok(CudaStorage::wrap_cuda_slice(out, both.device().clone()))
    })
}

/// `sizes`: kv_dim and slots.
pub(super) fn store(
    ops: &Ops,
    cache: &mut CudaStorage,
    qkv: &CudaStorage,
    places: &CudaStorage,
    rows: usize,
    sizes: [usize; 2],
) -> Result<()> {
    let places = places.as_cuda_slice::<u32>()?;
    let (over, [dim], [kv_dim, slots]) = (grid(rows, 1), narrow([ops.dim]), narrow(sizes));
    with_table(ops, |table| {
        typed!(qkv.dtype(), T => {
            let (cache, from) = (cache.as_cuda_slice_mut::<T>()?, qkv.as_cuda_slice::<T>()?);
            start!(ops, qkv, "store", over, cache, from, table, places, &dim, &kv_dim, &slots);
        });
        Ok(())
    })
}

/// `sizes`: kv_dim and slots.
pub(super) fn attention(
    ops: &Ops,
    qkv: &CudaStorage,
    cache: &CudaStorage,
    plan: &CudaStorage,
    places: Places,
    sizes: [usize; 2],
) -> Result<CudaStorage> {
    let plan = plan.as_cuda_slice::<u32>()?;
    let ([dim], [kv_dim, slots]) = (narrow([ops.dim]), narrow(sizes));
    let [queries, order, blocks, picked] = narrow([places.queries, places.order, places.blocks, places.picked]);
    let over = grid(places.picked.div_ceil(THREADS / 32), ops.dim / ops.head_dim);
    with_table(ops, |table| {
        typed!(qkv.dtype(), T => {
            // Zeros: rows that pad the picked ones are not written, and are multiplied afterwards.
            let mut out = qkv.device().alloc_zeros::<T>(places.picked * ops.dim)?;
            let (from, cache) = (qkv.as_cuda_slice::<T>()?, cache.as_cuda_slice::<T>()?);
            #[rustfmt::skip]
            start!(
                ops, qkv, "attention", over, &mut out, from, cache, table, plan, &queries, &order, &blocks, &picked,
                &dim, &kv_dim, &slots,
            );
            Ok(CudaStorage::wrap_cuda_slice(out, qkv.device().clone()))
        })
    })
}

pub(super) fn draw(
    ops: &Ops,
    logits: &CudaStorage,
    draws: &CudaStorage,
    (count, vocab): (usize, usize),
    temperature: f64,
    top_p: f64,
) -> Result<CudaStorage> {
    let draws = draws.as_cuda_slice::<u32>()?;
    let mut out = room::<u32>(logits.device(), count)?;
    let (over, [vocab], temperature) = (grid(count, 1), narrow([vocab]), temperature as f32);
    typed!(logits.dtype(), T => {
        let from = logits.as_cuda_slice::<T>()?;
        start!(ops, logits, "draw", over, from, draws, &mut out, &vocab, &temperature, &top_p);
    });
    Ok(CudaStorage::wrap_cuda_slice(out, logits.device().clone()))
}
