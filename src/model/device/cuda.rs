//! Which CUDA devices there are, and the types that models have on them.

use candle_core::{DType, Device};

use crate::checkpoint::Checkpoint;
use crate::model::ModelError;

/// Whether this build can run on CUDA devices.
pub const BUILT: bool = cfg!(feature = "cuda");

/// Type of weights, activations and cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// Brain float: 16 bits with f32's range.
    Bf16,
    /// 16 bits with half of f32's exponent.
    F16,
}

impl Dtype {
    /// The type that a checkpoint's embeddings have; f32 when it is none of ours.
    pub fn native(checkpoint: &Checkpoint) -> Dtype {
        match checkpoint.tensors.get("tok_embeddings.weight").map(|tensor| tensor.dtype) {
            Some(crate::checkpoint::DType::BF16) => Dtype::Bf16,
            Some(crate::checkpoint::DType::F16) => Dtype::F16,
            _ => Dtype::F32,
        }
    }
}

impl From<Dtype> for DType {
    fn from(dtype: Dtype) -> DType {
        match dtype {
            Dtype::F32 => DType::F32,
            Dtype::Bf16 => DType::BF16,
            Dtype::F16 => DType::F16,
        }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(DType::from(*self).as_str())
    }
}

/// CUDA devices that can be used; none in a build without CUDA.
pub fn count() -> usize {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        CudaContext::device_count().map_or(0, |count| count.max(0) as usize)
    }
    #[cfg(not(feature = "cuda"))]
    0
}

/// Opens a CUDA device.
///
/// # Errors
/// There is none of that number, its driver is too old, or this build has no CUDA.
pub fn open(ordinal: usize) -> Result<Device, ModelError> {
    #[cfg(feature = "cuda")]
    let device = super::launch::open(ordinal);
    #[cfg(not(feature = "cuda"))]
    let device = Device::new_cuda(ordinal);
    device.map_err(|error| unusable(ordinal, error.into()))
}

/// What records call a CUDA device: results are reproducible on those of one kind.
///
/// # Errors
/// As [`open`].
pub fn kind(ordinal: usize) -> Result<String, ModelError> {
    #[cfg(feature = "cuda")]
    {
        use candle_core::cuda_backend::cudarc::driver::CudaContext;
        let capability = CudaContext::new(ordinal).and_then(|context| context.compute_capability());
        let (major, minor) = capability.map_err(|error| unusable(ordinal, ModelError::Device(error.to_string())))?;
        Ok(format!("cuda-sm_{major}{minor}"))
    }
    #[cfg(not(feature = "cuda"))]
    open(ordinal).map(|device| format!("{:?}", device.location()))
}

fn unusable(ordinal: usize, error: ModelError) -> ModelError {
    match error {
        ModelError::Device(trouble) => ModelError::Device(format!("cuda:{ordinal} cannot be used: {trouble}")),
        other => other,
    }
}
