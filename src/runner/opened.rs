//! A checkpoint and its model folder, put together as the settings say.

use std::path::{Path, PathBuf};

use super::RunnerError;
use crate::args::Settings;
use crate::checkpoint::{Checkpoint, Kind};
use crate::model::{CONFIG_FILES, Config, find_folder};

/// Opens a checkpoint file or model folder. Low-rank changes are put on the weights of the model folder; that all
/// weights are those of its model is checked.
pub(super) fn open(path: &Path, settings: &Settings) -> Result<(Checkpoint, PathBuf), RunnerError> {
    let mut checkpoint = Checkpoint::open(path)?;
    let folder = folder_of(&checkpoint, settings)?;
    if checkpoint.kind == Kind::Lora {
        checkpoint.merge_onto(Checkpoint::open_folder(&folder)?);
    }
    if checkpoint.has_lora() {
        state("--lora-rank", &mut checkpoint.lora.rank, settings.lora_rank, path)?;
        state("--lora-alpha", &mut checkpoint.lora.alpha, settings.lora_alpha, path)?;
    }
    let config = Config::from_folder(&folder)?;
    checkpoint.fit(config.head_dim(), config.tied_output);
    checkpoint.expect(&config.tensors())?;
    Ok((checkpoint, folder))
}

/// A flag fills in what the checkpoint does not say, and does not contradict it.
fn state<T: Copy + PartialEq + std::fmt::Display>(
    flag: &str,
    stated: &mut Option<T>,
    given: Option<T>,
    path: &Path,
) -> Result<(), RunnerError> {
    match (*stated, given) {
        (Some(stated), Some(given)) if stated != given => Err(RunnerError::Misfit(format!(
            "{flag} is {given} and the lora_config of `{}` says {stated}: leave the flag out",
            path.display()
        ))),
        (stated_before, given) => {
            *stated = stated_before.or(given);
            Ok(())
        }
    }
}

/// The model folder of a checkpoint: the one that a flag names, the one it is itself, the one its trainer used, or the
/// one it lies in.
fn folder_of(checkpoint: &Checkpoint, settings: &Settings) -> Result<PathBuf, RunnerError> {
    if let Some(folder) = &settings.model_dir {
        return Ok(find_folder(&folder.to_string_lossy(), &[PathBuf::new()])?);
    }
    if checkpoint.path.is_dir() {
        return Ok(checkpoint.path.clone());
    }
    if let Some(path) = checkpoint.model_path() {
        return folder(path, settings);
    }
    let around = checkpoint.path.parent().filter(|folder| CONFIG_FILES.iter().any(|name| folder.join(name).is_file()));
    around.map(Path::to_owned).ok_or_else(|| {
        RunnerError::Misfit(format!(
            "checkpoint `{}` names no model folder (config.model.path): give it with --model-dir",
            checkpoint.path.display()
        ))
    })
}

/// A model folder as it was named: absolute, or relative to where the storage root lies or to the working folder.
pub(super) fn folder(named: &str, settings: &Settings) -> Result<PathBuf, RunnerError> {
    let parent = settings.storage.parent().unwrap_or(Path::new("")).to_owned();
    let here = PathBuf::new();
    let roots = if parent == here { vec![here] } else { vec![parent, here] };
    Ok(find_folder(named, &roots)?)
}
