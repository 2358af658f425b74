//! Checkpoints: open, inspect, discover.
//!
//! A `.pt` file is a zip archive of a pickle and the tensors' bytes. [`Checkpoint::open`] reads
//! the pickle alone, so that a 13 GB file is inspected in a moment; [`Checkpoint::read_f32`]
//! then reads one tensor straight from its place. No pickle is executed, and a truncated,
//! corrupt or hostile file gives an error, never a panic or a tensor of zeros.
//!
//! From the file to the values: `archive` finds zip members, `pickle` builds inert data, `plain`
//! and `pt` give it meaning, `tensor` reads values.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod archive;
mod discover;
mod pickle;
mod plain;
mod pt;
mod tensor;

pub use discover::{best, existing, matching};
pub use tensor::{DType, TensorInfo};

/// What a checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every weight of a model.
    Full,
    /// Low-rank changes to a base model's trunk, and whole extra heads. Such a file can be
    /// opened and inspected; its weights are of use only with those of its base model.
    Lora,
}

/// An open checkpoint. The file stays open, so all of it comes from the same file even if a
/// trainer puts a new one in its place.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where it was opened.
    pub path: PathBuf,
    /// Whole model or LoRA.
    pub kind: Kind,
    /// Epochs trained so far; a fraction if saved within one.
    pub epoch: Option<f64>,
    /// As the trainer named them (`train_loss`); what is no number is left out.
    pub train_metrics: BTreeMap<String, f64>,
    /// As the trainer named them (`val_loss`); what is no number is left out.
    pub val_metrics: BTreeMap<String, f64>,
    /// The trainer's configuration; null if it saved none.
    pub config: serde_json::Value,
    /// By name, without the prefixes `module.`, `transformer.` and `_orig_mod.` of wrappers.
    /// In a LoRA file the extra heads' names begin with `extra_heads.`, the value head's with
    /// `value_head.`, as in a full one.
    pub tensors: BTreeMap<String, TensorInfo>,
    file: File,
}

impl Checkpoint {
    /// Opens a `.pt` file and reads all but the tensors' values. Each tensor's bytes are known
    /// to be there when this returns.
    ///
    /// # Errors
    /// If the file is missing, a folder, not a zip archive written by torch.save, truncated or
    /// damaged, has no state dict, or has a tensor that passk cannot read.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let path = existing(path)?;
        let file = File::open(&path).map_err(|cause| unreadable(&path, cause.into()))?;
        let contents = pt::read(&file).map_err(|trouble| unreadable(&path, trouble))?;
        let pt::Contents { kind, epoch, train_metrics, val_metrics, config, tensors } = contents;
        Ok(Self { path, kind, epoch, train_metrics, val_metrics, config, tensors, file })
    }

    /// The values of a tensor in row-major order, whatever its strides. Every type is converted
    /// to its nearest f32.
    ///
    /// # Errors
    /// If there is no such tensor, or its bytes cannot be read or fail their checksum.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, CheckpointError> {
        let elements = self.tensor(name)?.elements();
        let mut values = Vec::new();
        if values.try_reserve_exact(elements).is_err() {
            let trouble = format!("tensor {name}: no memory for its {elements} elements");
            return Err(unreadable(&self.path, trouble.into()));
        }
        values.resize(elements, 0.0);
        self.read_f32_into(name, &mut values)?;
        Ok(values)
    }

    /// As [`read_f32`](Self::read_f32), into memory that is there already: a part of a larger matrix, say.
    ///
    /// # Errors
    /// As `read_f32`; also if `values` has not as many elements as the tensor. `values` may hold anything then.
    pub fn read_f32_into(&self, name: &str, values: &mut [f32]) -> Result<(), CheckpointError> {
        let tensor = self.tensor(name)?;
        let read = match tensor.elements() == values.len() {
            true => tensor.read_f32(&self.file, values),
            false => Err(format!("it has {} elements, not {}", tensor.elements(), values.len()).into()),
        };
        read.map_err(|trouble| unreadable(&self.path, trouble.of(&format!("tensor {name}"))))
    }

    fn tensor(&self, name: &str) -> Result<&TensorInfo, CheckpointError> {
        let missing = || unreadable(&self.path, format!("tensor {name}: there is no such tensor").into());
        self.tensors.get(name).ok_or_else(missing)
    }

    /// Number of parameters: elements of floating-point tensors, tied ones counted once and the
    /// value head not at all.
    pub fn parameters(&self) -> u64 {
        let mut counted = HashSet::new();
        let weights = self.weights().map(|(_, tensor)| tensor);
        let parameters = weights.filter(|tensor| tensor.dtype.is_float() && counted.insert(tensor.place()));
        parameters.map(|tensor| tensor.elements() as u64).sum()
    }

    /// BLAKE3 of the whole file, in hex.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn digest(&self) -> Result<String, CheckpointError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut buffer, at) {
                Ok(0) => return Ok(hasher.finalize().to_hex().to_string()),
                Ok(length) => {
                    hasher.update(&buffer[..length]);
                    at += length as u64;
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(unreadable(&self.path, cause.into())),
            }
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

    /// Checks that the weights are those of a model: every `(name, shape)` is there, and nothing
    /// else but perhaps a value head.
    ///
    /// # Errors
    /// [`CheckpointError::Mismatch`] if they are not.
    pub fn expect(&self, expected: &[(String, Vec<usize>)]) -> Result<(), CheckpointError> {
        let names: HashSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        let unexpected = self.weights().filter(|(name, _)| !names.contains(name)).map(|(name, _)| name.to_owned());
        let (mut missing, mut misshapen) = (Vec::new(), Vec::new());
        for (name, shape) in expected {
            match self.tensors.get(name) {
                None => missing.push(name.clone()),
                Some(tensor) if tensor.shape != *shape => {
                    misshapen.push(format!("{name} {:?} instead of {shape:?}", tensor.shape))
                }
                Some(_) => {}
            }
        }
        let mismatch = Mismatch { missing, unexpected: unexpected.collect(), misshapen };
        if mismatch == Mismatch::default() {
            return Ok(());
        }
        Err(CheckpointError::Mismatch { path: self.path.clone(), mismatch: Box::new(mismatch) })
    }

    /// Tensors that count: all but the value head, which sampling has no use for.
    fn weights(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
            .filter(|(name, _)| !name.starts_with("value_head."))
    }
}

/// Why a checkpoint cannot be found, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// There is no such file.
    #[error("failed to find the checkpoint `{}`: {found}", path.display())]
    NotFound {
        /// What was asked for; its last part may be a pattern.
        path: PathBuf,
        /// What is there instead.
        found: String,
    },
    /// There is no such folder of checkpoints.
    #[error("unknown pipeline `{pipeline}`: {found}")]
    UnknownPipeline {
        /// What was asked for.
        pipeline: String,
        /// What is there instead.
        found: String,
    },
    /// A pattern that is no glob.
    #[error("failed to read the pattern `{pattern}`: {cause}")]
    Pattern {
        /// What was asked for.
        pattern: String,
        /// What is wrong with it.
        cause: glob::PatternError,
    },
    /// The file is not a checkpoint, is damaged, or holds what passk does not read.
    #[error("failed to read `{}`: {trouble}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        trouble: String,
    },
    /// The weights are not those of the model.
    #[error("failed to use `{}`: its weights are not those of the model; {mismatch}", path.display())]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// How they differ.
        mismatch: Box<Mismatch>,
    },
}

/// How a checkpoint's tensors differ from those of a model.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Names the model has and the checkpoint has not.
    pub missing: Vec<String>,
    /// Names the checkpoint has and the model has not.
    pub unexpected: Vec<String>,
    /// Names both have, with the two shapes.
    pub misshapen: Vec<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("missing", &self.missing), ("unexpected", &self.unexpected), ("misshapen", &self.misshapen)];
        let mut separator = "";
        for (what, names) in parts.into_iter().filter(|(_, names)| !names.is_empty()) {
            let first: Vec<&str> = names.iter().map(String::as_str).take(3).collect();
            let dots = if names.len() > first.len() { ", …" } else { "" };
            write!(f, "{separator}{} {what}: {}{dots}", names.len(), first.join(", "))?;
            separator = "; ";
        }
        Ok(())
    }
}

/// What is wrong with a file; the boundary adds which file.
#[derive(Debug)]
struct Trouble(String);

impl Trouble {
    /// Says which part of the file has the trouble.
    fn of(self, part: &str) -> Self {
        Self(format!("{part}: {}", self.0))
    }
}

impl<T: ToString> From<T> for Trouble {
    fn from(cause: T) -> Self {
        Self(cause.to_string())
    }
}

fn unreadable(path: &Path, trouble: Trouble) -> CheckpointError {
    CheckpointError::Unreadable { path: path.to_owned(), trouble: trouble.0 }
}
