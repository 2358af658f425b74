//! Tensors of a checkpoint: what they are, where they lie, and their values as f32.

use std::fmt;
use std::path::Path;

use half::{bf16, f16};

use super::Trouble;
use super::source::{Range, Sum};

/// Element type of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    F8E5M2,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    C64,
    C128,
}

/// Type, bytes of an element, name; and the names of torch's storage class, torch's dtype and safetensors.
type Row = (DType, usize, &'static str, &'static str, &'static str, &'static str);
const DTYPES: [Row; 17] = [
    (DType::F64, 8, "f64", "DoubleStorage", "float64", "F64"),
    (DType::F32, 4, "f32", "FloatStorage", "float32", "F32"),
    (DType::F16, 2, "f16", "HalfStorage", "float16", "F16"),
    (DType::BF16, 2, "bf16", "BFloat16Storage", "bfloat16", "BF16"),
    (DType::F8E4M3, 1, "f8_e4m3", "Float8_e4m3fnStorage", "float8_e4m3fn", "F8_E4M3"),
    (DType::F8E5M2, 1, "f8_e5m2", "Float8_e5m2Storage", "float8_e5m2", "F8_E5M2"),
    (DType::I64, 8, "i64", "LongStorage", "int64", "I64"),
    (DType::I32, 4, "i32", "IntStorage", "int32", "I32"),
    (DType::I16, 2, "i16", "ShortStorage", "int16", "I16"),
    (DType::I8, 1, "i8", "CharStorage", "int8", "I8"),
    (DType::U64, 8, "u64", "UInt64Storage", "uint64", "U64"),
    (DType::U32, 4, "u32", "UInt32Storage", "uint32", "U32"),
    (DType::U16, 2, "u16", "UInt16Storage", "uint16", "U16"),
    (DType::U8, 1, "u8", "ByteStorage", "uint8", "U8"),
    (DType::Bool, 1, "bool", "BoolStorage", "bool", "BOOL"),
    (DType::C64, 8, "c64", "ComplexFloatStorage", "complex64", "C64"),
    (DType::C128, 16, "c128", "ComplexDoubleStorage", "complex128", "C128"),
];

impl DType {
    fn row(self) -> &'static Row {
        // Every type has its row, as a test holds; the first is as good as any for one that had none.
        DTYPES.iter().find(|row| row.0 == self).unwrap_or(&DTYPES[0])
    }

    /// From the name of torch's storage class: `FloatStorage` is f32.
    pub(super) fn of_storage(class: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.3 == class).map(|row| row.0)
    }

    /// From torch's name of the type itself: `float32`.
    pub(super) fn of_torch(name: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.4 == name).map(|row| row.0)
    }

    /// From the name in a safetensors header: `F32`.
    pub(super) fn of_safetensors(name: &str) -> Option<Self> {
        DTYPES.iter().find(|row| row.5 == name).map(|row| row.0)
    }

    /// Bytes of one element.
    pub fn size_in_bytes(self) -> usize {
        self.row().1
    }

    /// Whether elements are floating-point numbers, as weights are.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::F8E5M2)
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
            Self::F8E4M3 => each(bytes, values, |[b]| f32_of_e4m3(b)),
            // The upper half of an f16.
            Self::F8E5M2 => each(bytes, values, |[b]| f16::from_bits(u16::from(b) << 8).to_f32()),
            Self::I64 => each(bytes, values, |b| i64::from_le_bytes(b) as f32),
            Self::I32 => each(bytes, values, |b| i32::from_le_bytes(b) as f32),
            Self::I16 => each(bytes, values, |b| i16::from_le_bytes(b).into()),
            Self::I8 => each(bytes, values, |b| i8::from_le_bytes(b).into()),
            Self::U64 => each(bytes, values, |b| u64::from_le_bytes(b) as f32),
            Self::U32 => each(bytes, values, |b| u32::from_le_bytes(b) as f32),
            Self::U16 => each(bytes, values, |b| u16::from_le_bytes(b).into()),
            Self::U8 | Self::Bool => each(bytes, values, |[b]| b.into()),
            // Refused before.
            Self::C64 | Self::C128 => values.fill(f32::NAN),
        }
    }
}

/// Sign, four bits of exponent with bias 7, three of mantissa; no infinity, and only all ones is no number (Micikevicius
/// et al. 2022, arXiv 2209.05433, table 1).
fn f32_of_e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f32::NAN,
        (0, _) => mantissa / 512.0, // 2⁻⁶ · m/8
        _ => (1.0 + mantissa / 8.0) * f32::from_bits(((exponent - 7 + 127) as u32) << 23),
    };
    if byte >= 0x80 { -magnitude } else { magnitude }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.row().2)
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
    pub(super) storage: Range,
    /// Byte of the file where the first element lies.
    start: u64,
    /// The rows are in Hugging Face's rotary order: a head's first halves of all pairs, then the second ones.
    pub(super) halves: bool,
}

impl TensorInfo {
    /// A view into `storage`, `offset` elements from its beginning. Fails if it reaches beyond.
    pub(super) fn new(
        dtype: DType,
        storage: Range,
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
        Ok(Self { dtype, shape, strides, elements, span, storage, start, halves: false })
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Where its elements lie: two tensors of the same place are tied.
    pub(super) fn place(&self) -> (&Path, u64, &[usize], &[usize]) {
        (&self.storage.source.path, self.start, &self.shape, &self.strides)
    }

    /// Whether its values can be read: to be asked before room is made for them.
    pub(super) fn readable(&self) -> Result<(), Trouble> {
        if matches!(self.dtype, DType::C64 | DType::C128) {
            return Err(format!("it is complex ({}); no weight is", self.dtype).into());
        }
        // An expanded tensor repeats its storage; without this a small file could ask for any amount.
        if self.elements as u64 > self.storage.size / self.dtype.size_in_bytes() as u64 {
            return Err("it has more elements than its storage; save it after `.contiguous()`".into());
        }
        Ok(())
    }

    /// The values in row-major order, into `values`, which has room for exactly all of them.
    pub(super) fn read_f32(&self, values: &mut [f32]) -> Result<(), Trouble> {
        self.readable()?;
        if self.elements == 0 {
            return Ok(());
        }
        if self.is_contiguous() {
            return self.read_span(values);
        }
        let mut stored = Vec::new();
        stored.try_reserve_exact(self.span).map_err(|_| format!("no memory for its {} elements", self.span))?;
        stored.resize(self.span, 0.0);
        self.read_span(&mut stored)?;
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
    fn read_span(&self, values: &mut [f32]) -> Result<(), Trouble> {
        let element = self.dtype.size_in_bytes();
        self.storage.in_parts(self.start, element, values, |start, values, sum| self.read_at(start, values, sum))
    }

    /// The elements from the `first` on of a tensor that is contiguous and readable, by one thread.
    pub(super) fn read_run(&self, first: usize, values: &mut [f32], sum: &mut Sum) -> Result<(), Trouble> {
        self.read_at(self.start + (first * self.dtype.size_in_bytes()) as u64, values, sum)
    }

    fn read_at(&self, start: u64, values: &mut [f32], sum: &mut Sum) -> Result<(), Trouble> {
        if self.dtype == DType::F32 && cfg!(target_endian = "little") {
            return self.storage.read_run_into(start, bytemuck::cast_slice_mut(values), sum);
        }
        let element = self.dtype.size_in_bytes();
        self.storage.read_run(start, element, values, sum, |bytes, values| self.dtype.decode(bytes, values))
    }

    /// What is to be added up while all elements of a contiguous tensor are read.
    pub(super) fn sum(&self) -> Sum {
        self.storage.sum(self.start, (self.elements * self.dtype.size_in_bytes()) as u64)
    }

    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&length, &stride)| {
            let fits = length <= 1 || stride == expected;
            expected *= length;
            fits
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_row() {
        use DType::*;
        for (at, dtype) in [F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U64, U32, U16, U8, Bool, C64, C128]
            .iter()
            .enumerate()
        {
            assert_eq!(*dtype, DTYPES[at].0);
        }
    }

    /// What torch 2.15 converts these bytes to.
    #[test]
    fn eight_bit_floats() {
        let check = |dtype: DType, cases: &[(u8, f32)]| {
            for &(byte, expected) in cases {
                let mut value = [0.0];
                dtype.decode(&[byte], &mut value);
                assert!(value[0] == expected || value[0].is_nan() && expected.is_nan(), "{dtype} {byte:#x}: {value:?}");
            }
        };
        let e4m3 = [
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x07, 0.013671875),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0x3b, 1.375),
            (0xb8, -1.0),
            (0x7e, 448.0),
            (0x7f, f32::NAN),
        ];
        let e5m2 =
            [(0x01, 1.525_878_9e-5), (0x3c, 1.0), (0x3e, 1.5), (0xbd, -1.25), (0x7b, 57344.0), (0x7c, f32::INFINITY)];
        check(DType::F8E4M3, &e4m3);
        check(DType::F8E5M2, &e5m2);
    }
}
