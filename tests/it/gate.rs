//! What a gate lets pass, what it fails for, and what a pull request is shown of it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::workplace::{Workplace, run};

/// Three problems, 12 completions each, of which so many are right.
fn completions(right: [usize; 3]) -> String {
    let line = |task: usize, good: bool| {
        let body = if good { "x * x" } else { "x" };
        format!("{{\"task_id\": \"squares/{task}\", \"completion\": \"    return {body} + {task}\"}}\n")
    };
    (0..3).flat_map(|task| (0..12).map(move |i| line(task, i < right[task]))).collect()
}

const PROBLEMS: [&str; 3] = ["squares/0", "squares/1", "squares/2"];

/// A place whose accepted snapshot has 12, 6 and 3 right of 12. Made once: every test gets a copy.
fn accepted() -> Workplace {
    static ACCEPTED: LazyLock<Workplace> = LazyLock::new(|| {
        let place = Workplace::new();
        let args = ["--samples", "one.jsonl", "--label", "mine"];
        let all =
            (3..12).map(|task| format!("{{\"task_id\": \"squares/{task}\", \"completion\": \"    return 0\"}}\n"));
        let text = completions([12, 6, 3]) + &all.flat_map(|line| std::iter::repeat_n(line, 12)).collect::<String>();
        place.write("one.jsonl", &text);
        run(place.squares(&args).env("INSTA_UPDATE", "always"))
            .with_code(0)
            .saying(&["holds (snapshots/mine/squares.snap)"]);
        place
    });
    let place = Workplace::new();
    place.write("snapshots/mine/squares.snap", &ACCEPTED.read("snapshots/mine/squares.snap"));
    place
}

fn judge(place: &Workplace, right: [usize; 3], more: &[&str]) -> std::process::Command {
    place.write("two.jsonl", &completions(right));
    place.squares(&[&["--samples", "two.jsonl", "--label", "mine"], &PROBLEMS[..], more].concat())
}

#[test]
fn noise_fails_on_a_real_loss_only() {
    let place = accepted();
    let snap = place.read("snapshots/mine/squares.snap");
    // Less here, more there: within noise.
    let ran = run(&mut judge(&place, [10, 7, 2], &["--gate", "noise"])).with_code(0);
    ran.saying(&["noise holds · pass@1 0.5833 → 0.5278 over 3 problems · 1 up, 2 down"]);
    // One problem lost: its test is red, and says from what to what.
    let ran = run(&mut judge(&place, [2, 6, 3], &["--gate", "noise"])).with_code(101);
    assert!(ran.stdout.contains("squares/0 lost more than noise explains: pass@1 1.0000 → 0.1667"), "{}", ran.stdout);
    assert!(ran.stdout.contains("-  12/12   passed 12\n+  2/12   passed 2 · wrong_answer 10"), "{}", ran.stdout);
    assert!(ran.stdout.contains("2 passed; 1 failed"), "{}", ran.stdout);
    drop(ran.saying(&["noise FAILED for 1: squares/0"]));
    // Each loss could be noise, all of them together are not: every test is green, and the run is red.
    let ran = run(&mut judge(&place, [8, 1, 0], &["--gate", "noise"])).with_code(101);
    assert!(ran.stdout.contains("3 passed; 0 failed"), "{}", ran.stdout);
    drop(ran.saying(&["noise FAILED", "over all problems lost more than noise explains: pass@1 0.5833 → 0.2500"]));
    // Other settings are held to noise by default, and do not take the accepted file's place.
    let ran = run(&mut judge(&place, [10, 7, 2], &["--timeout", "4"])).with_code(0);
    drop(ran.saying(&["noise holds", "left as it is", "cpu 5 s", "cpu 4 s"]));
    run(&mut judge(&place, [2, 6, 3], &["--timeout", "4"])).with_code(101);
    run(&mut judge(&place, [2, 6, 3], &["--gate", "off"])).with_code(0).saying(&["not compared (--gate off)"]);
    assert_eq!(place.read("snapshots/mine/squares.snap"), snap);
}

#[test]
fn a_pull_request_is_shown_what_moved() {
    let place = accepted();
    let shown = |mut command: std::process::Command| {
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", place.path("summary.md"));
        command
    };
    let args = ["--gate", "exact", "--json", "out.json", "--junit", "out.xml"];
    let ran = run(&mut shown(judge(&place, [12, 2, 9], &args))).with_code(101);
    let at = |task: &str| {
        let snap = place.read("snapshots/mine/squares.snap");
        snap.lines().position(|line| line.starts_with(&format!("{task}  "))).unwrap() + 1
    };
    let annotation = format!(
        "::error file=snapshots/mine/squares.snap,line={},title=mine squares/1::6/12   passed 6 · wrong_answer 6 → 2/12",
        at("squares/1")
    );
    assert!(!ran.stdout.contains("::error"), "stdout is the harness's: {}", ran.stdout);
    drop(ran.saying(&[&annotation, "title=mine squares/2::3/12"]));
    let summary = place.read("summary.md");
    let row = "| squares/1 | 6/12   passed 6 · wrong\\_answer 6 | 2/12   passed 2 · wrong\\_answer 10 | ▼ ❌ |";
    assert!(summary.starts_with("### ❌ mine on squares\n"), "{summary}");
    assert!(summary.contains(row) && !summary.contains("| squares/0 |"), "{summary}");

    let json: serde_json::Value = serde_json::from_str(&place.read("out.json")).unwrap();
    let gate = &json[0]["gate"];
    assert_eq!((&gate["gate"], &gate["failed"], &gate["compared"]), (&"exact".into(), &true.into(), &3.into()));
    let moved: Vec<&str> = gate["moved"].as_array().unwrap().iter().map(|m| m["task"].as_str().unwrap()).collect();
    assert_eq!(moved, ["squares/1", "squares/2"]);
    assert!(json[0]["run"].as_str().unwrap().starts_with("storage/runs/squares-mine-"));
    let junit = place.read("out.xml");
    for counted in ["tests=\"3\"", "failures=\"2\"", "errors=\"0\""] {
        assert!(junit.contains(counted), "{junit}");
    }
    assert!(junit.contains("type=\"regression\"") && junit.contains("classname=\"squares.mine\""), "{junit}");

    // The gate that lets it pass leaves notices.
    let ran = run(&mut shown(judge(&place, [12, 5, 4], &["--gate", "noise"]))).with_code(0);
    assert!(!ran.stderr.contains("::error"), "{}", ran.stderr);
    drop(ran.saying(&["::notice file=snapshots/mine/squares.snap"]));
    assert!(place.read("summary.md").contains("### ✅ mine on squares\n"));
}

#[test]
fn another_pipelines_snapshot_is_held_beside() {
    let place = accepted();
    place.write("other.jsonl", &completions([11, 6, 12]));
    let args = ["--samples", "other.jsonl", "--label", "other", "--against", "mine"];
    let ran = run(&mut place.squares(&[&args[..], &PROBLEMS].concat())).with_code(0);
    ran.saying(&[
        "against   mine: pass@1 0.5833 → 0.8056 over 3 problems · 1 up, 1 down, 0 otherwise moved",
        "- squares/0     12/12 → 11/12   passed 11 · wrong_answer 1",
        "+ squares/2      3/12 → 12/12   passed 12",
    ]);
    let nobody = ["--samples", "other.jsonl", "--label", "other", "--against", "nobody"];
    let ran = run(&mut place.squares(&[&nobody[..], &PROBLEMS].concat())).with_code(2);
    ran.saying(&["--against nobody", "snapshots/nobody/squares.snap", "there are mine"]);
}

#[test]
fn conflicts_and_edits_are_named() {
    let place = accepted();
    let snap = place.read("snapshots/mine/squares.snap");
    let refused = |from: &str, to: &str, words: &[&str]| {
        place.write("snapshots/mine/squares.snap", &snap.replacen(from, to, 1));
        let all = [&["snapshots/mine/squares.snap", "git checkout"], words].concat();
        run(&mut judge(&place, [12, 6, 3], &[])).with_code(2).saying(&all);
    };
    let line = snap.lines().find(|line| line.starts_with("squares/1 ")).unwrap();
    let conflict = format!("<<<<<<< HEAD\n{line}\n=======\n{line}\n>>>>>>> other");
    refused(line, &conflict, &["line ", "conflict of two branches"]);
    refused(line, &format!("{line}\n{line}"), &["`squares/1` stands there twice"]);
    refused("passed 6 · wrong_answer 6", "passed 7 · wrong_answer 6", &["do not add up"]);
}

/// A retrained pipeline in a pull request, on real checkpoints: an early epoch takes the place of the best one.
#[test]
fn rehearsal_of_a_pull_request() {
    let place = Workplace::new();
    let few = ["evaluate", "--dataset", "micro", "--num-samples", "12", "--max-tasks", "16"];
    let evaluate = |more: &[&str]| place.passk(&[&few[..], more].concat());
    run(evaluate(&["--pipeline", "verifiable"]).env("INSTA_UPDATE", "always")).with_code(0).saying(&["holds ("]);

    // The same model with other noise: no loss, whatever moved.
    run(&mut evaluate(&["--pipeline", "verifiable", "--seed", "1"])).with_code(0).saying(&["noise holds"]);

    // A worse model: status 1, and exactly the problems that moved.
    let worse = "storage/micro/checkpoints/verifiable/checkpoint_epoch_1.pt";
    let mut command =
        evaluate(&["--checkpoint", worse, "--label", "verifiable", "--gate", "noise", "--json", "out.json"]);
    command.env("GITHUB_ACTIONS", "true").env("GITHUB_STEP_SUMMARY", place.path("summary.md"));
    run(&mut command).with_code(1).saying(&["noise FAILED", "::error file=snapshots/verifiable/micro.snap"]);
    let json: serde_json::Value = serde_json::from_str(&place.read("out.json")).unwrap();
    let moved: Vec<&str> =
        json[0]["gate"]["moved"].as_array().unwrap().iter().map(|m| m["task"].as_str().unwrap()).collect();
    let snap = place.read("snapshots/verifiable/micro.snap");
    let new = place.read("snapshots/verifiable/micro.snap.new");
    let lines = |text: &str| -> BTreeMap<String, String> {
        let problems = text.lines().filter(|line| line.starts_with("micro/"));
        problems
            .map(|line| line.split_once(' ').unwrap())
            .map(|(task, rest)| (task.to_owned(), rest.to_owned()))
            .collect()
    };
    let (before, now) = (lines(&snap), lines(&new));
    let mut expected: Vec<&str> =
        now.iter().filter(|(task, line)| before[*task] != **line).map(|(task, _)| task.as_str()).collect();
    let mut shown = moved.clone();
    expected.sort_unstable();
    shown.sort_unstable();
    assert!(!expected.is_empty() && expected.len() < now.len(), "{expected:?}");
    assert_eq!(shown, expected);
    let summary = place.read("summary.md");
    for task in now.keys() {
        assert_eq!(summary.contains(&format!("| {task} |")), expected.contains(&task.as_str()), "{task}: {summary}");
    }
}
