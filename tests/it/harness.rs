//! A harness target behaves as libtest does, and its own flags as the documentation says. Tried on the crate doc's
//! benchmark of one's own, judging its canonical solutions: no model is needed.

use std::process::Stdio;

use crate::workplace::{Workplace, run};

/// Names of the tests that a listing shows.
fn listed(args: &[&str]) -> Vec<String> {
    let place = Workplace::new();
    let args = [&["--samples", "canonical", "--list"], args].concat();
    let stdout = run(&mut place.squares(&args)).with_code(0).stdout;
    stdout.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[test]
fn without_a_checkpoint_all_is_ignored_with_the_reason() {
    let place = Workplace::new();
    let ran = run(&mut place.squares(&[])).with_code(0);
    assert!(ran.stdout.contains("running 12 tests"), "{}", ran.stdout);
    assert!(ran.stdout.contains("test squares/3  ... ignored (no checkpoint: give --checkpoint"), "{}", ran.stdout);
    assert!(ran.stdout.contains("0 passed; 0 failed; 12 ignored"), "{}", ran.stdout);
    // What nextest asks, to know what it need not run.
    let ignored = run(&mut place.squares(&["--list", "--format", "terse", "--ignored"])).with_code(0).stdout;
    assert_eq!(ignored.lines().count(), 12, "{ignored}");
    assert!(!place.path("storage/runs").exists());
}

#[test]
fn filters_are_libtests_and_task_ids_are_exact() {
    assert_eq!(listed(&[]).len(), 12);
    assert_eq!(listed(&["squares/1"]), ["squares/1"]); // not squares/10 and squares/11
    assert_eq!(listed(&["s/1"]), ["squares/1", "squares/10", "squares/11"]);
    assert_eq!(listed(&["squares/1", "squares/7"]), ["squares/1", "squares/7"]);
    assert_eq!(listed(&["s/1", "--skip", "squares/10"]), ["squares/1", "squares/11"]);
    assert_eq!(listed(&["s/1", "--exact"]), [""; 0]);
    assert_eq!(listed(&["squares/1", "--exact"]), ["squares/1"]);
    assert_eq!(listed(&["--ignored"]), [""; 0]);
    // A filter that matches nothing is said, as libtest says it, and is no failure: cargo runs many targets with one.
    let place = Workplace::new();
    let ran = run(&mut place.squares(&["--samples", "canonical", "cubes"])).with_code(0);
    assert!(ran.stdout.contains("0 passed; 0 failed; 0 ignored; 0 measured; 12 filtered out"), "{}", ran.stdout);
    ran.saying(&["no task of `squares` matches cubes"]);
    // Nothing of ours is ignored, so nothing is sampled or judged either.
    run(&mut place.squares(&["--samples", "canonical", "--ignored"])).with_code(0);
    assert!(!place.path("storage/runs").exists());
}

#[test]
fn a_run_is_judged_recorded_and_summed_up() {
    let place = Workplace::new();
    let ran = run(&mut place.squares(&["--samples", "canonical", "--test-threads", "1", "--no-capture"])).with_code(0);
    assert!(ran.stdout.starts_with("\nrunning 12 tests\ntest squares/0  ... ok\n"), "{}", ran.stdout);
    assert!(ran.stdout.trim_end().lines().last().unwrap().starts_with("test result: ok. 12 passed; 0 failed"));
    let ran = ran.saying(&["pass@1 1.0000", "12 of 12 problems", "passed 12", "squares-canonical-", ".snap.new"]);
    assert!(!ran.stdout.contains("pass@1"), "stdout is the harness's: {}", ran.stdout);

    let samples = std::fs::read_to_string(place.run_folder().join("samples.jsonl")).unwrap();
    let first: serde_json::Value = serde_json::from_str(samples.lines().next().unwrap()).unwrap();
    assert_eq!(first["task_id"], "squares/0");
    assert_eq!(first["completion"], "    return x * x + 0\n");
    assert_eq!((&first["passed"], &first["verdict"]), (&true.into(), &"passed".into()));
    let results = std::fs::read_to_string(place.run_folder().join("results_squares.csv")).unwrap();
    assert!(results.starts_with("task_id,n,c,pass@1\nsquares/0,1,1,1.0000\n"), "{results}");
    let summary = std::fs::read_to_string(place.run_folder().join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((&summary["pass_at_k"]["pass@1"], &summary["verdicts"]["passed"]), (&1.0.into(), &12.into()));
}

#[test]
fn a_broken_stderr_ends_nothing() {
    let place = Workplace::new();
    let mut command = place.squares(&["--samples", "canonical"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert!(child.wait().unwrap().success());
    assert!(place.run_folder().join("summary.json").exists());
}

#[test]
fn json_is_json() {
    let place = Workplace::new();
    let args = ["--samples", "canonical", "-Z", "unstable-options", "--format", "json"];
    let stdout = run(&mut place.squares(&args)).with_code(0).stdout;
    let events: Vec<serde_json::Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.iter().filter(|event| event["event"] == "ok" && event["type"] == "test").count(), 12);
}

#[test]
fn every_flag_has_a_twin() {
    let place = Workplace::new();
    let ran = run(place.squares(&["squares/2"]).env("PASSK_SAMPLES", "canonical").env("PASSK_LABEL", "twin"));
    ran.with_code(0).saying(&["twin on squares"]);
    // An empty variable counts as unset, and the command line comes first.
    run(place.squares(&[]).env("PASSK_SAMPLES", "").env("PASSK_TEMPERATURE", "")).with_code(0);
    let ran =
        run(place.squares(&["--label", "said", "squares/2", "--samples", "canonical"]).env("PASSK_LABEL", "twin"));
    ran.with_code(0).saying(&["said on squares"]);
    let ran = run(place.squares(&["--samples", "canonical", "squares/2"]).env("PASSK_PIPELINE", "baseline"));
    ran.with_code(0).saying(&["canonical on squares"]);
    let fresh = place.squares(&["--samples", "canonical", "squares/2"]).env("PASSK_FRESH", "1").output().unwrap();
    assert!(String::from_utf8_lossy(&fresh.stderr).contains("1 completions to judge\n"), "{fresh:?}");
    run(place.squares(&[]).env("PASSK_PIPELINE", "one two")).with_code(2).saying(&["`one`"]);
    run(place.squares(&[]).env("PASSK_TOP_P", "2")).with_code(2).saying(&["--top-p is 2"]);
}

/// Twelve completions, of which those in `wrong` do not solve their tasks.
fn completions(wrong: &[u32]) -> String {
    let line = |n: u32| {
        let body = if wrong.contains(&n) { "x" } else { "x * x" };
        format!("{{\"task_id\": \"squares/{n}\", \"completion\": \"    return {body} + {n}\"}}\n")
    };
    (0..12).map(line).collect()
}

#[test]
fn an_accepted_snapshot_is_held() {
    let place = Workplace::new();
    let right = place.write("right.jsonl", &completions(&[]));
    let worse = place.write("worse.jsonl", &completions(&[4]));
    let (right, worse) = (right.to_str().unwrap(), worse.to_str().unwrap());
    let judge = |file: &str, more: &[&str]| place.squares(&[&["--samples", file, "--label", "mine"], more].concat());
    let snap = "snapshots/mine/squares.snap";

    // The first: green, and pending; in CI nothing is written.
    run(judge(right, &[]).env("CI", "true")).with_code(0).saying(&["nothing was written"]);
    assert!(!place.path("snapshots").join("mine/squares.snap.new").exists());
    run(&mut judge(right, &[])).with_code(0).saying(&["to review: snapshots/mine/squares.snap.new"]);
    assert!(!place.path(snap).exists());
    run(judge(right, &[]).env("INSTA_UPDATE", "always")).with_code(0).saying(&["holds (snapshots/mine/squares.snap)"]);
    assert!(place.read(snap).contains("\nsquares/4        1/1   passed 1\n"), "{}", place.read(snap));

    // The same again holds; a change is red, says what moved, and leaves the new file for review.
    run(&mut judge(right, &[])).with_code(0).saying(&["holds ("]);
    let ran = run(&mut judge(worse, &[])).with_code(101).saying(&["to review: snapshots/mine/squares.snap.new"]);
    let moved =
        "squares/4 is not as accepted in snapshots/mine/squares.snap\n-  1/1   passed 1\n+  0/1   wrong_answer 1";
    assert!(ran.stdout.contains(moved), "{}", ran.stdout);
    assert!(ran.stdout.contains("11 passed; 1 failed"), "{}", ran.stdout);
    assert!(place.read("snapshots/mine/squares.snap.new").contains("squares/4        0/1   wrong_answer 1"));
    std::fs::remove_file(place.path("snapshots/mine/squares.snap.new")).unwrap();

    // Collected for review, or not asked for: no failure.
    run(judge(worse, &[]).env("INSTA_FORCE_PASS", "1"))
        .with_code(0)
        .saying(&["to review: snapshots/mine/squares.snap.new"]);
    run(&mut judge(worse, &["--gate", "off"])).with_code(0).saying(&["not compared (--gate off)"]);

    assert!(!place.read(snap).contains("0/1"), "a collected difference is not an accepted one");

    // One problem alone is held against its line, and cannot overwrite a file of other completions.
    run(&mut judge(worse, &["squares/4"])).with_code(101).saying(&["left as it is"]);
    run(&mut judge(worse, &["squares/5"])).with_code(0);

    // Other settings are another measurement.
    let before = place.read(snap);
    run(&mut judge(worse, &["--timeout", "4"])).with_code(0).saying(&[
        "noise holds",
        "left as it is",
        "cpu 5 s",
        "cpu 4 s",
    ]);
    run(&mut judge(worse, &["--timeout", "4", "--gate", "exact"])).with_code(101);
    run(&mut judge(right, &["--timeout", "4", "--gate", "exact", "squares/4"])).with_code(0).saying(&["left as it is"]);
    assert_eq!(place.read(snap), before);
}

#[test]
fn an_edited_snapshot_is_refused_not_believed() {
    let place = Workplace::new();
    place.write("snapshots/canonical/squares.snap", "---\nsource: x\n---\nsampling n 1\n\nsquares/0 2/1 passed 2\n");
    let ran = run(&mut place.squares(&["--samples", "canonical"]));
    ran.with_code(2).saying(&["snapshots/canonical/squares.snap", "squares/0 2/1 passed 2", "delete it"]);
}
