//! HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): the same problems with many more inputs. What is expected
//! for an input is what the dataset's own solution returns for it.
//!
//! The rules of agreement are EvalPlus's: equality, else closeness within `atol` (1e-6 once a float was expected) and
//! 1e-7 relative, of values of one type. A few problems have rules of their own, and MBPP's inputs, stored as JSON, get
//! back the types that it lacks.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Suite;
use super::wire::{Row, WireProcessed, check_entry_point};
use crate::dataset::{self, DatasetError, Processed, Published, Source};
use crate::prompt::{EVALPLUS_STOPS, Format, MBPP_STOPS};
use crate::task::{Check, Needs, Question, Task};

/// HumanEval with the plus tests, fetched by `passk fetch humaneval-plus`: `--plus` on HumanEval.
pub struct HumanEvalPlus;

/// MBPP with the plus tests, fetched by `passk fetch mbpp-plus`: `--plus` on MBPP. Its 378 problems are no subset of the
/// test split.
pub struct MbppPlus;

impl Suite for HumanEvalPlus {
    fn name(&self) -> &str {
        HUMANEVAL.name
    }

    fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError> {
        dataset::load(storage, self.name(), parse_humaneval)
    }

    fn formats(&self) -> &[Format] {
        &[Format::Raw, Format::Alpaca]
    }

    fn named_stops(&self) -> Vec<(&'static str, Vec<String>)> {
        vec![("evalplus", EVALPLUS_STOPS.map(str::to_owned).to_vec())]
    }

    fn self_check(&self) -> bool {
        true
    }
}

impl Suite for MbppPlus {
    fn name(&self) -> &str {
        MBPP.name
    }

    fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError> {
        dataset::load(storage, self.name(), parse_mbpp)
    }

    fn formats(&self) -> &[Format] {
        &[Format::Docstring, Format::Alpaca]
    }

    fn stops(&self) -> Vec<String> {
        MBPP_STOPS.map(str::to_owned).to_vec()
    }

    fn cpu_limit(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn self_check(&self) -> bool {
        true
    }
}

pub(super) const HUMANEVAL: Source = Source {
    name: "humaneval-plus",
    files: &[Published {
        url: Some("https://github.com/evalplus/humanevalplus_release/releases/download/v0.1.10/HumanEvalPlus.jsonl.gz"),
        file: "HumanEvalPlus.jsonl.gz",
        sha256: Some("272720b90ac375502c8ed23cd791c2a93dfb22a911641a494da74a426c09f101"),
        unreadable: None,
        process: |bytes, path| {
            Processed::from_rows(bytes, path, |row| published(&Row::read(row)?, HUMANEVAL.name)?.write())
        },
    }],
};

pub(super) const MBPP: Source = Source {
    name: "mbpp-plus",
    files: &[Published {
        url: Some("https://github.com/evalplus/mbppplus_release/releases/download/v0.2.0/MbppPlus.jsonl.gz"),
        file: "MbppPlus.jsonl.gz",
        sha256: Some("af43697e8791c4c149bdfd6b489d8b5412507551ac20e28a439f650b8225db63"),
        unreadable: None,
        process: |bytes, path| Processed::from_rows(bytes, path, |row| published(&Row::read(row)?, MBPP.name)?.write()),
    }],
};

const FORMS: &str = "processed: instruction, output, task_id, metadata; EvalPlus: task_id, prompt, entry_point, \
    canonical_solution, base_input, plus_input, atol";

/// Solutions that need more than the suites allow: processor seconds of one pass over their plus inputs, and MiB of
/// address space with the reference beside it. Rounded up, the larger of what two machines took. They are data, not a
/// measurement of the machine at hand, so that the limits are the same for everyone.
const NEEDS: [(&str, u64, u64); 14] = [
    ("HumanEval/15", 10, 0),
    ("HumanEval/36", 2, 0),
    ("HumanEval/59", 3, 0),
    ("HumanEval/83", 2, 0),
    ("HumanEval/94", 2, 0),
    ("HumanEval/130", 2, 0),
    ("HumanEval/139", 12, 0),
    ("123", 4, 0),
    ("255", 5, 2300),
    ("271", 6, 0),
    ("392", 7, 0),
    ("592", 3, 0),
    ("599", 34, 0),
    ("603", 5, 0),
];

/// A published row in the processed form. Inputs stay the text that they are.
fn published(row: &Row, source: &str) -> Result<WireProcessed, String> {
    let mut metadata = Map::new();
    let mut insert = |name: &str, value: String| metadata.insert(name.into(), Value::String(value));
    insert("source", source.to_owned());
    insert("entry_point", row.get("entry_point")?);
    insert("base_input", row.raw("base_input")?.to_owned());
    insert("plus_input", row.raw("plus_input")?.to_owned());
    insert("atol", row.raw("atol")?.to_owned());
    let id: String = row.get("task_id")?;
    Ok(WireProcessed {
        instruction: row.get("prompt")?,
        input: String::new(),
        output: row.get("canonical_solution")?,
        task_id: id.strip_prefix("Mbpp/").map(str::to_owned).unwrap_or(id),
        metadata,
    })
}

fn read(row: &str, source: &str) -> Result<WireProcessed, String> {
    let members = Row::read(row)?;
    match members.has("base_input") && members.has("plus_input") {
        true => published(&members, source),
        false => WireProcessed::read(row, FORMS),
    }
}

fn parse_humaneval(row: &str) -> Result<Task, String> {
    let row = read(row, HUMANEVAL.name)?;
    let reference = format!("{}{}", row.instruction, row.output);
    // Where the polynomial is zero is no single number: the value there is what is judged.
    let oracle = match row.text("entry_point")?.as_str() {
        "find_zero" => "abs(sum(c * math.pow(out, i) for i, c in enumerate(a[0]))) <= ATOL",
        _ => "out == exp",
    };
    let prompt = row.instruction.clone();
    task(row, &reference, "a", oracle, prompt, None)
}

fn parse_mbpp(row: &str) -> Result<Task, String> {
    let row = read(row, MBPP.name)?;
    // The published prompt is a docstring: the question, and one assert on its last lines.
    let bad = || format!("task `{}`: its prompt is no docstring with an assert", row.task_id);
    let inner = row.instruction.strip_prefix("\"\"\"\n").and_then(|text| text.strip_suffix("\n\"\"\"\n"));
    let (text, test) = inner.and_then(|inner| inner.split_once("\nassert ")).ok_or_else(bad)?;
    let question = Question { text: text.into(), tests: vec![format!("assert {test}")], input: String::new() };
    let entry_point = row.text("entry_point")?;
    let (conversion, oracle) = (conversion(&row.task_id), mbpp_oracle(&entry_point));
    let reference = row.output.clone();
    task(row, &reference, conversion, oracle, String::new(), Some(question))
}

fn task(
    row: WireProcessed,
    reference: &str,
    conversion: &str,
    oracle: &str,
    prompt: String,
    question: Option<Question>,
) -> Result<Task, String> {
    let entry_point = row.text("entry_point")?;
    check_entry_point(&row.task_id, &entry_point)?;
    let atol: f64 = row.text("atol")?.parse().map_err(|_| format!("task `{}`: atol is no number", row.task_id))?;
    let check = |inputs: String| -> Result<Check, String> {
        // A text of JSON is a text of Python too.
        let quoted = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
        let test = include_str!("plus.py")
            .replace("FUZZY", if entry_point == "find_zero" { "False" } else { "True" })
            .replace("CONVERSION", conversion)
            .replace("ORACLE", oracle)
            .replace("ATOL", &format!("{atol:?}"))
            .replace("ENTRY_POINT", &quoted(&entry_point)?)
            .replace("SOLUTION", &quoted(reference)?)
            .replace("INPUTS", &quoted(&inputs)?);
        // The tests are a function `check`: one problem asks for a function of that name.
        Ok(match entry_point.as_str() {
            "check" => Check::Function {
                test: format!("candidate_check = check\n{test}"),
                entry_point: "candidate_check".into(),
            },
            _ => Check::Function { test, entry_point: entry_point.clone() },
        })
    };
    let (base, plus) = (row.text("base_input")?, row.text("plus_input")?);
    if base.trim().is_empty() || matches!(base.trim(), "[]" | "{}") {
        return Err(format!("task `{}` has no test", row.task_id));
    }
    let needs = NEEDS
        .iter()
        .find(|(id, ..)| *id == row.task_id)
        .map(|&(_, seconds, mib)| Needs { cpu: Duration::from_secs(seconds), memory_bytes: mib << 20 });
    Ok(Task {
        prompt,
        question,
        canonical: row.canonical(),
        check: check(base)?,
        plus: Some(check(plus)?),
        needs,
        id: row.task_id.into(),
    })
}

/// EvalPlus's rules for MBPP problems whose answer is not one value.
fn mbpp_oracle(entry_point: &str) -> &'static str {
    match entry_point {
        // No program can tell the intended relation: any answer counts.
        "are_equivalent" => "True",
        "sum_div" => "out == exp or out == 0",
        // The height may be meant as the slant height.
        "surface_Area" => {
            "out == exp or abs(out - round(a[0] ** 2 + 2 * a[0] * math.sqrt((a[0] / 2) ** 2 + a[1] ** 2))) <= ATOL"
        }
        // The shorter number may be filled up with zeros.
        "digit_distance_nums" => {
            "out == exp or out == sum(abs(int(x) - int(y)) for n in [max(len(str(a[0])), len(str(a[1])))] \
             for x, y in zip(str(a[0]).zfill(n), str(a[1]).zfill(n)))"
        }
        // In any order, however often.
        "similar_elements"
        | "find_char_long"
        | "common_in_nested_lists"
        | "extract_singly"
        | "larg_nnum"
        | "intersection_array"
        | "find_dissimilar"
        | "Diff" => "set(out) == set(exp)",
        // Found or not is what is asked; a match object says it too.
        "check_str" | "text_match_three" | "text_starta_endb" => {
            "out == (exp is not None) if isinstance(out, bool) else (exp is not None) == (out is not None)"
        }
        _ => "out == exp",
    }
}

/// How the arguments `a` of an MBPP problem get their types back: EvalPlus's table.
fn conversion(id: &str) -> &'static str {
    match id.parse().unwrap_or(0_u32) {
        2 | 116 | 132 | 143 | 222 | 261 | 273 | 394 | 399 | 421 | 424 | 429 | 470 | 560 | 579 | 596 | 616 | 630
        | 726 | 740 | 744 | 809 => "[tuple(x) for x in a]",
        63 | 64 | 70 | 94 | 120 | 237 | 272 | 299 | 400 | 409 | 417 | 438 | 473 | 614 | 780 => {
            "[[tuple(x) for x in y] for y in a]"
        }
        75 | 413 | 444 | 753 => "[[tuple(x) for x in a[0]], a[1]]",
        106 | 750 => "[a[0], tuple(a[1])]",
        115 => "[[set(x) if isinstance(x, list) and x else {} for x in a[0]]]",
        124 => "[float(a[0]), complex(a[1])]",
        250 | 405 | 446 | 617 | 720 | 763 | 808 => "[tuple(a[0]), a[1]]",
        259 | 401 | 445 => "[tuple(tuple(x) for x in y) for y in a]",
        278 => "[tuple(tuple(x) if isinstance(x, list) else x for x in y) for y in a]",
        307 => "[tuple(a[0]), a[1], a[2]]",
        722 => "[{key: tuple(value) for key, value in a[0].items()}] + a[1:]",
        252 => "[complex(a[0])]",
        580 | 615 | 791 => "list(deep(a))",
        _ => "a",
    }
}
