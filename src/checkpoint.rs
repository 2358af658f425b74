//! Checkpoints: open, inspect, discover.
//!
//! A `.pt` file is a zip archive of a pickle and the tensors' bytes, a `.safetensors` file a JSON header and those bytes;
//! a model folder holds one such file, or several with an index. [`Checkpoint::open`] reads all but the tensors' values,
//! so that a 13 GB file is inspected in a moment. No pickle is executed, and a truncated, corrupt or hostile file gives
//! an error, never a panic or a tensor of zeros.
//!
//! The model has one door: [`Checkpoint::expect`], [`Checkpoint::rows`] and [`Checkpoint::read_f32`]. Behind it, names
//! are Meta's, low-rank changes are merged, a tied output matrix is the embedding, and Hugging Face's half-split rotary
//! rows are in interleaved order.
//!
//! From the file to the values: `source` is a file and its ranges; `archive`, `pickle`, `plain` and `pt` read the one
//! format, `safetensors` the other, `folder` puts shards together; `names` and `tensor` say what was found, `weight` and
//! `rows` make values of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

mod archive;
mod contents;
mod digest;
mod discover;
mod error;
mod folder;
mod names;
mod pickle;
mod plain;
mod pt;
mod rows;
mod safetensors;
mod source;
mod tensor;
mod weight;

use contents::Contents;
pub use contents::{Kind, Lora};
pub use discover::{best, existing, matching};
pub use error::{CheckpointError, Mismatch};
use error::{Trouble, unreadable};
pub use rows::Rows;
use source::Source;
pub use tensor::{DType, TensorInfo};

/// An open checkpoint. Its files stay open, so all of it comes from the same files even if a trainer puts new ones in
/// their place.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where it was opened: a file, or a model folder.
    pub path: PathBuf,
    /// Whole model or LoRA.
    pub kind: Kind,
    /// Epochs trained so far; a fraction if saved within one.
    pub epoch: Option<f64>,
    /// As the trainer named them (`train_loss`); what is no number is left out.
    pub train_metrics: BTreeMap<String, f64>,
    /// As the trainer named them (`val_loss`); what is no number is left out.
    pub val_metrics: BTreeMap<String, f64>,
    /// The trainer's configuration, or a model folder's; null if there is none.
    pub config: serde_json::Value,
    /// How strong its low-rank changes are, as far as it says. A flag may fill in what is missing.
    pub lora: Lora,
    /// Texts of a safetensors header.
    pub metadata: BTreeMap<String, String>,
    /// As stored, by Meta's names and without prefixes of wrappers. In a LoRA file the extra heads' names begin with
    /// `extra_heads.`, the value head's with `value_head.`, as in a full one.
    pub tensors: BTreeMap<String, TensorInfo>,
    /// What low-rank changes are added to.
    base: Option<Box<Checkpoint>>,
    /// Width of an attention head, once known.
    head_dim: Option<usize>,
    /// The output matrix is the embedding.
    tied_output: bool,
}

impl Checkpoint {
    /// Opens a `.pt` or `.safetensors` file, or a model folder, and reads all but the tensors' values. Each tensor's
    /// bytes are known to be there when this returns.
    ///
    /// # Errors
    /// If there is nothing of that name, it is neither of these, truncated or damaged, has no state dict, or has a tensor
    /// that passk cannot read.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = existing(path)?;
        if path.is_dir() {
            return Self::open_folder(&path);
        }
        let contents = open_file(&path)?;
        Ok(Self::new(path, contents))
    }

    /// Opens the weights of a model folder: one file, or the shards of an index.
    ///
    /// # Errors
    /// If it has none, or as [`open`](Self::open).
    pub fn open_folder(path: &Path) -> Result<Self, CheckpointError> {
        let Some(weights) = folder::weights_of(path) else {
            return Err(CheckpointError::NoWeights { path: path.to_owned(), looked_for: &folder::WEIGHTS });
        };
        Ok(Self::new(path.to_owned(), folder::read(path, &weights)?))
    }

    fn new(path: PathBuf, contents: Contents) -> Self {
        let Contents { kind, epoch, train_metrics, val_metrics, config, lora, metadata, tensors } = contents;
        Self {
            path,
            kind,
            epoch,
            train_metrics,
            val_metrics,
            config,
            lora,
            metadata,
            tensors,
            base: None,
            head_dim: None,
            tied_output: false,
        }
    }

    /// Tells what the weights themselves do not say of the model: the width of its attention heads, by which Hugging
    /// Face's rotary rows are put in order, and whether its output matrix is the embedding.
    pub fn fit(&mut self, head_dim: usize, tied_output: bool) {
        (self.head_dim, self.tied_output) = (Some(head_dim), tied_output);
        if let Some(base) = &mut self.base {
            base.fit(head_dim, tied_output);
        }
    }

    /// Adds this checkpoint's low-rank changes to the weights of `base`; what this one has itself counts before the
    /// base's. Call [`fit`](Self::fit) after it.
    pub fn merge_onto(&mut self, base: Checkpoint) {
        self.base = Some(Box::new(base));
    }

    /// The base model's weights, if there are any.
    pub fn base(&self) -> Option<&Checkpoint> {
        self.base.as_deref()
    }

    /// Whether it has low-rank changes, on a base model or on matrices of its own.
    pub fn has_lora(&self) -> bool {
        self.tensors.keys().any(|name| name.ends_with(".lora_A"))
    }

    /// The values of a weight in row-major order, whatever its strides. Every type is converted to its nearest f32.
    ///
    /// # Errors
    /// If there is no such weight, or its bytes cannot be read or fail their checksum.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let weight = self.weight(name)?;
        let mut values = weight.room(name)?;
        weight.read_f32(name, &mut values)?;
        Ok(values)
    }

    /// Number of parameters: elements of floating-point tensors, tied ones counted once and the value head not at all.
    pub fn parameters(&self) -> u64 {
        let mut counted = HashSet::new();
        let tensors = self.tensors.iter().filter(|(name, _)| names::is_weight(name)).map(|(_, tensor)| tensor);
        let parameters = tensors.filter(|tensor| tensor.dtype.is_float() && counted.insert(tensor.place()));
        parameters.map(|tensor| tensor.elements() as u64).sum()
    }

    /// The files it is read from, its base model's not among them.
    pub fn files(&self) -> Vec<&Path> {
        self.sources().into_values().map(|source| source.path.as_path()).collect()
    }

    fn sources(&self) -> BTreeMap<&Path, &Source> {
        let sources = self.tensors.values().map(|tensor| &*tensor.storage.source);
        sources.map(|source| (source.path.as_path(), source)).collect()
    }

    /// BLAKE3, in hex, of the file; of the files' digests, where there are several or a base model. `progress` is told
    /// bytes done and all bytes of each file that is read; one of 64 MB or more that was read before is not read again.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn digest(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<String, CheckpointError> {
        let mut digests = Vec::new();
        for (path, source) in self.sources() {
            let digest = digest::of(source, digest::cache().as_deref(), progress);
            digests.push(digest.map_err(|trouble| unreadable(path, trouble))?);
        }
        if let Some(base) = &self.base {
            digests.push(format!("base {}", base.digest(progress)?));
        }
        match digests.as_slice() {
            [only] => Ok(only.clone()),
            all => Ok(blake3::hash(all.join("\n").as_bytes()).to_hex().to_string()),
        }
    }

    /// The model folder the trainer used: `config.model.path`.
    pub fn model_path(&self) -> Option<&str> {
        self.config.get("model")?.get("path")?.as_str()
    }

    /// The file's name without its extension: `checkpoint_best`.
    pub fn stem(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("checkpoint")
    }

    /// Checks that the weights are those of a model: every `(name, shape)` is there, and nothing else but perhaps a
    /// value head.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] if they are not; [`CheckpointError::LoraConfig`] if low-rank changes lack their rank
    /// or alpha.
    pub fn expect(&self, expected: &[(String, Vec<usize>)]) -> Result<(), CheckpointError> {
        if self.kind == Kind::Lora && self.base.is_none() {
            let trouble = "it holds low-rank changes only, and its base model was not opened";
            return Err(unreadable(&self.path, trouble.into()));
        }
        let names: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let unexpected = self.names().into_iter().filter(|name| !names.contains(name.as_str()));
        let mut mismatch = Mismatch { unexpected: unexpected.collect(), ..Mismatch::default() };
        for (name, shape) in expected {
            match self.find(name) {
                None => mismatch.missing.push(name.clone()),
                Some(stored) => mismatch.misshapen.extend(stored.misshapen(name, shape)),
            }
        }
        if mismatch != Mismatch::default() {
            return Err(CheckpointError::Mismatch { path: self.path.clone(), mismatch: Box::new(mismatch) });
        }
        // Only now, when the parts are known to be those of a model.
        expected.iter().try_for_each(|(name, _)| self.weight(name).map(drop))
    }

    /// Names of the matrices it and its base have or change: all but the value head, which sampling has no use for.
    fn names(&self) -> BTreeSet<String> {
        let weights = self.tensors.keys().filter(|name| names::is_weight(name));
        let mut names: BTreeSet<String> = weights.map(|name| names::matrix_of(name)).collect();
        names.extend(self.base.iter().flat_map(|base| base.names()));
        names
    }
}

/// Reads everything but the tensors' values of a file in either format.
fn open_file(path: &Path) -> Result<Contents, CheckpointError> {
    let read = || -> Result<Contents, Trouble> {
        let source = Source::open(path)?;
        let mut start = [0; 16];
        let start = &mut start[..source.bytes.min(16) as usize];
        source.read_exact(0, start)?;
        match safetensors::looks_like(start) {
            true => safetensors::read(&source),
            false => pt::read(&source),
        }
    };
    read().map_err(|trouble| unreadable(path, trouble))
}
