//! MBPP (Austin et al. 2021): short functions asked for in words, checked by three asserts. Whole, and the part that
//! its authors verified by hand.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::plus::MbppPlus;
use super::wire::{Row, WireProcessed};
use super::{Split, Suite};
use crate::dataset::{self, DatasetError, Processed, Published, Source};
use crate::prompt::{Format, MBPP_STOPS};
use crate::task::{Check, Question, Task};

/// The 974 problems, fetched by `passk fetch mbpp`. The test split is asked, ids 11 to 510.
pub struct Mbpp;

/// The 427 problems that were verified by hand, fetched by `passk fetch mbpp-sanitized`. The test split has 257 of them.
pub struct MbppSanitized;

/// The paper's splits, by id.
pub(super) const SPLITS: [Split; 5] = [
    Split { name: "test", holds: |id| within(id, 11..=510) },
    Split { name: "validation", holds: |id| within(id, 511..=600) },
    Split { name: "train", holds: |id| within(id, 601..=974) },
    Split { name: "prompt", holds: |id| within(id, 1..=10) },
    Split { name: "all", holds: |_| true },
];

/// The paper's three shots.
const SHOTS: [&str; 3] = ["2", "3", "4"];

fn within(id: &str, range: std::ops::RangeInclusive<u32>) -> bool {
    id.parse().is_ok_and(|id| range.contains(&id))
}

macro_rules! mbpp {
    ($suite:ty, $name:literal, $plus:expr) => {
        impl Suite for $suite {
            fn name(&self) -> &str {
                $name
            }

            fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError> {
                dataset::load(storage, self.name(), parse)
            }

            fn formats(&self) -> &[Format] {
                &[Format::Docstring, Format::FewShot, Format::Alpaca]
            }

            fn stops(&self) -> Vec<String> {
                MBPP_STOPS.map(str::to_owned).to_vec()
            }

            fn splits(&self) -> &[Split] {
                &SPLITS
            }

            fn shots(&self) -> &[&str] {
                &SHOTS
            }

            fn cpu_limit(&self) -> Duration {
                Duration::from_secs(10)
            }

            fn plus(&self) -> Option<&dyn Suite> {
                $plus
            }

            fn self_check(&self) -> bool {
                true
            }
        }
    };
}

mbpp!(Mbpp, "mbpp", Some(&MbppPlus));
mbpp!(MbppSanitized, "mbpp-sanitized", None);

pub(super) const SOURCE: Source = Source {
    name: "mbpp",
    files: &[Published {
        url: Some("https://github.com/google-research/google-research/raw/master/mbpp/mbpp.jsonl"),
        file: "mbpp.jsonl",
        sha256: Some("ccf64ceae9c5403bf50a044cb6d505bfd2a2963ee58338ba268fd65beab92a9f"),
        unreadable: None,
        process: |bytes, path| Processed::from_rows(bytes, path, process),
    }],
};

pub(super) const SANITIZED: Source = Source {
    name: "mbpp-sanitized",
    files: &[Published {
        url: Some("https://github.com/google-research/google-research/raw/master/mbpp/sanitized-mbpp.json"),
        file: "sanitized-mbpp.json",
        sha256: Some("ca95deaa9a01ef0a6f439f88bcf0dd3db3563d22f22aad6cae04ebb9a8d8c8e9"),
        unreadable: None,
        process: |bytes, path| Processed::from_rows(bytes, path, process),
    }],
};

const FORMS: &str = "processed: instruction, output, task_id, metadata; MBPP: task_id, text or prompt, code, test_list";

fn process(row: &str) -> Result<String, String> {
    published(&Row::read(row)?)?.write()
}

/// A published row, whole or sanitized, in the processed form.
fn published(row: &Row) -> Result<WireProcessed, String> {
    let id: u32 = row.get("task_id")?;
    let sanitized = row.has("prompt");
    let mut metadata = Map::new();
    metadata.insert("source".into(), "mbpp".into());
    metadata.insert("test_list".into(), json!(row.get::<Vec<String>>("test_list")?));
    match sanitized {
        true => metadata.insert("test_imports".into(), json!(row.get::<Vec<String>>("test_imports")?)),
        false => metadata.insert("test_setup_code".into(), json!(row.get::<String>("test_setup_code")?)),
    };
    metadata.insert("has_tests".into(), Value::Bool(true));
    Ok(WireProcessed {
        instruction: row.get(if sanitized { "prompt" } else { "text" })?,
        input: String::new(),
        output: row.get("code")?,
        task_id: id.to_string(),
        metadata,
    })
}

/// A row in any of the forms → a task. The program is imports, completion, setup, asserts: a setup before the
/// completion would make task 367 fail for ever, whose setup uses what the completion defines.
fn parse(row: &str) -> Result<Task, String> {
    let members = Row::read(row)?;
    let row = match members.has("code") && members.has("test_list") {
        true => published(&members)?,
        false => WireProcessed::read(row, FORMS)?,
    };
    let tests = row.texts("test_list")?;
    if tests.iter().all(|test| test.trim().is_empty()) {
        return Err(format!("task `{}` has no test", row.task_id));
    }
    let imports: String = row.texts("test_imports")?.iter().map(|import| format!("{import}\n")).collect();
    let setup = Some(row.text("test_setup_code")?).filter(|setup| !setup.trim().is_empty());
    Ok(Task {
        prompt: imports,
        question: Some(Question { text: row.instruction.clone(), tests: tests.clone(), input: row.input.clone() }),
        canonical: row.canonical(),
        check: Check::Asserts(setup.into_iter().chain(tests).collect()),
        plus: None,
        needs: None,
        id: row.task_id.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;

    const WHOLE: &str = r#"{"text": "Add.", "code": "def f(a):\r\n  return a + N", "task_id": 7, "test_setup_code": "N = 1",
        "test_list": ["assert f(1) == 2", "assert f(2) == 3"], "challenge_test_list": []}"#;
    const SANITIZED: &str = r#"{"source_file": "x", "task_id": 8, "prompt": "Add.", "code": "def f(a):\n  return a",
        "test_imports": ["import math"], "test_list": ["assert math.floor(f(1)) == 1"]}"#;

    #[test]
    fn both_forms_give_the_same_task() {
        for row in [WHOLE, SANITIZED] {
            assert_eq!(parse(row).unwrap(), parse(&process(row).unwrap()).unwrap());
        }
    }

    #[test]
    fn setup_follows_the_completion_and_imports_precede_it() {
        let program = |row: &str| {
            let task = parse(row).unwrap();
            Program::assemble(&task, task.canonical.as_deref().unwrap()).source()
        };
        assert_eq!(program(WHOLE), "def f(a):\r\n  return a + N\nN = 1\nassert f(1) == 2\nassert f(2) == 3\n");
        assert_eq!(program(SANITIZED), "import math\ndef f(a):\n  return a\nassert math.floor(f(1)) == 1\n");
    }

    #[test]
    fn broken_rows_say_what_is_wrong() {
        for (row, expected) in [
            ("{", "EOF"),
            (
                r#"{"task_id": "HumanEval/0", "prompt": "def f", "test": "", "entry_point": "f"}"#,
                "it has task_id, prompt",
            ),
            (&WHOLE.replace("assert f(1) == 2\", \"assert f(2) == 3", " "), "task `7` has no test"),
            (&WHOLE.replace(": 7", ": \"7\""), "field `task_id`"),
            (
                r#"{"instruction": "x", "output": "", "task_id": "1", "metadata": {"test_list": [1]}}"#,
                "no list of texts",
            ),
        ] {
            let error = parse(row).unwrap_err();
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        }
    }
}
