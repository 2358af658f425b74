//! `.safetensors` files: a JSON header that says where each tensor lies, and the tensors' bytes.
//!
//! The header alone is read, by the format's own rules: ranges follow each other without holes to the end of the file.
//! The crate of the format wants all of the file in memory or mapped, and has no bound on the header below 100 MB.
//!
//! The format's metadata are texts. passk understands those of the names that trainers use in `.pt` files (`epoch`,
//! `config`, `train_metrics`, `val_metrics`, `lora_config`, as JSON), and single metrics (`val_loss`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};
use serde_json::Value as Json;

use super::contents::{Contents, Lora, MAX_AXES};
use super::source::{Range, Source};
use super::tensor::{DType, TensorInfo};
use super::{Kind, Trouble, names};

/// Far above any real header: one of 700 tensors has 100 kB.
const MAX_HEADER_BYTES: u64 = 8 << 20;
const PREFIX_BYTES: u64 = 8;

/// Whether a file that begins like this is in the format.
pub(super) fn looks_like(start: &[u8]) -> bool {
    start.get(8) == Some(&b'{')
}

/// Reads everything but the tensors' values.
pub(super) fn read(source: &Arc<Source>) -> Result<Contents, Trouble> {
    let mut length = [0; PREFIX_BYTES as usize];
    source.read_exact(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header of {length} bytes is larger than any checkpoint's").into());
    }
    let data = PREFIX_BYTES + length;
    if data > source.bytes {
        return Err("its header ends beyond the file; the file is truncated or damaged; copy it again".into());
    }
    let mut header = vec![0; length as usize];
    source.read_exact(PREFIX_BYTES, &mut header)?;
    let header: WireHeader = serde_json::from_slice(&header).map_err(|error| format!("its header: {error}"))?;

    let mut ends = Vec::with_capacity(header.tensors.len());
    let mut tensors = BTreeMap::new();
    for (stored, wire) in header.tensors {
        let mut tensor = tensor(&wire, data, source).map_err(|trouble| trouble.of(&format!("tensor {stored}")))?;
        ends.push(wire.data_offsets);
        let (name, halves) = names::meta_name(&stored);
        tensor.halves = halves;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(format!("it has two tensors for {name}").into());
        }
    }
    ends.sort_unstable();
    let mut at = 0;
    for (begin, end) in ends {
        if begin != at {
            return Err(format!("its tensors overlap or leave a hole at byte {at}").into());
        }
        at = end;
    }
    if data.checked_add(at) != Some(source.bytes) {
        let held = source.bytes - data;
        return Err(format!(
            "its tensors need {at} bytes and it has {held}; the file is truncated or damaged; copy it again"
        )
        .into());
    }
    if tensors.is_empty() {
        return Err("it holds no tensors".into());
    }
    let metadata = header.metadata.unwrap_or_default();
    let json = |key: &str| metadata.get(key).and_then(|text| serde_json::from_str::<Json>(text).ok());
    Ok(Contents {
        kind: Kind::of(&tensors),
        epoch: metadata.get("epoch").and_then(|text| text.trim().parse().ok()),
        train_metrics: metrics(&metadata, "train_"),
        val_metrics: metrics(&metadata, "val_"),
        config: json("config").unwrap_or(Json::Null),
        lora: json("lora_config").map_or(Lora::default(), |config| Lora::from_json(&config)),
        metadata,
        tensors,
    })
}

fn tensor(wire: &WireTensor, data: u64, source: &Arc<Source>) -> Result<TensorInfo, Trouble> {
    let dtype = DType::of_safetensors(&wire.dtype).ok_or_else(|| {
        let known = "save it as f32, f16 or bf16";
        format!("{} is not a type passk reads; {known}", wire.dtype.chars().take(40).collect::<String>())
    })?;
    if wire.shape.len() > MAX_AXES {
        return Err(format!("it has {} axes", wire.shape.len()).into());
    }
    let (begin, end) = wire.data_offsets;
    let size = end.checked_sub(begin).ok_or("it ends before it begins")?;
    let start = data.checked_add(begin).filter(|start| start.checked_add(size).is_some_and(|end| end <= source.bytes));
    let start = start.ok_or("it ends beyond the file; the file is truncated or damaged; copy it again")?;
    let mut strides = vec![1_usize; wire.shape.len()];
    for axis in (1..wire.shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(wire.shape[axis].max(1));
    }
    let range = Range { source: Arc::clone(source), start, size, crc32: 0 };
    let tensor = TensorInfo::new(dtype, range, 0, wire.shape.clone(), strides)?;
    let bytes = tensor.elements() as u64 * dtype.size_in_bytes() as u64;
    match bytes == size {
        true => Ok(tensor),
        false => Err(format!("its shape needs {bytes} bytes and it has {size}").into()),
    }
}

/// The numbers among the metadata, by name or in a dict of all.
fn metrics(metadata: &BTreeMap<String, String>, prefix: &str) -> BTreeMap<String, f64> {
    let single = metadata.iter().filter(|(name, _)| name.starts_with(prefix));
    let mut metrics: BTreeMap<String, f64> =
        single.filter_map(|(name, text)| Some((name.clone(), text.trim().parse().ok()?))).collect();
    let all = metadata.get(&format!("{prefix}metrics")).and_then(|text| serde_json::from_str::<Json>(text).ok());
    for (name, value) in all.as_ref().and_then(Json::as_object).into_iter().flatten() {
        metrics.extend(value.as_f64().map(|value| (name.clone(), value)));
    }
    metrics
}

#[derive(Deserialize)]
struct WireTensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

struct WireHeader {
    metadata: Option<BTreeMap<String, String>>,
    tensors: BTreeMap<String, WireTensor>,
}

impl<'de> Deserialize<'de> for WireHeader {
    /// A map of tensors with one foreign entry. By hand, since a derived reader would take the last of two tensors of
    /// one name.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = WireHeader;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WireHeader, A::Error> {
                let mut header = WireHeader { metadata: None, tensors: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                        continue;
                    }
                    let tensor = map.next_value()?;
                    if header.tensors.insert(name.clone(), tensor).is_some() {
                        return Err(A::Error::custom(format!("two tensors called {name}")));
                    }
                }
                Ok(header)
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
