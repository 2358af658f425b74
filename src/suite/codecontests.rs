//! CodeContests (Li et al. 2022): problems of programming contests. A program reads stdin and prints, and is right when
//! every public, private and generated test agrees.

#[cfg(feature = "parquet")]
mod parquet;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Suite;
use super::wire::{Row, WireProcessed};
use crate::dataset::{self, DatasetError, Processed, Published, Source, for_each_row, text};
use crate::prompt::Format;
use crate::task::{Check, Question, StdioTest, Task};

/// The CodeContests benchmark, fetched by `passk fetch codecontests`.
pub struct CodeContests;

impl Suite for CodeContests {
    fn name(&self) -> &str {
        SOURCE.name
    }

    fn tasks(&self, storage: &Path) -> Result<Vec<Task>, DatasetError> {
        let (rows, path) =
            dataset::find_text(storage, self.name(), &[EVAL, "processed/test_eval.jsonl.gz", dataset::ROWS])?;
        let tests = match dataset::find_text(storage, self.name(), &[TESTS, "tests/test_tests.json.gz"]) {
            Ok((text, path)) => tests(&text, &path)?,
            // Rows of the sample's form bring their own.
            Err(DatasetError::NotFetched { .. }) => HashMap::new(),
            Err(error) => return Err(error),
        };
        tasks(&rows, &path, &tests)
    }

    fn formats(&self) -> &[Format] {
        &[Format::Alpaca, Format::Docstring]
    }

    fn stops(&self) -> Vec<String> {
        ["\n\"\"\"", "\n<|/", "\n```"].map(str::to_owned).to_vec()
    }

    fn cpu_limit(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn most_tasks(&self) -> Option<usize> {
        Some(1000)
    }
}

/// One row a problem.
const EVAL: &str = "processed/test_eval.jsonl";

/// The tests of every problem, by its name.
const TESTS: &str = "tests/test_tests.json";

pub(super) const SOURCE: Source = Source {
    name: "codecontests",
    files: &[
        Published {
            url: Some(
                "https://huggingface.co/datasets/deepmind/code_contests/resolve/802411c3010cb00d1b05bad57ca77365a3c699d6/data/test-00000-of-00001-9c49eeff30aacaa8.parquet",
            ),
            file: "test-00000-of-00001-9c49eeff30aacaa8.parquet",
            sha256: Some("aa426cbdb202bf8703b658bcb31fd1878ca7cfd33ca07d3b703dc94ca6a2b651"),
            unreadable: UNREADABLE,
            process: |bytes, path| process(table(bytes, path)?),
        },
        Published {
            url: None,
            file: "code_contests_20.jsonl",
            sha256: Some("e286e28fe9d118f34580a36627ddd4f9105d651ef81c22f4cca406c96f94ac8f"),
            unreadable: None,
            process: |bytes, path| process(sample(bytes, path)?),
        },
    ],
};

#[cfg(feature = "parquet")]
use parquet::table;

const UNREADABLE: Option<&str> = match cfg!(feature = "parquet") {
    true => None,
    false => Some("this passk was built without the parquet reader: build it with `--features parquet`"),
};

#[cfg(not(feature = "parquet"))]
fn table(_: Vec<u8>, path: &Path) -> Result<Vec<Problem>, DatasetError> {
    Err(DatasetError::Fetch { from: path.display().to_string(), cause: UNREADABLE.unwrap_or_default().into() })
}

const FORMS: &str = "processed: instruction, input, output, task_id, metadata; sample: content, labels, test";

/// What precedes the description.
const ASK: &str = "Write a Python program that solves the following problem. It reads from standard input and prints to standard output.";

/// A problem, however it was published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    name: String,
    description: String,
    source: String,
    difficulty: String,
    /// A right solution in Python 3.
    solution: Option<String>,
    tests: WireTests,
}

/// The tests of a problem in the processed form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WireTests {
    #[serde(default)]
    public_tests: WireList,
    #[serde(default)]
    private_tests: WireList,
    #[serde(default)]
    generated_tests: WireList,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct WireList {
    #[serde(default)]
    input: Vec<String>,
    #[serde(default)]
    output: Vec<String>,
}

impl WireTests {
    fn into_list(self) -> Result<Vec<StdioTest>, String> {
        let mut all = Vec::new();
        for (name, list) in
            [("public", self.public_tests), ("private", self.private_tests), ("generated", self.generated_tests)]
        {
            let (inputs, outputs) = (list.input.len(), list.output.len());
            if inputs != outputs {
                return Err(format!("{inputs} inputs but {outputs} outputs among its {name} tests"));
            }
            all.extend(list.input.into_iter().zip(list.output).map(|(input, output)| StdioTest { input, output }));
        }
        Ok(all)
    }

    /// Up to two public tests, as a prompt shows them.
    fn examples(&self) -> String {
        let list = &self.public_tests;
        let pairs = list.input.iter().zip(&list.output).take(2);
        let shown =
            pairs.map(|(input, output)| format!("Input:\n{}\nOutput:\n{}", input.trim_end(), output.trim_end()));
        shown.collect::<Vec<_>>().join("\n\n")
    }
}

/// A row of the sample: `labels` and `test` are texts of JSON.
#[derive(Deserialize)]
struct WireSampleTest {
    input: WireStdin,
    output: WireStdout,
}

#[derive(Deserialize)]
struct WireStdin {
    stdin: String,
}

#[derive(Deserialize)]
struct WireStdout {
    stdout: String,
}

fn sample_row(row: &Row) -> Result<Problem, String> {
    let labels: Map<String, Value> =
        serde_json::from_str(&row.get::<String>("labels")?).map_err(|error| format!("field `labels`: {error}"))?;
    let label = |name: &str| labels.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let tests: Vec<WireSampleTest> =
        serde_json::from_str(&row.get::<String>("test")?).map_err(|error| format!("field `test`: {error}"))?;
    // The sample does not say which tests are public.
    let (input, output) = tests.into_iter().map(|test| (test.input.stdin, test.output.stdout)).unzip();
    let tests = WireTests { private_tests: WireList { input, output }, ..WireTests::default() };
    let name = label("name");
    if name.is_empty() {
        return Err("its labels have no name".into());
    }
    Ok(Problem {
        name,
        description: row.get("content")?,
        source: label("source"),
        difficulty: label("difficulty"),
        solution: None,
        tests,
    })
}

fn sample(bytes: Vec<u8>, path: &Path) -> Result<Vec<Problem>, DatasetError> {
    let mut problems = Vec::new();
    for_each_row(&text(bytes, path)?, path, |row| {
        problems.push(sample_row(&Row::read(row)?)?);
        Ok(())
    })?;
    Ok(problems)
}

/// Problems in the processed form: rows, and the tests in a file of their own.
fn process(problems: Vec<Problem>) -> Result<Processed, DatasetError> {
    let json = |path, error: serde_json::Error| DatasetError::Io { verb: "write", path, source: error.into() };
    let rows = problems.len();
    let (mut lines, mut tests) = (String::new(), Map::new());
    for problem in problems {
        let mut metadata = Map::new();
        metadata.insert("source".into(), problem.source.into());
        metadata.insert("difficulty".into(), problem.difficulty.into());
        metadata.insert("has_tests".into(), Value::Bool(true));
        let row = WireProcessed {
            instruction: problem.description,
            input: problem.tests.examples(),
            output: problem.solution.unwrap_or_default(),
            task_id: problem.name.clone(),
            metadata,
        };
        lines += &serde_json::to_string(&row).map_err(|error| json(EVAL.into(), error))?;
        lines.push('\n');
        let value = serde_json::to_value(problem.tests).map_err(|error| json(TESTS.into(), error))?;
        tests.insert(problem.name, value);
    }
    Ok(Processed { files: vec![(EVAL, lines), (TESTS, Value::Object(tests).to_string())], rows })
}

/// The tests file: `{name: {public_tests: {input: […], output: […]}, …}}`.
fn tests(text: &str, path: &Path) -> Result<HashMap<String, WireTests>, DatasetError> {
    let tests: HashMap<String, WireTests> = serde_json::from_str(text).map_err(|error| DatasetError::Row {
        path: path.to_owned(),
        line: error.line(),
        trouble: error.to_string(),
    })?;
    Ok(tests.into_iter().map(|(name, tests)| (name.trim().to_owned(), tests)).collect())
}

/// One task a problem: rows of several solutions of one problem (`NAME_correct_3`) are taken together.
fn tasks(rows: &str, path: &Path, tests: &HashMap<String, WireTests>) -> Result<Vec<Task>, DatasetError> {
    let mut tasks: Vec<Task> = Vec::new();
    let (mut index, mut whole) = (HashMap::new(), HashSet::new());
    for_each_row(rows, path, |row| {
        let members = Row::read(row)?;
        if members.has("labels") && members.has("test") {
            let problem = sample_row(&members)?;
            if !whole.insert(problem.name.clone()) {
                return Err(format!("task `{}` stands here a second time", problem.name));
            }
            let question = question(&problem.description, &problem.tests.examples());
            tasks.push(task(problem.name, question, None, problem.tests)?);
            return Ok(());
        }
        let row = WireProcessed::read(row, FORMS)?;
        let (name, solution) = match solution_of(&row.task_id) {
            Some((name, right)) => (name.trim().to_owned(), row.canonical().filter(|_| right)),
            None if !whole.insert(row.task_id.trim().to_owned()) => {
                return Err(format!("task `{}` stands here a second time", row.task_id));
            }
            None => (row.task_id.trim().to_owned(), row.canonical()),
        };
        if let Some(&at) = index.get(&name) {
            let known: &mut Task = &mut tasks[at];
            known.canonical = known.canonical.take().or(solution);
            return Ok(());
        }
        let tests = tests.get(&name).cloned().ok_or_else(|| {
            format!(
                "problem `{name}` has no tests: `{TESTS}` beside the rows must have them (passk fetch codecontests)"
            )
        })?;
        index.insert(name.clone(), tasks.len());
        tasks.push(task(name, question(&row.instruction, &row.input), solution, tests)?);
        Ok(())
    })?;
    Ok(tasks)
}

fn question(description: &str, examples: &str) -> Question {
    Question { text: format!("{ASK}\n\n{}", description.trim_end()), tests: Vec::new(), input: examples.to_owned() }
}

fn task(name: String, question: Question, canonical: Option<String>, tests: WireTests) -> Result<Task, String> {
    let tests = tests.into_list().map_err(|trouble| format!("problem `{name}` has {trouble}"))?;
    if tests.is_empty() {
        return Err(format!("problem `{name}` has no test"));
    }
    Ok(Task {
        id: name.into(),
        prompt: String::new(),
        question: Some(question),
        canonical,
        check: Check::Stdio(tests.into()),
        plus: None,
        needs: None,
    })
}

/// `NAME` and whether it is right, of `NAME_correct_3` and `NAME_incorrect_3`.
fn solution_of(id: &str) -> Option<(&str, bool)> {
    let (rest, number) = id.rsplit_once('_')?;
    number.parse::<u32>().ok()?;
    let (name, kind) = rest.rsplit_once('_')?;
    match kind {
        "correct" => Some((name, true)),
        "incorrect" => Some((name, false)),
        _ => None,
    }
}

#[cfg(test)]
mod tests_of_rows {
    use super::*;

    const TESTS_FILE: &str = r#"{"A": {"public_tests": {"input": ["1\n"], "output": ["2\n"]},
        "private_tests": {"input": ["3"], "output": ["4"]}, "generated_tests": {"input": ["5"], "output": ["6"]}},
        "B ": {"public_tests": {"input": ["1"], "output": ["1"]}}}"#;

    fn row(id: &str, output: &str) -> String {
        serde_json::json!({"instruction": "Double.", "input": "", "output": output, "task_id": id,
            "metadata": {"source": "x", "difficulty": "A", "has_tests": true}})
        .to_string()
    }

    fn read(rows: &[String]) -> Result<Vec<Task>, String> {
        let tests = tests(TESTS_FILE, Path::new("tests.json")).unwrap();
        tasks(&rows.join("\n"), Path::new("rows.jsonl"), &tests).map_err(|error| error.to_string())
    }

    #[test]
    fn one_task_a_problem_with_all_its_tests() {
        let by_problem = read(&[row("A", "right"), row("B", "")]).unwrap();
        assert_eq!(by_problem.iter().map(|task| task.id.as_str()).collect::<Vec<_>>(), ["A", "B"]);
        let Check::Stdio(tests) = &by_problem[0].check else { panic!("not judged by output") };
        assert_eq!(tests.len(), 3);
        assert_eq!(by_problem[1].canonical, None);
        let by_solution = read(&[
            row("A_incorrect_0", "wrong"),
            row("A_correct_0", "right"),
            row("A_correct_1", "other"),
            row("B_incorrect_0", "x"),
        ]);
        assert_eq!(by_solution.unwrap(), by_problem);
    }

    #[test]
    fn broken_rows_say_what_is_wrong() {
        let check = |rows: &[String], expected: &str| {
            let error = read(rows).unwrap_err();
            assert!(error.contains(expected), "`{error}` lacks `{expected}`");
        };
        check(&[row("A", ""), row("A", "")], "rows.jsonl:2: task `A` stands here a second time");
        check(&[row("C", "")], "problem `C` has no tests: `tests/test_tests.json`");
        check(&[r#"{"text": "x"}"#.into()], "it has text");
        let uneven =
            WireTests { public_tests: WireList { input: vec!["1".into()], output: vec![] }, ..WireTests::default() };
        assert_eq!(uneven.into_list().unwrap_err(), "1 inputs but 0 outputs among its public tests");
    }
}
