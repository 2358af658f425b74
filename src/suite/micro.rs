//! The micro suite: small problems written for this project, with four trained checkpoints beside them, so that a
//! fresh clone shows the real thing in one command.

use std::path::{Path, PathBuf};

use super::Suite;
use super::humaneval::parse;
use crate::dataset::{self, DatasetError};
use crate::task::Task;

/// The micro benchmark; its rows are part of the program.
pub struct Micro;

impl Suite for Micro {
    fn name(&self) -> &str {
        "micro"
    }

    fn tasks(&self, _storage: &Path) -> Result<Vec<Task>, DatasetError> {
        let rows = include_str!("../../datasets/micro/processed/test.jsonl");
        dataset::parse_rows(rows, Path::new("datasets/micro/processed/test.jsonl"), parse)
    }

    fn checkpoints(&self, storage: &Path) -> PathBuf {
        storage.join("micro/checkpoints")
    }

    fn self_check(&self) -> bool {
        true
    }

    fn default_pipeline(&self) -> Option<&str> {
        Some("baseline")
    }
}
