//! Bad input: one clear message with what, where and the remedy; exit status ≠ 0; nothing lost, nothing panics.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::workplace::{Workplace, repository, run};

#[track_caller]
fn check(args: &[&str], words: &[&str]) {
    check_in(&Workplace::new(), args, words);
}

#[track_caller]
fn check_in(place: &Workplace, args: &[&str], words: &[&str]) {
    let args = [&["evaluate", "--dataset", "micro"], args].concat();
    let ran = run(&mut place.passk(&args)).with_code(2).saying(words);
    assert_eq!(ran.stderr.matches("error: ").count(), 1, "{}", ran.stderr);
}

fn fixture(name: &str) -> String {
    repository().join("tests/data/checkpoints").join(name).to_str().unwrap().to_owned()
}

#[test]
fn flags() {
    check(&["--temperature", "-0.5"], &["--temperature is -0.5", "0 (greedy) or more"]);
    check(&["--top-p", "0"], &["--top-p is 0", "above 0"]);
    check(&["--top-p", "1.5"], &["--top-p is 1.5"]);
    check(&["--k", "1,30"], &["--k 30", "20 samples", "--num-samples 30"]);
    check(&["--prompt-format", "haiku"], &["unknown prompt format `haiku`", "raw"]);
    check(&["--temperature", "0", "--k", "5"], &["--k 5", "greedy"]);
    check(&["--skip", "micro/"], &["every task of `micro` is skipped"]);
    check(&["micro/999"], &["no task of `micro` matches micro/999"]);
    let place = Workplace::new();
    let unknown = ["evaluate", "--dataset", "nonesuch"];
    run(&mut place.passk(&unknown)).with_code(2).saying(&[
        "unknown dataset `nonesuch`",
        "humaneval, humaneval-plus, mbpp, mbpp-sanitized, mbpp-plus, codecontests, micro",
    ]);
}

#[test]
fn checkpoints() {
    check(&["--pipeline", "nonesuch"], &["nonesuch", "baseline", "critic", "rho1", "verifiable"]);
    check(
        &["--checkpoint", "storage/micro/checkpoints/baseline/checkpoint_bset.pt"],
        &["checkpoint_bset.pt", "checkpoint_best.pt"],
    );
    check(&["--pipeline", "baseline", "--checkpoint-pattern", "nothing_*.pt"], &["nothing_*.pt", "checkpoint_best.pt"]);
    let place = Workplace::new();
    let whole = fs::read(fixture("heads4/checkpoint_best.pt")).unwrap();
    fs::write(place.path("torn.pt"), &whole[..whole.len() / 2]).unwrap();
    check_in(&place, &["--checkpoint", "torn.pt"], &["torn.pt", "truncated"]);
    place.write("text.pt", "this is no archive\n");
    check_in(&place, &["--checkpoint", "text.pt"], &["text.pt"]);
    fs::create_dir(place.path("folder.pt")).unwrap();
    check_in(&place, &["--checkpoint", "folder.pt"], &["folder.pt"]);
}

#[test]
fn models() {
    let heads4 = fixture("heads4/checkpoint_best.pt");
    let checkpoint = |more: &[&str], words: &[&str]| {
        check(&[&["--checkpoint", &heads4, "--label", "x"], more].concat(), words);
    };
    // The fixture names a folder that is not there, seen from here.
    checkpoint(&[], &["no model folder `tests/data/checkpoints/heads4/model`", "tried", "--model-dir"]);
    checkpoint(&["--model-dir", "nowhere"], &["no model folder `nowhere`"]);
    checkpoint(&["--model-dir", &fixture("layouts")], &["configs/params.json", "attention heads"]);
    checkpoint(&["--model-dir", &fixture("heads4/model")], &["no tokenizer/tokenizer.json", "heads4/model"]);
    // Another model's folder: tensors are missing, unexpected and misshapen.
    checkpoint(&["--model-dir", &fixture("grouped/model")], &["heads4/checkpoint_best.pt", "wk.weight"]);
    checkpoint(
        &["--model-dir", "storage/micro/models/micro-mtp"],
        &["heads4/checkpoint_best.pt", "tok_embeddings.weight"],
    );
}

#[test]
fn datasets() {
    let place = Workplace::new();
    let humaneval = ["evaluate", "--dataset", "humaneval", "--samples", "canonical"];
    run(&mut place.passk(&humaneval)).with_code(2).saying(&["humaneval", "not fetched", "passk fetch humaneval"]);
    let row = r#"{"instruction":"def f():\n","output":"    return 1\n","task_id":"T/0","metadata":{"test":"def check(c):\n    assert c() == 1\n","entry_point":"f"}}"#;
    let rows = "storage/datasets_v2/humaneval/processed/test.jsonl";
    place.write(rows, &format!("{row}\n{{\"task_id\": 3\n"));
    run(&mut place.passk(&humaneval)).with_code(2).saying(&["processed/test.jsonl:2", "bad row", "passk fetch"]);
    place.write(rows, &format!("{row}\n\n{row}\n"));
    run(&mut place.passk(&humaneval)).with_code(2).saying(&["processed/test.jsonl:3", "`T/0`", "second time"]);
    place.write(rows, "\n");
    run(&mut place.passk(&humaneval)).with_code(2).saying(&["holds no task"]);
    place.write(rows, row);
    run(&mut place.passk(&humaneval)).with_code(0);
}

#[test]
fn fetching() {
    let place = Workplace::new();
    let fetch = |name: &str, mirror: &str| run(place.passk(&["fetch", name]).env("PASSK_MIRROR", mirror));
    fetch("nonesuch", "").with_code(2).saying(&["unknown dataset `nonesuch`", "humaneval"]);
    fetch("humaneval", "/nowhere").with_code(2).saying(&["/nowhere/HumanEval.jsonl.gz", "PASSK_MIRROR"]);
    // Nobody listens there.
    fetch("humaneval", "http://127.0.0.1:9").with_code(2).saying(&["http://127.0.0.1:9/HumanEval.jsonl.gz", "refused"]);
    place.write("mirror/HumanEval.jsonl.gz", "not what was published");
    fetch("humaneval", "mirror").with_code(2).saying(&["sha256", "b796127e635a67f9", "nothing was written"]);
    // Where a download would have begun there may be an empty file, and no row anywhere.
    let kept = glob::glob(&place.path("storage/datasets_v2/**/*").display().to_string()).unwrap();
    assert!(kept.map(Result::unwrap).all(|path| path.is_dir() || path.metadata().unwrap().len() == 0));
}

#[test]
fn given_samples() {
    let place = Workplace::new();
    let judge = |text: &str, more: &[&str], words: &[&str]| {
        place.write("given.jsonl", text);
        check_in(&place, &[&["--samples", "given.jsonl"], more].concat(), words);
    };
    let one = "{\"task_id\": \"micro/1\", \"completion\": \"x\"}\n";
    let two = "{\"task_id\": \"micro/2\", \"completion\": \"x\"}\n";
    judge("{\"task_id\": 1}\n", &[], &["given.jsonl:1", "bad sample"]);
    judge(
        &format!("{one}{{\"task_id\": \"micro/none\", \"completion\": \"\"}}\n"),
        &[],
        &["given.jsonl:2", "`micro/none`"],
    );
    judge(one, &[], &["given.jsonl", "too few completions", "e.g. `micro/0`"]);
    judge(&format!("{one}{one}{two}"), &["micro/1", "micro/2"], &["1 to 2 completions", "--num-samples 1"]);
    judge(one, &["micro/1", "--k", "2"], &["--k 2", "1 samples"]);
    check_in(&place, &["--samples", "missing.jsonl"], &["missing.jsonl"]);
}

#[test]
fn pythons() {
    let place = Workplace::new();
    let evaluate = ["evaluate", "--dataset", "micro", "--samples", "canonical", "micro/1"];
    let with = |python: &str| run(place.passk(&evaluate).env("PASSK_PYTHON", python));
    with("/nowhere/python3").with_code(2).saying(&["/nowhere/python3", "PASSK_PYTHON"]);
    let old = place.write("old", "#!/bin/sh\necho /usr/bin/python3.7\necho 3.7.17\n");
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    with(old.to_str().unwrap()).with_code(2).saying(&["3.8", "PASSK_PYTHON"]);
}

#[test]
fn storage_that_cannot_be_written() {
    let place = Workplace::new();
    // A file where a folder is needed: that stops root too, whom permissions do not.
    place.write("storage/runs", "in the way");
    check_in(&place, &["--samples", "canonical", "micro/1"], &["storage/runs/micro-canonical-", "failed to make"]);
}

#[test]
fn a_damaged_journal_is_refused_not_guessed() {
    let place = Workplace::new();
    let evaluate = ["evaluate", "--dataset", "micro", "--samples", "canonical", "micro/1", "micro/2"];
    run(&mut place.passk(&evaluate)).with_code(0);
    let journal = place.run_folder().join("samples.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("{\"task_id\"", "task_id", 1)).unwrap();
    run(&mut place.passk(&evaluate)).with_code(2).saying(&["samples.jsonl:1", "--fresh"]);
    run(&mut place.passk(&[&evaluate[..], &["--fresh"]].concat())).with_code(0);
}
