//! HumanEval (Chen et al. 2021): 164 functions to be completed from signature and docstring.

use std::path::Path;

use serde_json::{Map, Value};

use super::Suite;
use super::plus::HumanEvalPlus;
use super::wire::{Row, WireProcessed, check_entry_point};
use crate::dataset::{self, DatasetError, Processed, Published, Source};
use crate::prompt::{EVALPLUS_STOPS, Format};
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

    fn formats(&self) -> &[Format] {
        &[Format::Raw, Format::Alpaca]
    }

    fn named_stops(&self) -> Vec<(&'static str, Vec<String>)> {
        vec![("evalplus", EVALPLUS_STOPS.map(str::to_owned).to_vec())]
    }

    fn plus(&self) -> Option<&dyn Suite> {
        Some(&HumanEvalPlus)
    }

    fn self_check(&self) -> bool {
        true
    }
}

pub(super) const SOURCE: Source = Source {
    name: "humaneval",
    files: &[Published {
        url: Some("https://github.com/openai/human-eval/raw/master/data/HumanEval.jsonl.gz"),
        file: "HumanEval.jsonl.gz",
        sha256: Some("b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"),
        unreadable: None,
        process: |bytes, path| Processed::from_rows(bytes, path, process),
    }],
};

const FORMS: &str = "processed: instruction, output, task_id, metadata; HumanEval: task_id, prompt, entry_point, canonical_solution, test";

fn process(row: &str) -> Result<String, String> {
    published(&Row::read(row)?)?.write()
}

/// A published row in the processed form.
fn published(row: &Row) -> Result<WireProcessed, String> {
    let mut metadata = Map::new();
    metadata.insert("source".into(), SOURCE.name.into());
    metadata.insert("test".into(), row.get::<String>("test")?.into());
    metadata.insert("entry_point".into(), row.get::<String>("entry_point")?.into());
    metadata.insert("has_tests".into(), Value::Bool(true));
    Ok(WireProcessed {
        instruction: row.get("prompt")?,
        input: String::new(),
        output: row.get("canonical_solution")?,
        task_id: row.get("task_id")?,
        metadata,
    })
}

/// A row in either form → a task.
pub(super) fn parse(row: &str) -> Result<Task, String> {
    let members = Row::read(row)?;
    let row = match members.has("canonical_solution") && members.has("test") {
        true => published(&members)?,
        false => WireProcessed::read(row, FORMS)?,
    };
    let (test, entry_point) = (row.text("test")?, row.text("entry_point")?);
    if test.trim().is_empty() {
        return Err(format!("task `{}` has no test", row.task_id));
    }
    check_entry_point(&row.task_id, &entry_point)?;
    Ok(Task {
        canonical: row.canonical(),
        id: row.task_id.into(),
        prompt: row.instruction,
        question: None,
        check: Check::Function { test, entry_point },
        plus: None,
        needs: None,
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
        check(r#"{"text": "x", "code": "", "task_id": 1}"#, "it has text, code, task_id");
        check(&PUBLISHED.replace("def check(candidate):\\n    assert candidate() == 1\\n", ""), "`T/0` has no test");
        check(&PUBLISHED.replace(r#""entry_point": "f""#, r#""entry_point": "f(""#), "no entry point");
    }
}
