//! A checkpoint's weights on their way to a device.

use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;

use super::ModelError;
use crate::checkpoint::Checkpoint;
use crate::model::weights::check;

/// Numbers that are read and converted at a time.
const RUN: usize = 1 << 14;

/// All values of the weight `name`, a matrix or a vector of this shape, on `device`. They are read, checked and converted
/// a few rows at a time, so that the host never holds more of a stored matrix than its numbers in the device's type.
pub(super) fn weight(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
    dtype: DType,
    device: &Device,
) -> Result<Tensor, ModelError> {
    let values = match dtype {
        DType::BF16 => host(converted(checkpoint, name, shape, bf16::from_f32)?),
        DType::F16 => host(converted(checkpoint, name, shape, f16::from_f32)?),
        _ => host(converted(checkpoint, name, shape, |value| value)?),
    };
    Ok(values?.to_dtype(dtype)?.to_device(device)?)
}

fn host<T: WithDType>(values: Vec<T>) -> candle_core::Result<Tensor> {
    let count = values.len();
    Tensor::from_vec(values, count, &Device::Cpu)
}

fn converted<T: WithDType>(
    checkpoint: &Checkpoint,
    name: &str,
    shape: &[usize],
    convert: impl Fn(f32) -> T + Sync,
) -> Result<Vec<T>, ModelError> {
    let rows = checkpoint.rows(name)?;
    let width: usize = shape[1..].iter().product();
    let at_once = (RUN / width).max(1);
    let mut all = vec![T::zero(); shape.iter().product()];
    let runs = all.par_chunks_mut(at_once * width).enumerate();
    runs.try_for_each_init(Vec::new, |values: &mut Vec<f32>, (number, run)| {
        values.resize(run.len(), 0.0);
        rows.read(number * at_once, values)?;
        run.iter_mut().zip(&*values).for_each(|(to, value)| *to = convert(*value));
        check(name, values)
    })?;
    rows.finish()?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Every weight of a real checkpoint, in every type, as converting all of it at once has it.
    #[test]
    fn runs_make_the_whole() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("storage/micro/checkpoints/baseline");
        let checkpoint = Checkpoint::open(&folder.join("checkpoint_best.pt")).unwrap();
        let shapes: [(&str, &[usize]); 3] = [
            ("tok_embeddings.weight", &[512, 128]),
            ("layers.0.feed_forward.w2.weight", &[128, 352]),
            ("norm.weight", &[128]),
        ];
        for (name, shape) in shapes {
            let values = checkpoint.read_f32(name).unwrap();
            let count = values.len();
            for dtype in [DType::F32, DType::BF16, DType::F16] {
                let whole = Tensor::from_vec(values.clone(), count, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
                let runs = weight(&checkpoint, name, shape, dtype, &Device::Cpu).unwrap();
                assert_eq!(runs.dtype(), dtype);
                let bits = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(bits(&runs), bits(&whole), "{name} in {dtype:?}");
            }
        }
    }
}
