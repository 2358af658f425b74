//! What holds on this machine, and why the rest does not.

use serde::Serialize;

use super::{Isolation, Jail, JailError, JailOptions, Limits, Python, Start};

/// One level, tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LevelReport {
    /// The level.
    pub level: Isolation,
    /// Whether it holds.
    pub holds: bool,
    /// What it is made of here.
    pub mechanisms: Vec<String>,
    /// Canaries that were held, by name.
    pub held: Vec<String>,
    /// Canaries that got through, with what they did; or why the level could not be tried.
    pub missing: Vec<String>,
}

impl LevelReport {
    /// A level that promises nothing.
    pub(super) fn unproven(level: Isolation) -> LevelReport {
        let mechanisms = vec!["rlimits".into(), "process groups".into()];
        LevelReport { level, holds: true, mechanisms, held: Vec::new(), missing: Vec::new() }
    }

    /// `21/21`: how many of the canaries were held.
    pub fn score(&self) -> String {
        format!("{}/{}", self.held.len(), self.held.len() + self.missing.len())
    }
}

/// `full: no cgroup may be made here; namespaces: …`.
pub(super) fn in_words(missing: &[(Isolation, String)]) -> String {
    let words: Vec<String> = missing.iter().map(|(level, why)| format!("{level}: {why}")).collect();
    words.join("; ")
}

/// Every level, strongest first.
#[derive(Clone, Debug, Serialize)]
pub struct Survey {
    /// The interpreter.
    pub python: Python,
    /// How it was started.
    pub start: Start,
    /// What was found.
    pub levels: Vec<LevelReport>,
}

/// Tries every level but `none`.
///
/// # Errors
/// When there is no interpreter, or an empty program does not pass.
pub fn survey(python: &Python, start: Start) -> Result<Survey, JailError> {
    let mut levels = Vec::new();
    for level in Isolation::OFFERED {
        let limits = Limits::for_cpu(std::time::Duration::from_secs(10));
        let options = JailOptions { isolation: Some(level), start, ..JailOptions::default() };
        levels.push(match Jail::new(python.clone(), limits, options) {
            Ok(jail) => jail.report().clone(),
            Err(JailError::Level { level, why }) => {
                LevelReport { holds: false, mechanisms: Vec::new(), missing: vec![why], ..LevelReport::unproven(level) }
            }
            Err(error) => return Err(error),
        });
    }
    Ok(Survey { python: python.clone(), start, levels })
}
