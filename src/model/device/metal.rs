//! Apple's GPU, through candle.

use candle_core::Device;

use crate::model::ModelError;

/// Whether this build can run on Apple's GPUs.
pub const METAL_BUILT: bool = cfg!(feature = "metal");

/// What records call an Apple GPU.
pub const METAL: &str = "metal";

/// Opens the machine's GPU.
///
/// # Errors
/// There is none, or this build has no Metal.
pub fn open_metal() -> Result<Device, ModelError> {
    Device::new_metal(0).map_err(|error| match error.into() {
        ModelError::Device(trouble) => ModelError::Device(format!("{METAL} cannot be used: {trouble}")),
        other => other,
    })
}
