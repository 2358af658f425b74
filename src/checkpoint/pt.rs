//! What torch.save's pickle means: tensors, metrics, configuration.
//!
//! This is where the inert calls of [`super::pickle`] are given their meaning: torch's tensors
//! and parameters here, numbers and configuration in [`super::plain`]. Any other call stays
//! opaque and is an error only where one of these must stand.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;

use super::archive::Archive;
use super::contents::{Contents, Lora, MAX_AXES};
use super::pickle::{Pickle, Value};
use super::source::{Range, Source};
use super::tensor::{DType, TensorInfo};
use super::{Kind, Trouble, names};

/// Far above any real pickle: a 6.7 B model with its optimizer has 0.2 MB.
const MAX_PICKLE_BYTES: u64 = 64 << 20;
const MAX_NAME_BYTES: usize = 1024;

/// Keys of the state dict, the first one present counts.
const FULL: [&str; 2] = ["model_state_dict", "adapter_state_dict"];
/// Parts of a LoRA file, and what their tensors' names begin with in a whole model.
const LORA: [(&str, &str); 3] =
    [("lora_state_dict", ""), ("extra_heads_state_dict", "extra_heads."), ("value_head_state_dict", "value_head.")];

/// Reads everything but the tensors' values.
pub(super) fn read(source: &Arc<Source>) -> Result<Contents, Trouble> {
    let archive = Archive::open(source)?;
    let member = archive.member("data.pkl")?.ok_or("the zip archive has no data.pkl")?;
    if member.size > MAX_PICKLE_BYTES {
        return Err("its pickle is larger than any checkpoint's".into());
    }
    let bytes = member.bytes().map_err(|trouble| trouble.of("the pickle"))?;
    if let Some(order) = archive.member("byteorder")?
        && order.size <= 16
        && order.bytes()? != b"little"
    {
        return Err("it is big-endian; save it again on a little-endian machine".into());
    }
    let pickle =
        Pickle::read(&bytes).map_err(|e| format!("{e}; the file is damaged or was not written by torch.save"))?;
    Reader { archive, pickle: &pickle, storages: HashMap::new() }.contents()
}

struct Reader<'p> {
    archive: Archive,
    pickle: &'p Pickle<'p>,
    /// Zip members already looked up, by key.
    storages: HashMap<&'p str, Range>,
}

impl<'p> Reader<'p> {
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
            Some(key) if !marked => {
                let tensors = self.state_dicts(&[(key, "")])?;
                (Kind::of(&tensors), tensors)
            }
            _ if self.entry(LORA[0].0).is_some() => (Kind::Lora, self.state_dicts(&LORA)?),
            _ if self.is_state_dict(root) => {
                let mut tensors = BTreeMap::new();
                self.collect("state dict", root, "", &mut tensors)?;
                (Kind::of(&tensors), tensors)
            }
            _ => return Err(self.no_state_dict().into()),
        };
        Ok(Contents {
            kind,
            epoch: self.entry("epoch").and_then(|value| self.number(value)),
            train_metrics: self.metrics("train_metrics"),
            val_metrics: self.metrics("val_metrics"),
            config: self.entry("config").map_or(Ok(Json::Null), |config| self.pickle.json(config))?,
            lora: match self.entry("lora_config") {
                Some(config) => Lora::from_json(&self.pickle.json(config)?),
                None => Lora::default(),
            },
            metadata: BTreeMap::new(),
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
            self.collect(key, state_dict, prefix, &mut tensors)?;
        }
        if tensors.is_empty() {
            return Err(format!("its {} holds no tensors", keys[0].0).into());
        }
        Ok(tensors)
    }

    /// Adds the tensors of one state dict, which is what `key` names.
    fn collect(
        &mut self,
        key: &str,
        state_dict: Value<'p>,
        prefix: &str,
        tensors: &mut BTreeMap<String, TensorInfo>,
    ) -> Result<(), Trouble> {
        let Some(entries) = self.pickle.entries(state_dict) else {
            let found = self.pickle.describe(state_dict);
            return Err(format!("{key} is {found}, not a dict").into());
        };
        for &(name, value) in entries {
            let stored = match name {
                Value::Str(name) if name.len() <= MAX_NAME_BYTES => name,
                name => {
                    let found = self.pickle.describe(name);
                    return Err(format!("{key} names a tensor {found}, not with a short text").into());
                }
            };
            let mut tensor = self.tensor(value).map_err(|trouble| trouble.of(&format!("tensor {stored}")))?;
            let (name, halves) = names::meta_name(stored);
            tensor.halves = halves;
            let name = match name.starts_with(prefix) {
                true => name,
                false => format!("{prefix}{name}"),
            };
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(format!("it has two tensors for {name}").into());
            }
        }
        Ok(())
    }

    /// Whether the file is a state dict itself: `torch.save(model.state_dict())`.
    fn is_state_dict(&self, root: Value<'p>) -> bool {
        let entries = self.pickle.entries(root).unwrap_or_default();
        !entries.is_empty() && entries.iter().all(|&(_, value)| self.rebuilt(value).is_some())
    }

    /// The arguments of what makes a plain tensor of a storage, and whether the type of its elements is one of them
    /// (`_rebuild_tensor_v3`). Parameters and tensors with attributes are plain ones inside.
    fn rebuilt(&self, value: Value<'p>) -> Option<(&'p [Value<'p>], bool)> {
        let pickle = self.pickle;
        let parameter = ["_rebuild_parameter", "_rebuild_parameter_with_state"];
        let inner = match pickle.calls(value, "torch._utils", &parameter) {
            Some([data, ..]) => *data,
            _ => value,
        };
        // function, type, arguments, attributes
        if let Some([function, class, args, _]) = pickle.calls(inner, "torch._tensor", &["_rebuild_from_type_v2"]) {
            let plain = [("torch", "Tensor"), ("torch.nn.parameter", "Parameter")];
            let known = pickle.global(*function) == Some(("torch._utils", "_rebuild_tensor_v2"));
            return (known && pickle.global(*class).is_some_and(|class| plain.contains(&class)))
                .then(|| Some((pickle.sequence(*args)?, false)))?;
        }
        let v2 = pickle.calls(inner, "torch._utils", &["_rebuild_tensor_v2"]).map(|args| (args, false));
        v2.or_else(|| Some((pickle.calls(inner, "torch._utils", &["_rebuild_tensor_v3"])?, true)))
    }

    fn tensor(&mut self, value: Value<'p>) -> Result<TensorInfo, Trouble> {
        let pickle = self.pickle;
        let Some(([storage, offset, shape, strides, rest @ ..], typed)) = self.rebuilt(value) else {
            let found = pickle.describe(value);
            return Err(format!("it is {found}, not a plain tensor").into());
        };
        // requires_grad, hooks, the type where that is an argument, and then perhaps a dict of lazy operations
        for lazy in ["neg", "conj"] {
            let flag = rest.get(2 + usize::from(typed)).and_then(|flags| pickle.get(*flags, lazy));
            if matches!(flag, Some(Value::Bool(true))) {
                return Err(format!("it is a lazy view; save it after `.resolve_{lazy}()`").into());
            }
        }
        let dtype = if typed { Some(rest.get(2).copied().unwrap_or(Value::None)) } else { None };
        let (storage, dtype) = self.storage(*storage, dtype)?;
        let (Some(offset), Some(shape), Some(strides)) = (length(offset), self.lengths(*shape), self.lengths(*strides))
        else {
            return Err("its offset, shape or strides are no lengths".into());
        };
        TensorInfo::new(dtype, storage, offset, shape, strides)
    }

    /// The zip member of a storage and the type of its elements, which the storage's class says if `dtype` does not.
    fn storage(&mut self, value: Value<'p>, dtype: Option<Value<'p>>) -> Result<(Range, DType), Trouble> {
        let pickle = self.pickle;
        let id = pickle.persistent(value).unwrap_or_default();
        let [Value::Str("storage"), class, Value::Str(key), _, elements, ..] = id else {
            return Err("its storage is not described as torch.save does".into());
        };
        let torch = |value: Value<'p>| match pickle.global(value) {
            Some(("torch" | "torch.storage", name)) => Some(name),
            _ => None,
        };
        let known = match dtype {
            Some(dtype) => torch(dtype).and_then(DType::of_torch),
            None => torch(*class).and_then(DType::of_storage),
        };
        let Some(known) = known else {
            let class = pickle.describe(dtype.unwrap_or(*class));
            let remedy = "save it as f32, f16 or bf16";
            return Err(format!("{class} is not a storage type passk reads; {remedy}").into());
        };
        let range = match self.storages.get(key) {
            Some(range) => range.clone(),
            None => {
                let Some(range) = self.archive.member(&format!("data/{key}"))? else {
                    return Err(format!("its zip member data/{key} is missing").into());
                };
                self.storages.insert(key, range.clone());
                range
            }
        };
        // A storage without a type is counted in bytes.
        let element = if dtype.is_some() { 1 } else { known.size_in_bytes() };
        let needed = length(elements).and_then(|n| n.checked_mul(element));
        if needed.is_none_or(|needed| needed as u64 > range.size) {
            let size = range.size;
            return Err(format!("its zip member data/{key} is too short ({size} bytes)").into());
        }
        Ok((range, known))
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
            (tensor.elements() == 1 && tensor.read_f32(&mut value).is_ok()).then_some(value[0].into())
        })
    }
}

fn length(value: &Value) -> Option<usize> {
    match value {
        Value::Int(i) => usize::try_from(*i).ok(),
        _ => None,
    }
}
