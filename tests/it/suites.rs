//! The published benchmarks: rows, prompts, and programs of the real files, which lie beside the project and are no part
//! of it. Where they are not there, that is said and nothing is tried.

mod fetch;
#[cfg(feature = "parquet")]
mod parquet;

use std::fs;
use std::path::{Path, PathBuf};

use passk::jail::{Jail, JailOptions, Limits, Python};
use passk::program::Program;
use passk::prompt::Format;
use passk::suite::{self, CodeContests, HumanEval, HumanEvalPlus, Mbpp, MbppPlus, MbppSanitized, Suite};
use passk::task::{Check, Task};
use passk::verdict::Verdict;
use tempfile::TempDir;

use crate::workplace::{Workplace, repository, run};

/// The publishers' files, or `None` with a word.
pub(crate) fn datasets() -> Option<PathBuf> {
    let folder = repository().join("../shared/datasets");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no {}: nothing was tried on the published files", folder.display());
        return None;
    }
    Some(folder)
}

/// A storage root with all of them, fetched from that folder.
fn fetched() -> Option<(TempDir, PathBuf)> {
    let mirror = datasets()?;
    let place = TempDir::new().unwrap();
    let fetcher = passk::dataset::Fetcher { mirror: Some(mirror.display().to_string()), ..Default::default() };
    for source in &suite::SOURCES {
        fetcher.fetch(source, place.path(), &mut |_| ()).unwrap();
    }
    let storage = place.path().to_owned();
    Some((place, storage))
}

fn find<'a>(tasks: &'a [Task], id: &str) -> &'a Task {
    tasks.iter().find(|task| task.id.as_str() == id).unwrap_or_else(|| panic!("no task {id}"))
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

#[test]
fn rows_are_the_same_processed_and_as_published() {
    let Some((_place, storage)) = fetched() else { return };
    let files: [(&dyn Suite, &str, usize); 6] = [
        (&HumanEval, "HumanEval.jsonl.gz", 164),
        (&HumanEvalPlus, "HumanEvalPlus.jsonl.gz", 164),
        (&Mbpp, "mbpp.jsonl", 974),
        (&MbppSanitized, "sanitized-mbpp.json", 427),
        (&MbppPlus, "MbppPlus.jsonl.gz", 378),
        (&CodeContests, "code_contests_20.jsonl", 20),
    ];
    for (suite, file, rows) in files {
        let processed = suite.tasks(&storage).unwrap();
        assert_eq!(processed.len(), rows, "{file}");
        // The publisher's own file in the place of the processed one.
        let place = TempDir::new().unwrap();
        let gz = if file.ends_with(".gz") { ".gz" } else { "" };
        let there = place.path().join(format!("datasets_v2/{}/processed/test.jsonl{gz}", suite.name()));
        fs::create_dir_all(there.parent().unwrap()).unwrap();
        fs::copy(datasets().unwrap().join(file), there).unwrap();
        assert!(suite.tasks(place.path()).unwrap() == processed, "{file} gives other tasks than its processed form");
    }
}

#[test]
fn splits_are_the_papers() {
    let Some((_place, storage)) = fetched() else { return };
    let sizes = |suite: &dyn Suite| -> Vec<(&str, usize)> {
        let tasks = suite.tasks(&storage).unwrap();
        let held = |split: &suite::Split| tasks.iter().filter(|task| (split.holds)(task.id.as_str())).count();
        suite.splits().iter().map(|split| (split.name, held(split))).collect()
    };
    assert_eq!(sizes(&Mbpp), [("test", 500), ("validation", 90), ("train", 374), ("prompt", 10), ("all", 974)]);
    assert_eq!(sizes(&MbppSanitized), [("test", 257), ("validation", 43), ("train", 120), ("prompt", 7), ("all", 427)]);
}

/// The prompt of every format on a real row: what stands around the row's own text, in full, and the digest of all of it.
#[test]
fn prompts_of_real_rows() {
    let Some((_place, storage)) = fetched() else { return };
    let (humaneval, mbpp) = (HumanEval.tasks(&storage).unwrap(), Mbpp.tasks(&storage).unwrap());
    let contests = CodeContests.tasks(&storage).unwrap();
    let shots: Vec<&Task> = Mbpp.shots().iter().map(|id| find(&mbpp, id)).collect();
    let (he, mb, cc) = (find(&humaneval, "HumanEval/0"), find(&mbpp, "11"), &contests[0]);
    let ours = |task: &Task, text: &str| {
        // Excerpts: the row's own words are replaced by their names.
        let question = task.question.clone().unwrap_or_default();
        let mut text = text.to_owned();
        for (words, name) in [(task.prompt.as_str(), "{prompt}"), (question.text.as_str(), "{text}")] {
            if !words.is_empty() {
                text = text.replace(words, name);
            }
        }
        for (at, test) in question.tests.iter().enumerate() {
            text = text.replace(test.as_str(), &format!("{{test {at}}}"));
        }
        text
    };
    let mut seen = String::new();
    for (suite, task) in [(&HumanEval as &dyn Suite, he), (&Mbpp, mb), (&CodeContests, cc)] {
        for format in suite.formats() {
            let prompt = format.prompt(task, &shots, &suite.stops());
            let end = match *format == Format::FewShot {
                // The shots are rows of others; what follows them shows the template.
                true => prompt.text.rsplit_once("[DONE]\n\n").unwrap().1,
                false => &prompt.text,
            };
            let (name, digest) = (format.name(), digest(&prompt.text));
            seen += &format!("{} · {name} · {digest}\n{:?}\n\n", suite.name(), ours(task, end));
        }
        seen += &format!("stops {:?}\n\n", suite.stops());
    }
    insta::with_settings!({ snapshot_path => repository().join("tests/data/prompts"), prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!("formats", seen);
    });
    // Byte for byte, and with the newline at its end.
    assert_eq!(Format::Raw.prompt(he, &[], &[]).text, he.prompt);
    assert!(he.prompt.ends_with("\"\"\"\n"));
    let fewshot = Format::FewShot.prompt(mb, &shots, &[]).text;
    assert_eq!((fewshot.matches("[BEGIN]").count(), fewshot.matches("[DONE]").count()), (4, 3));
    assert!(fewshot.ends_with("\n[BEGIN]\n") && !fewshot.contains('\r'));
    assert_eq!(Format::FewShot.own_stops(), Some(&["[DONE]"][..]));
}

/// What holds best here; this binary cannot host the jail itself.
fn jail() -> Jail {
    let options = JailOptions { host: Some(env!("CARGO_BIN_EXE_passk").into()), ..JailOptions::default() };
    Jail::new(Python::find().unwrap(), Limits::for_cpu(Mbpp.cpu_limit()), options).unwrap()
}

#[test]
fn helpers_in_prompts_and_setups_stay() {
    let Some((_place, storage)) = fetched() else { return };
    let (humaneval, mbpp) = (HumanEval.tasks(&storage).unwrap(), Mbpp.tasks(&storage).unwrap());
    for (id, helper) in [("10", "is_palindrome"), ("32", "poly"), ("38", "encode_cyclic"), ("50", "encode_shift")] {
        let program = Program::assemble(find(&humaneval, &format!("HumanEval/{id}")), "    pass");
        assert!(program.candidate.contains(&format!("def {helper}(")), "{id}");
    }
    let jail = jail();
    let judge = |task: &Task| {
        let judged = jail.run(&Program::assemble(task, task.canonical.as_deref().unwrap())).unwrap();
        (judged.verdict, judged.detail)
    };
    // 367 needs its setup after the completion, 126's function is called `sum`, 32 and 53 draw random inputs.
    let random = ["HumanEval/32", "HumanEval/53"].map(|id| find(&humaneval, id));
    for task in random.into_iter().chain(["367", "126"].map(|id| find(&mbpp, id))) {
        assert_eq!(judge(task), (Verdict::Passed, String::new()), "{}", task.id);
    }
    // Setup first, as it was: the check of the check.
    let task = find(&mbpp, "367");
    let Check::Asserts(asserts) = &task.check else { panic!("not asserts") };
    let (setup, tests) = asserts.split_first().unwrap();
    let first = Task { prompt: format!("{setup}\n"), check: Check::Asserts(tests.to_vec()), ..task.clone() };
    assert_ne!(judge(&first).0, Verdict::Passed);
}

#[test]
fn plus_tests_find_what_base_tests_do_not() {
    let Some((_place, storage)) = fetched() else { return };
    let (humaneval, mbpp) = (HumanEvalPlus.tasks(&storage).unwrap(), MbppPlus.tasks(&storage).unwrap());
    let jail = jail();
    let judge = |task: &Task, completion: &str| {
        let run = |program: Program| jail.run(&program).unwrap().verdict;
        (run(Program::assemble(task, completion)), run(Program::assemble_plus(task, completion).unwrap()))
    };
    use Verdict::{Exception, Passed, WrongAnswer};
    /// Tasks, the id of one, a completion, its verdicts by the base tests and by the plus tests.
    type Case<'a> = (&'a [Task], &'a str, &'a str, (Verdict, Verdict));
    #[rustfmt::skip]
    let cases: [Case; 8] = [
        (&humaneval, "HumanEval/0", "    pass\n", (WrongAnswer, WrongAnswer)),
        // Right on the seven base inputs.
        (&humaneval, "HumanEval/23", "    return len(string)\n", (Passed, Passed)),
        (&humaneval, "HumanEval/23", "    return min(len(string), 9)\n", (Passed, WrongAnswer)),
        // A zero of a polynomial, by the value there and not by the number: on a steep one of the plus inputs the nearest
        // float is still 0.016 away from 0, and `atol` is 1e-4.
        (&humaneval, "HumanEval/32", "    lo, hi = -1., 1.\n    while poly(xs, lo) * poly(xs, hi) > 0: lo, hi = lo * 2, hi * 2\n    for _ in range(200):\n        mid = (lo + hi) / 2\n        if poly(xs, lo) * poly(xs, mid) > 0: lo = mid\n        else: hi = mid\n    return lo\n", (Passed, WrongAnswer)),
        (&humaneval, "HumanEval/32", "    return 0.1\n", (WrongAnswer, WrongAnswer)),
        // In any order, and tuples where JSON has lists.
        (&mbpp, "2", "def similar_elements(a, b):\n    assert isinstance(a, tuple)\n    return sorted(set(a) & set(b), reverse=True)\n", (Passed, Passed)),
        // Only the type of what is close counts: an int for a float.
        (&mbpp, "82", "def volume_sphere(r):\n    return int(4 / 3 * 3.141592653589793 * r ** 3)\n", (WrongAnswer, WrongAnswer)),
        (&mbpp, "82", "def volume_sphere(r):\n    raise ValueError\n", (Exception, Exception)),
    ];
    for (tasks, id, completion, expected) in cases {
        assert_eq!(judge(find(tasks, id), completion), expected, "{id}: {completion}");
    }
}

/// Right and wrong programs for five problems of the sample, with the share of tests that each passes.
#[test]
fn contests_are_judged_by_output() {
    let Some((_place, storage)) = fetched() else { return };
    let tasks = CodeContests.tasks(&storage).unwrap();
    let place = Workplace::new();
    fs::create_dir_all(place.path("storage/datasets_v2")).unwrap();
    std::os::unix::fs::symlink(
        storage.join("datasets_v2/codecontests"),
        place.path("storage/datasets_v2/codecontests"),
    )
    .unwrap();
    let programs = repository().join("tests/data/contests");
    let mut lines = String::new();
    let mut expected = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(&programs).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let program = fs::read_to_string(&file).unwrap();
        let head = |name: &str| {
            let line = program.lines().find_map(|line| line.strip_prefix(&format!("# {name}: ")));
            line.unwrap_or_else(|| panic!("{}: no `# {name}: …`", file.display())).to_owned()
        };
        // The problem by its number, which begins its name.
        let task = tasks.iter().find(|task| task.id.as_str().starts_with(&head("problem"))).unwrap();
        lines += &serde_json::json!({ "task_id": task.id, "completion": program }).to_string();
        lines.push('\n');
        expected.push((task.id.to_string(), head("expect"), head("passes").parse::<f64>().unwrap()));
    }
    place.write("given.jsonl", &lines);
    let mut problems: Vec<String> = expected.iter().map(|(id, ..)| id.clone()).collect();
    problems.dedup();
    assert!(problems.len() >= 5 && expected.len() == 2 * problems.len(), "{problems:?}");
    let mut args = vec!["evaluate", "--dataset", "codecontests", "--samples", "given.jsonl"];
    args.extend(problems.iter().map(String::as_str));
    run(&mut place.passk(&args)).with_code(0).saying(&["alpaca prompts", "### Response:"]);
    let samples = fs::read_to_string(place.run_folder().join("samples.jsonl")).unwrap();
    let mut judged: Vec<(String, String, f64)> = samples
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|sample| {
            let text = |name: &str| sample[name].as_str().unwrap().to_owned();
            (text("task_id"), text("verdict"), sample["partial"].as_f64().unwrap())
        })
        .collect();
    judged.sort_by(|one, other| one.partial_cmp(other).unwrap());
    expected.sort_by(|one, other| one.partial_cmp(other).unwrap());
    assert_eq!(judged.len(), expected.len());
    for (judged, expected) in judged.iter().zip(&expected) {
        assert_eq!((&judged.0, &judged.1), (&expected.0, &expected.1));
        assert!((judged.2 - expected.2).abs() < 0.0005, "{judged:?}, expected {expected:?}");
    }
}

#[test]
fn the_protocol_stands_in_every_record() {
    let Some((_place, storage)) = fetched() else { return };
    let place = Workplace::new();
    fs::create_dir_all(place.path("storage/datasets_v2")).unwrap();
    std::os::unix::fs::symlink(storage.join("datasets_v2/mbpp"), place.path("storage/datasets_v2/mbpp")).unwrap();
    let mbpp = |more: &[&str]| {
        let args = [&["evaluate", "--dataset", "mbpp", "--samples", "canonical"], more].concat();
        run(&mut place.passk(&args))
    };
    let words = ["fewshot prompts", "validation split", "shots 2 3 4", r#"stops "[DONE]""#, "1 of 90 problems"];
    mbpp(&["--prompt-format", "fewshot", "--split", "validation", "511"]).with_code(0).saying(&words);
    let run_json = fs::read_to_string(place.run_folder().join("run.json")).unwrap();
    let print = &serde_json::from_str::<serde_json::Value>(&run_json).unwrap()["fingerprint"];
    assert_eq!((&print["split"], &print["prompt_format"]), (&"validation".into(), &"fewshot".into()));
    assert_eq!((print["shots"].as_array().unwrap().len(), &print["stops"][0]), (3, &"[DONE]".into()));
    mbpp(&["--prompt-format", "fewshot", "--split", "prompt"]).with_code(0).saying(&["10 of 10 problems"]);
    let head = place.read("snapshots/canonical/mbpp.snap.new");
    assert!(
        head.contains("mbpp · prompt split · 10 tasks") && head.contains("fewshot · shots 2 3 4 · stops"),
        "{head}"
    );
    mbpp(&["--split", "tests"]).with_code(2).saying(&["unknown split `tests`", "test, validation, train, prompt, all"]);
    mbpp(&["--prompt-format", "raw"])
        .with_code(2)
        .saying(&["unknown prompt format `raw`", "docstring, fewshot, alpaca"]);
    mbpp(&["--stops", "evalplus"]).with_code(2).saying(&["unknown list of stops `evalplus`"]);
    let micro = ["evaluate", "--dataset", "micro", "--samples", "canonical", "--plus"];
    run(&mut place.passk(&micro)).with_code(2).saying(&["`micro` has no plus tests"]);
}

/// Solutions that fail are the machine's or the harness's fault: no score is reported on top of it.
#[test]
fn a_ceiling_below_the_known_one_is_a_failure_of_the_harness() {
    let row = |id: u32, body: &str| {
        format!(
            "{{\"task_id\": \"T/{id}\", \"prompt\": \"def f():\\n\", \"entry_point\": \"f\", \"canonical_solution\": \"    {body}\\n\", \
             \"test\": \"def check(c):\\n    assert c() == 1\\n\"}}\n"
        )
    };
    let place = Workplace::new();
    let rows = "storage/datasets_v2/humaneval/processed/test.jsonl";
    place.write("given.jsonl", "{\"task_id\": \"T/0\", \"completion\": \"    return 1\"}\n{\"task_id\": \"T/1\", \"completion\": \"    return 2\"}\n");
    let evaluate = ["evaluate", "--dataset", "humaneval", "--samples", "given.jsonl"];
    place.write(rows, &(row(0, "return 1") + &row(1, "return 0")));
    let words = ["self-check: 1 of 2", "T/1: wrong_answer", "none: not every problem was judged"];
    run(&mut place.passk(&evaluate)).with_code(3).saying(&words);
    place.write(rows, &(row(0, "return 1") + &row(1, "return 1")));
    run(&mut place.passk(&evaluate)).with_code(0).saying(&["ceiling   2/2, slowest 0.", "of 5 s", "pass@1 0.5000"]);
    let summary = fs::read_dir(place.path("storage/runs")).unwrap().filter_map(|run| {
        let text = fs::read_to_string(run.unwrap().path().join("summary.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap().get("ceiling").cloned()
    });
    assert_eq!(summary.map(|ceiling| ceiling["passed"].clone()).collect::<Vec<_>>(), [2]);
}

/// Writes `bytes` as HumanEval's rows and says what evaluating them says.
fn refused(bytes: &[u8], name: &str, words: &[&str]) {
    let place = Workplace::new();
    let path = place.write(&format!("storage/datasets_v2/humaneval/processed/{name}"), "");
    fs::write(path, bytes).unwrap();
    let evaluate = ["evaluate", "--dataset", "humaneval", "--samples", "canonical"];
    run(&mut place.passk(&evaluate)).with_code(2).saying(words);
}

#[test]
fn bad_files_of_rows() {
    let row = r#"{"task_id": "T/0", "prompt": "def f():\n", "entry_point": "f", "canonical_solution": "    return 1\n", "test": "def check(c):\n    assert c() == 1\n"}"#;
    refused(
        br#"{"text": "x", "code": "y", "task_id": 1, "test_list": []}"#,
        "test.jsonl",
        &["test.jsonl:1", "none of the forms", "it has text, code, task_id, test_list"],
    );
    refused(format!("{row}\n\n{}", &row[..40]).as_bytes(), "test.jsonl", &["test.jsonl:3", "EOF"]);
    refused(format!("{row}\n{row}\n").as_bytes(), "test.jsonl", &["test.jsonl:2", "`T/0` stands here a second time"]);
    refused(b"\n\r\n", "test.jsonl", &["test.jsonl", "holds no task"]);
    refused(b"PAR1\x00\xff\xfe", "test.jsonl", &["failed to read", "test.jsonl", "utf-8"]);
    refused(
        format!("{row}\n{{\"x\": \"{}\"}}", "a".repeat(200 << 20)).as_bytes(),
        "test.jsonl",
        &["test.jsonl:2", "200 MiB", "no file of rows"],
    );
    refused(
        row.replace("assert c() == 1", " ").replace("def check(c):\\n", "").as_bytes(),
        "test.jsonl",
        &["test.jsonl:1", "`T/0` has no test"],
    );
    let packed = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let cut = packed(&row.repeat(50));
    refused(&cut[..cut.len() / 2], "test.jsonl.gz", &["failed to unpack", "test.jsonl.gz"]);
    // A byte order mark, CRLF and compression are no trouble.
    let place = Workplace::new();
    let path = place.write("storage/datasets_v2/humaneval/processed/test.jsonl.gz", "");
    fs::write(path, packed(&format!("\u{feff}{row}\r\n\r\n"))).unwrap();
    run(&mut place.passk(&["evaluate", "--dataset", "humaneval", "--samples", "canonical"])).with_code(0);
}

/// Problems of contests need their tests.
#[test]
fn bad_contests() {
    let place = Workplace::new();
    let evaluate = ["evaluate", "--dataset", "codecontests", "--samples", "canonical"];
    let row =
        r#"{"instruction": "Add.", "input": "", "output": "print(1)", "task_id": "P", "metadata": {"source": "x"}}"#;
    place.write("storage/datasets_v2/codecontests/processed/test_eval.jsonl", row);
    run(&mut place.passk(&evaluate)).with_code(2).saying(&["problem `P` has no tests", "tests/test_tests.json"]);
    let tests = "storage/datasets_v2/codecontests/tests/test_tests.json";
    place.write(tests, r#"{"P": {"public_tests": {"input": ["1"], "output": []}}}"#);
    run(&mut place.passk(&evaluate)).with_code(2).saying(&["test_eval.jsonl:1", "1 inputs but 0 outputs"]);
    place.write(tests, r#"{"P": {"public_tests": {"input": [], "output": []}}}"#);
    run(&mut place.passk(&evaluate)).with_code(2).saying(&["problem `P` has no test"]);
    place.write(tests, "[]");
    run(&mut place.passk(&evaluate)).with_code(2).saying(&["test_tests.json:1"]);
    place.write(tests, r#"{"P": {"generated_tests": {"input": ["x"], "output": ["1"]}}}"#);
    run(&mut place.passk(&evaluate)).with_code(0).saying(&["pass@1 1.0000"]);
    assert!(Path::new(&place.run_folder().join("samples.jsonl")).exists());
}
