//! The processed form that the trainers' data preparation writes, and what suites share in reading rows.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::dataset::{members, unknown_form};

/// A row in the processed form.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireProcessed {
    pub(super) instruction: String,
    #[serde(default)]
    pub(super) input: String,
    pub(super) output: String,
    pub(super) task_id: String,
    pub(super) metadata: Map<String, Value>,
}

impl WireProcessed {
    /// A line in the processed form; `forms` are all that the suite reads, for the message.
    pub(super) fn read(row: &str, forms: &str) -> Result<WireProcessed, String> {
        let names = members(row)?;
        if !names.iter().any(|(name, _)| name == "metadata") {
            return Err(unknown_form(row, forms));
        }
        serde_json::from_str(row).map_err(|error| error.to_string())
    }

    pub(super) fn write(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| error.to_string())
    }

    /// A text of the metadata; empty where there is none.
    pub(super) fn text(&self, name: &str) -> Result<String, String> {
        match self.metadata.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("task `{}`: metadata.{name} is no text", self.task_id)),
        }
    }

    /// A list of texts of the metadata.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        let bad = || format!("task `{}`: metadata.{name} is no list of texts", self.task_id);
        match self.metadata.get(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(texts)) => {
                texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(bad)).collect()
            }
            Some(_) => Err(bad()),
        }
    }

    /// The dataset's own solution; `None` for a blank one.
    pub(super) fn canonical(&self) -> Option<String> {
        Some(self.output.clone()).filter(|output| !output.trim().is_empty())
    }
}

/// Members of a row as they were published.
pub(super) struct Row<'a>(Vec<(std::borrow::Cow<'a, str>, &'a str)>);

impl<'a> Row<'a> {
    pub(super) fn read(row: &'a str) -> Result<Row<'a>, String> {
        members(row).map(Row)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(other, _)| other == name)
    }

    /// A member as it is written.
    pub(super) fn raw(&self, name: &str) -> Result<&'a str, String> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| *value).ok_or_else(|| format!("missing field `{name}`"))
    }

    /// A member's value.
    pub(super) fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T, String> {
        serde_json::from_str(self.raw(name)?).map_err(|error| format!("field `{name}`: {error}"))
    }
}

/// What can be called in Python.
pub(super) fn check_entry_point(task: &str, entry_point: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    match !entry_point.is_empty() && entry_point.chars().all(is_name) {
        true => Ok(()),
        false => Err(format!("task `{task}` has no entry point")),
    }
}
