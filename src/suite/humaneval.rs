//! HumanEval (Chen et al. 2021): 164 functions to be completed from signature and docstring.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Suite;
use crate::dataset::{self, DatasetError, Source};
use crate::task::{Check, Task};

/// The HumanEval benchmark, fetched by `passk fetch humaneval`.
pub struct HumanEval;

impl Suite for HumanEval {
    fn name(&self) -> &str {
        SOURCE.name
    }

    fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError> {
        dataset::load(storage, self.name(), parse)
    }
}

pub(super) const SOURCE: Source = Source {
    name: "humaneval",
    url: "https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz",
    sha256: "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    process,
};

/// A row as published.
#[derive(Deserialize)]
struct WirePublished {
    task_id: String,
    prompt: String,
    entry_point: String,
    canonical_solution: String,
    test: String,
}

/// A row in the processed form that the trainers' data preparation writes.
#[derive(Serialize, Deserialize)]
struct WireProcessed {
    instruction: String,
    #[serde(default)]
    input: String,
    output: String,
    task_id: String,
    metadata: WireMetadata,
}

#[derive(Serialize, Deserialize)]
struct WireMetadata {
    #[serde(default)]
    source: String,
    test: String,
    entry_point: String,
    #[serde(default)]
    has_tests: bool,
}

impl From<WirePublished> for WireProcessed {
    fn from(row: WirePublished) -> WireProcessed {
        WireProcessed {
            instruction: row.prompt,
            input: String::new(),
            output: row.canonical_solution,
            task_id: row.task_id,
            metadata: WireMetadata {
                source: SOURCE.name.to_owned(),
                test: row.test,
                entry_point: row.entry_point,
                has_tests: true,
            },
        }
    }
}

fn process(line: &str) -> Result<String, String> {
    let row: WirePublished = serde_json::from_str(line).map_err(|error| error.to_string())?;
    serde_json::to_string(&WireProcessed::from(row)).map_err(|error| error.to_string())
}

/// A line in either form → a task.
pub(super) fn parse(line: &str) -> Result<Task, String> {
    let published = serde_json::from_str::<WirePublished>(line).map(WireProcessed::from);
    let row = match published {
        Ok(row) => row,
        Err(_) => serde_json::from_str::<WireProcessed>(line).map_err(|error| error.to_string())?,
    };
    let WireMetadata { test, entry_point, .. } = row.metadata;
    if test.trim().is_empty() {
        return Err(format!("task `{}` has no test", row.task_id));
    }
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    if entry_point.is_empty() || !entry_point.chars().all(is_name) {
        return Err(format!("task `{}` has no entry point", row.task_id));
    }
    Ok(Task {
        id: row.task_id.into(),
        prompt: row.instruction,
        canonical: Some(row.output).filter(|output| !output.trim().is_empty()),
        check: Check::Function { test, entry_point },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLISHED: &str = r#"{"task_id": "T/0", "prompt": "def f():\n", "entry_point": "f",
        "canonical_solution": "    return 1\n", "test": "def check(candidate):\n    assert candidate() == 1\n"}"#;

    #[test]
    fn both_forms_give_the_same_task() {
        assert_eq!(parse(PUBLISHED).unwrap(), parse(&process(PUBLISHED).unwrap()).unwrap());
    }

    #[test]
    fn broken_rows_say_what_is_wrong() {
        let check = |line: &str, expected: &str| {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        };
        check("{", "EOF");
        check(r#"{"instruction": "x", "output": "", "metadata": {}}"#, "missing field");
        check(&PUBLISHED.replace("def check(candidate):\\n    assert candidate() == 1\\n", ""), "`T/0` has no test");
        check(&PUBLISHED.replace(r#""entry_point": "f""#, r#""entry_point": "f(""#), "no entry point");
    }
}
