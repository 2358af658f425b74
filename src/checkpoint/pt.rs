//! What torch.save's pickle means: tensors, metrics, configuration.
//!
//! This is where the inert calls of [`super::pickle`] are given their meaning: torch's tensors
//! and parameters here, numbers and configuration in [`super::plain`]. Any other call stays
//! opaque and is an error only where one of these must stand.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use serde_json::Value as Json;

use super::archive::{Archive, Member};
use super::pickle::{Pickle, Value};
use super::tensor::{DType, TensorInfo};
use super::{Kind, Trouble};

/// Far above any real pickle: a 6.7 B model with its optimizer has 0.2 MB.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// No weight has more axes; torch allows 64.
const MAX_AXES: usize = 8;
const MAX_NAME_BYTES: usize = 1024;

/// Keys of the state dict, the first one present counts.
const FULL: [&str; 2] = ["model_state_dict", "adapter_state_dict"];
/// Parts of a LoRA file, and what their tensors' names begin with in a whole model.
const LORA: [(&str, &str); 3] =
    [("lora_state_dict", ""), ("extra_heads_state_dict", "extra_heads."), ("value_head_state_dict", "value_head.")];

/// What a checkpoint says of itself.
pub(super) struct Contents {
    pub(super) kind: Kind,
    pub(super) epoch: Option<f64>,
    pub(super) train_metrics: BTreeMap<String, f64>,
    pub(super) val_metrics: BTreeMap<String, f64>,
    pub(super) config: Json,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

/// Reads everything but the tensors' values.
pub(super) fn read(file: &File) -> Result<Contents, Trouble> {
    let mut archive = Archive::open(file)?;
    let member = archive.member("data.pkl")?.ok_or("the zip archive has no data.pkl")?;
    if member.size > MAX_PICKLE_BYTES {
        return Err("its pickle is larger than any checkpoint's".into());
    }
    let bytes = bytes_of(&member, file)?;
    if let Some(order) = archive.member("byteorder")?
        && order.size <= 16
        && bytes_of(&order, file)? != b"little"
    {
        return Err("it is big-endian; save it again on a little-endian machine".into());
    }
    let pickle =
        Pickle::read(&bytes).map_err(|e| format!("{e}; the file is damaged or was not written by torch.save"))?;
    Reader { file, archive, pickle: &pickle, storages: HashMap::new() }.contents()
}

fn bytes_of(member: &Member, file: &File) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    let read = member.read(file, member.start, member.size, |chunk| bytes.extend(chunk));
    read.map_err(|trouble| trouble.of("the pickle"))?;
    Ok(bytes)
}

struct Reader<'f, 'p> {
    file: &'f File,
    archive: Archive<'f>,
    pickle: &'p Pickle<'p>,
    /// Zip members already looked up, by key.
    storages: HashMap<&'p str, Member>,
}

impl<'p> Reader<'_, 'p> {
    fn contents(mut self) -> Result<Contents, Trouble> {
        let root = self.pickle.root;
        if self.pickle.entries(root).is_none() {
            let found = self.pickle.describe(root);
            let remedy = "save {\"model_state_dict\": model.state_dict()}";
            return Err(format!("it holds {found}, not a dict; {remedy}").into());
        }
        let marked = matches!(self.entry("checkpoint_type"), Some(Value::Str("lora")));
        let full = FULL.iter().find(|key| self.entry(key).is_some());
        let (kind, tensors) = match full {
            Some(key) if !marked => (Kind::Full, self.state_dicts(&[(key, "")])?),
            _ if self.entry(LORA[0].0).is_some() => (Kind::Lora, self.state_dicts(&LORA)?),
            _ => return Err(self.no_state_dict().into()),
        };
        Ok(Contents {
            kind,
            epoch: self.entry("epoch").and_then(|value| self.number(value)),
            train_metrics: self.metrics("train_metrics"),
            val_metrics: self.metrics("val_metrics"),
            config: self.entry("config").map_or(Ok(Json::Null), |config| self.pickle.json(config))?,
            tensors,
        })
    }

    /// The value of a top-level key, unless it is `None`.
    fn entry(&self, key: &str) -> Option<Value<'p>> {
        self.pickle.get(self.pickle.root, key).filter(|value| !matches!(value, Value::None))
    }

    fn no_state_dict(&self) -> String {
        let entries = self.pickle.entries(self.pickle.root).unwrap_or_default();
        let keys = entries.iter().map(|&(key, _)| self.pickle.describe(key));
        let keys: Vec<String> = keys.take(8).collect();
        let [full, adapter] = FULL;
        let lora = LORA[0].0;
        let found = keys.join(", ");
        format!("it has no state dict: none of {full}, {adapter}, {lora}, but [{found}]")
    }

    /// The tensors of the state dicts under `keys`, each with what its names begin with.
    fn state_dicts(&mut self, keys: &[(&str, &str)]) -> Result<BTreeMap<String, TensorInfo>, Trouble> {
        let mut tensors = BTreeMap::new();
        for (key, prefix) in keys {
            let Some(state_dict) = self.entry(key) else {
                continue;
            };
            let Some(entries) = self.pickle.entries(state_dict) else {
                let found = self.pickle.describe(state_dict);
                return Err(format!("{key} is {found}, not a dict").into());
            };
            for &(name, value) in entries {
                let Value::Str(name) = name else {
                    let found = self.pickle.describe(name);
                    return Err(format!("{key} names a tensor {found}, not with text").into());
                };
                let tensor = self.tensor(value);
                let tensor = tensor.map_err(|trouble| trouble.of(&format!("tensor {name}")))?;
                let name = bare_name(name);
                let name = match name.starts_with(prefix) {
                    true => name.to_owned(),
                    false => format!("{prefix}{name}"),
                };
                if tensors.contains_key(&name) {
                    return Err(format!("it has two tensors for {name}").into());
                }
                tensors.insert(name, tensor);
            }
        }
        if tensors.is_empty() {
            return Err(format!("its {} holds no tensors", keys[0].0).into());
        }
        Ok(tensors)
    }

    fn tensor(&mut self, value: Value<'p>) -> Result<TensorInfo, Trouble> {
        let pickle = self.pickle;
        let parameter = ["_rebuild_parameter", "_rebuild_parameter_with_state"];
        let inner = match pickle.calls(value, "torch._utils", &parameter) {
            Some([data, ..]) => *data,
            _ => value,
        };
        let Some([storage, offset, shape, strides, rest @ ..]) =
            pickle.calls(inner, "torch._utils", &["_rebuild_tensor_v2"])
        else {
            let found = pickle.describe(inner);
            return Err(format!("it is {found}, not a plain tensor").into());
        };
        // requires_grad, hooks, and then perhaps a dict of lazy operations
        for lazy in ["neg", "conj"] {
            let flag = rest.get(2).and_then(|flags| pickle.get(*flags, lazy));
            if matches!(flag, Some(Value::Bool(true))) {
                return Err(format!("it is a lazy view; save it after `.resolve_{lazy}()`").into());
            }
        }
        let (storage, dtype) = self.storage(*storage)?;
        let (Some(offset), Some(shape), Some(strides)) = (length(offset), self.lengths(*shape), self.lengths(*strides))
        else {
            return Err("its offset, shape or strides are no lengths".into());
        };
        TensorInfo::new(dtype, storage, offset, shape, strides)
    }

    /// The zip member of a storage and the type of its elements.
    fn storage(&mut self, value: Value<'p>) -> Result<(Member, DType), Trouble> {
        let id = self.pickle.persistent(value).unwrap_or_default();
        let [Value::Str("storage"), class, Value::Str(key), _, elements, ..] = id else {
            return Err("its storage is not described as torch.save does".into());
        };
        let dtype = match self.pickle.global(*class) {
            Some(("torch" | "torch.storage", class)) => DType::of_storage(class),
            _ => None,
        };
        let Some(dtype) = dtype else {
            let class = self.pickle.describe(*class);
            let remedy = "save it as f32, f16 or bf16";
            return Err(format!("{class} is not a storage type passk reads; {remedy}").into());
        };
        let member = match self.storages.get(key) {
            Some(member) => *member,
            None => {
                let Some(member) = self.archive.member(&format!("data/{key}"))? else {
                    return Err(format!("its zip member data/{key} is missing").into());
                };
                self.storages.insert(key, member);
                member
            }
        };
        let needed = length(elements).and_then(|n| n.checked_mul(dtype.size_in_bytes()));
        if needed.is_none_or(|needed| needed as u64 > member.size) {
            let size = member.size;
            return Err(format!("its zip member data/{key} is too short ({size} bytes)").into());
        }
        Ok((member, dtype))
    }

    fn lengths(&self, value: Value<'p>) -> Option<Vec<usize>> {
        let lengths = self.pickle.sequence(value)?;
        let few = lengths.len() <= MAX_AXES;
        few.then(|| lengths.iter().map(length).collect())?
    }

    /// The numbers of a metrics dict; what is no number is left out.
    fn metrics(&mut self, key: &str) -> BTreeMap<String, f64> {
        let pickle = self.pickle;
        let dict = self.entry(key).and_then(|dict| pickle.entries(dict));
        let mut metrics = BTreeMap::new();
        for &(name, value) in dict.unwrap_or_default() {
            if let Value::Str(name) = name
                && name.len() <= MAX_NAME_BYTES
                && let Some(number) = self.number(value)
            {
                metrics.insert(name.to_owned(), number);
            }
        }
        metrics
    }

    /// A Python number, a numpy scalar, or a tensor of one element.
    fn number(&mut self, value: Value<'p>) -> Option<f64> {
        self.pickle.scalar(value).or_else(|| {
            let tensor = self.tensor(value).ok()?;
            let mut value = [0.0];
            (tensor.elements() == 1 && tensor.read_f32(self.file, &mut value).is_ok()).then_some(value[0].into())
        })
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Int(i) => usize::try_from(*i).ok(),
        _ => None,
    }
}

/// A tensor's name without what wrappers put before it: DDP, torch.compile, the trainers' own.
fn bare_name(mut name: &str) -> &str {
    let wrappers = ["module.", "transformer.", "_orig_mod."];
    while let Some(inner) = wrappers.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = inner;
    }
    name
}
