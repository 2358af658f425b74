//! Tensors of a checkpoint: what they are, where they lie, and their values as f32.

use std::fmt;
use std::fs::File;

use half::{bf16, f16};

use super::Trouble;
use super::archive::Member;

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
}

impl DType {
    /// From the name of torch's storage class: `FloatStorage` is f32.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        Some(match class {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            "BoolStorage" => Self::Bool,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn size_in_bytes(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether elements are floating-point numbers, as weights are.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// Writes little-endian elements to `values`, which has room for exactly all of them, each as its nearest f32.
    fn decode(self, bytes: &[u8], values: &mut [f32]) {
        fn each<const N: usize>(bytes: &[u8], values: &mut [f32], convert: impl Fn([u8; N]) -> f32) {
            values.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(value, &b)| *value = convert(b));
        }
        match self {
            Self::F64 => each(bytes, values, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, values, f32::from_le_bytes),
            Self::F16 => each(bytes, values, |b| f16::from_le_bytes(b).to_f32()),
            Self::BF16 => each(bytes, values, |b| bf16::from_le_bytes(b).to_f32()),
            Self::I64 => each(bytes, values, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each(bytes, values, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each(bytes, values, |b| i16::from_le_bytes(b).into()),
            Self::I8 => each(bytes, values, |b| i8::from_le_bytes(b).into()),
            Self::U8 | Self::Bool => each(bytes, values, |[b]| b.into()),
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I16 => "i16",
            Self::I8 => "i8",
            Self::U8 => "u8",
            Self::Bool => "bool",
        })
    }
}

/// A tensor as the checkpoint describes it. Its values are read by
/// [`Checkpoint::read_f32`](super::Checkpoint::read_f32).
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Element type in the file.
    pub dtype: DType,
    /// Length of each axis, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements from one index of an axis to the next.
    strides: Vec<usize>,
    elements: usize,
    /// Elements from the first to the last, both counted: `elements` unless it is a view.
    span: usize,
    storage: Member,
    /// Byte of the file where the first element lies.
    start: u64,
}

impl TensorInfo {
    /// A view into `storage`, `offset` elements from its beginning. Fails if it reaches beyond.
    pub(super) fn new(
        dtype: DType,
        storage: Member,
        offset: usize,
        shape: Vec<usize>,
        mut strides: Vec<usize>,
    ) -> Result<Self, Trouble> {
        if shape.len() != strides.len() {
            return Err("its shape and strides differ in length".into());
        }
        // No step is ever taken along an axis of length 1, so its stride may be anything.
        for (stride, length) in strides.iter_mut().zip(&shape) {
            if *length <= 1 {
                *stride = 0;
            }
        }
        let sized = || -> Option<(usize, usize, usize)> {
            let elements = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))?;
            if elements == 0 {
                return Some((0, 0, 0));
            }
            let last =
                shape.iter().zip(&strides).try_fold(0_usize, |n, (d, s)| n.checked_add((d - 1).checked_mul(*s)?))?;
            let span = last.checked_add(1)?;
            let end = offset.checked_add(span)?.checked_mul(dtype.size_in_bytes())?;
            Some((elements, span, end))
        };
        let (elements, span, end) = sized().ok_or("its shape is larger than any memory")?;
        if end as u64 > storage.size {
            let size = storage.size;
            return Err(format!("it needs {end} bytes and its storage has {size}").into());
        }
        let start = if elements == 0 { storage.start } else { storage.start + (offset * dtype.size_in_bytes()) as u64 };
        Ok(Self { dtype, shape, strides, elements, span, storage, start })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Where its elements lie: two tensors of the same place are tied.
    pub(super) fn place(&self) -> (u64, &[usize], &[usize]) {
        (self.start, &self.shape, &self.strides)
    }

    /// The values in row-major order, into `values`, which has room for exactly all of them.
    pub(super) fn read_f32(&self, file: &File, values: &mut [f32]) -> Result<(), Trouble> {
        if self.elements == 0 {
            return Ok(());
        }
        // An expanded tensor repeats its storage; without this a small file could ask for any amount.
        if self.elements as u64 > self.storage.size / self.dtype.size_in_bytes() as u64 {
            return Err("it has more elements than its storage; save it after `.contiguous()`".into());
        }
        if self.is_contiguous() {
            return self.read_span(file, values);
        }
        let mut stored = Vec::new();
        stored.try_reserve_exact(self.span).map_err(|_| format!("no memory for its {} elements", self.span))?;
        stored.resize(self.span, 0.0);
        self.read_span(file, &mut stored)?;
        let mut index = vec![0; self.shape.len()];
        let mut at = 0;
        for value in values {
            *value = stored[at];
            // Count up `index` like an odometer, moving `at` by the strides.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * index[axis];
                index[axis] = 0;
            }
        }
        Ok(())
    }

    /// What lies from the first element to the last.
    fn read_span(&self, file: &File, values: &mut [f32]) -> Result<(), Trouble> {
        if self.dtype == DType::F32 && cfg!(target_endian = "little") {
            return self.storage.read_into(file, self.start, bytemuck::cast_slice_mut(values));
        }
        let element = self.dtype.size_in_bytes();
        let mut rest = values;
        self.storage.read(file, self.start, (self.span * element) as u64, |chunk| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(chunk.len() / element);
            self.dtype.decode(chunk, now);
            rest = later;
        })
    }

    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&length, &stride)| {
            let fits = length <= 1 || stride == expected;
            expected *= length;
            fits
        })
    }
}
