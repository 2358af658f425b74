//! Pickled values as plain ones: numbers, paths, JSON, words for a message.

use std::path::PathBuf;

use half::f16;
use serde_json::Value as Json;

use super::Trouble;
use super::pickle::{Pickle, Value};

// Aliases can make a small pickle stand for enormous values, so what is copied out is bounded.
const MAX_DEPTH: usize = 64;
/// Values and bytes of text, taken together.
const MAX_SIZE: usize = 1 << 20;
const MAX_PATH_PARTS: usize = 64;
const MAX_PART_BYTES: usize = 1024;

impl<'p> Pickle<'p> {
    /// A Python number or a numpy scalar.
    pub(super) fn scalar(&self, value: Value<'p>) -> Option<f64> {
        match value {
            Value::Bool(b) => Some(b.into()),
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => self.numpy_scalar(value),
        }
    }

    /// A configuration as JSON: what JSON cannot say (`inf`, a class) becomes a string.
    pub(super) fn json(&self, value: Value<'p>) -> Result<Json, Trouble> {
        self.json_within(value, MAX_DEPTH, &mut { MAX_SIZE })
    }

    fn numpy_scalar(&self, value: Value<'p>) -> Option<f64> {
        // Before and since numpy 2.
        let args = ["numpy.core.multiarray", "numpy._core.multiarray"]
            .iter()
            .find_map(|module| self.calls(value, module, &["scalar"]));
        let [dtype, data] = args? else { return None };
        let [Value::Str(dtype), ..] = self.calls(*dtype, "numpy", &["dtype"])? else {
            return None;
        };
        // Protocol 2 has no bytes: Python writes them as text to be encoded.
        let bytes = match (data, self.calls(*data, "_codecs", &["encode"])) {
            (Value::Bytes(bytes), _) if bytes.len() <= 8 => bytes.to_vec(),
            (_, Some([Value::Str(text), Value::Str("latin1")])) if text.len() <= 16 => {
                text.chars().map(|c| u8::try_from(c).ok()).collect::<Option<_>>()?
            }
            _ => return None,
        };
        Some(match *dtype {
            "f8" => f64::from_le_bytes(bytes.try_into().ok()?),
            "f4" => f32::from_le_bytes(bytes.try_into().ok()?).into(),
            "f2" => f16::from_le_bytes(bytes.try_into().ok()?).into(),
            "i8" => i64::from_le_bytes(bytes.try_into().ok()?) as f64,
            "i4" => i32::from_le_bytes(bytes.try_into().ok()?).into(),
            _ => return None,
        })
    }

    fn json_within(&self, value: Value<'p>, depth: usize, budget: &mut usize) -> Result<Json, Trouble> {
        let depth = depth.checked_sub(1).ok_or("its config is nested too deep")?;
        let mut spend = |size| {
            *budget = budget.checked_sub(size).ok_or("its config is too large")?;
            Ok::<_, Trouble>(())
        };
        spend(1)?;
        Ok(match value {
            Value::None => Json::Null,
            Value::Bool(b) => b.into(),
            Value::Int(i) => i.into(),
            Value::Float(f) if f.is_finite() => f.into(),
            Value::Float(f) => f.to_string().into(),
            Value::Str(s) => {
                spend(s.len())?;
                s.into()
            }
            Value::BigInt | Value::Bytes(_) => self.describe(value).into(),
            Value::Node(_) => {
                if let Some(path) = self.path(value) {
                    spend(path.len())?;
                    return Ok(path.into());
                }
                if let Some(number) = self.numpy_scalar(value) {
                    return Ok(number.into());
                }
                if let Some([lengths]) = self.calls(value, "torch", &["Size"]) {
                    return self.json_within(*lengths, depth, budget);
                }
                if let Some(members) = self.sequence(value) {
                    return members.iter().map(|&member| self.json_within(member, depth, budget)).collect();
                }
                if let Some(entries) = self.entries(value) {
                    let entry = |&(key, value): &(Value<'p>, Value<'p>)| {
                        let key = match self.json_within(key, depth, budget)? {
                            Json::String(key) => key,
                            key => key.to_string(),
                        };
                        Ok((key, self.json_within(value, depth, budget)?))
                    };
                    return entries.iter().map(entry).collect::<Result<_, Trouble>>().map(Json::Object);
                }
                // A namespace or dataclass is what is in it.
                if let Some(state) = self.object(value).and_then(|object| object.state) {
                    return self.json_within(state, depth, budget);
                }
                match self.global(value) {
                    Some(("torch", dtype)) => dtype.into(),
                    _ => self.describe(value).into(),
                }
            }
        })
    }

    /// A `pathlib` path, pickled as its parts.
    fn path(&self, value: Value<'p>) -> Option<String> {
        let (module, class) = self.maker(value)?;
        if !module.starts_with("pathlib") || !class.ends_with("Path") {
            return None;
        }
        let parts = self.calls(value, module, &[class])?;
        if parts.len() > MAX_PATH_PARTS {
            return None;
        }
        let parts = parts.iter().map(|part| match part {
            Value::Str(part) if part.len() <= MAX_PART_BYTES => Some(*part),
            _ => None,
        });
        let path: PathBuf = parts.collect::<Option<_>>()?;
        path.to_str().map(str::to_owned)
    }

    /// A value for a message or for a reader's eyes.
    pub(super) fn describe(&self, value: Value<'p>) -> String {
        match value {
            Value::None => "None".to_owned(),
            Value::Bool(b) => b.to_string(),
            Value::Int(i) => i.to_string(),
            Value::BigInt => "a large integer".to_owned(),
            Value::Float(f) => f.to_string(),
            Value::Str(s) => s.chars().take(80).collect(),
            Value::Bytes(_) => "bytes".to_owned(),
            Value::Node(_) if self.sequence(value).is_some() => "a list".to_owned(),
            Value::Node(_) => match self.global(value).or_else(|| self.maker(value)) {
                Some((module, name)) => format!("{module}.{name}").chars().take(80).collect(),
                None => "a dict".to_owned(),
            },
        }
    }
}
