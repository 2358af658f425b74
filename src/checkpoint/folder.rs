//! Weights of a model folder: one file, or shards with an index.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value as Json;

use super::contents::{Contents, Kind, Lora};
use super::{CheckpointError, Trouble, names, open_file, unreadable};

/// Where a folder may keep its weights; the first that is there counts.
pub(super) const WEIGHTS: [&str; 8] = [
    "safetensors/model.safetensors",
    "safetensors/model.safetensors.index.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.safetensors",
    "consolidated.00.pth",
];
/// Meta's larger models are cut in slices of every matrix.
const SLICED: &str = "consolidated.01.pth";
const MAX_JSON_BYTES: u64 = 16 << 20;

/// The file of a folder that holds its weights, or lists those that do.
pub(super) fn weights_of(folder: &Path) -> Option<PathBuf> {
    WEIGHTS.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// Reads everything but the tensors' values of the folder whose weights are at `path`.
pub(super) fn read(folder: &Path, path: &Path) -> Result<Contents, CheckpointError> {
    if folder.join(SLICED).is_file() {
        let remedy = "convert the model to safetensors";
        return Err(unreadable(folder, format!("its weights are cut in slices ({SLICED}); {remedy}").into()));
    }
    let mut contents = match path.extension().is_some_and(|extension| extension == "json") {
        true => shards(path)?,
        false => open_file(path)?,
    };
    if contents.config.is_null() {
        let configs = ["config.json", "configs/config.json"].map(|name| folder.join(name));
        contents.config = configs.iter().find_map(|path| json(path).ok()).unwrap_or(Json::Null);
    }
    Ok(contents)
}

#[derive(Deserialize)]
struct WireIndex {
    weight_map: BTreeMap<String, String>,
}

/// Every tensor of an index from the file it names.
fn shards(index: &Path) -> Result<Contents, CheckpointError> {
    let failed = |trouble: Trouble| unreadable(index, trouble);
    let wire = json(index).and_then(|json| Ok(serde_json::from_value::<WireIndex>(json)?)).map_err(failed)?;
    let folder = index.parent().unwrap_or(Path::new(""));
    let mut opened: HashMap<&str, BTreeMap<String, _>> = HashMap::new();
    let mut tensors = BTreeMap::new();
    for (stored, file) in &wire.weight_map {
        // A name, not a way out of the folder.
        if Path::new(file).file_name() != Some(file.as_ref()) {
            return Err(failed(format!("{file:?} is not the name of a file beside it").into()));
        }
        if !opened.contains_key(file.as_str()) {
            opened.insert(file, open_file(&folder.join(file))?.tensors);
        }
        let (name, _) = names::meta_name(stored);
        let tensor = opened.get_mut(file.as_str()).and_then(|shard| shard.remove(&name));
        let tensor = tensor.ok_or_else(|| failed(format!("{stored} is not in {file}, which should have it").into()))?;
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(failed(format!("it has two tensors for {name}").into()));
        }
    }
    if let Some((file, name)) = opened.iter().find_map(|(file, rest)| Some((file, rest.keys().next()?))) {
        return Err(failed(format!("{file} has {name}, which it does not list").into()));
    }
    if tensors.is_empty() {
        return Err(failed("it lists no tensors".into()));
    }
    Ok(Contents {
        kind: Kind::of(&tensors),
        epoch: None,
        train_metrics: BTreeMap::new(),
        val_metrics: BTreeMap::new(),
        config: Json::Null,
        lora: Lora::default(),
        metadata: BTreeMap::new(),
        tensors,
    })
}

fn json(path: &Path) -> Result<Json, Trouble> {
    if std::fs::metadata(path)?.len() > MAX_JSON_BYTES {
        return Err("it is larger than any such file".into());
    }
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
