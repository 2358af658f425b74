//! CodeContests from a parquet file that pyarrow wrote: `.ci/parquet` runs it, in a build with the feature `parquet`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use passk::dataset::{Fetcher, Published, Source};
use passk::suite::{CodeContests, SOURCES, Suite};
use passk::task::Check;
use tempfile::TempDir;

use crate::workplace::{Workplace, repository, run};

/// The publisher's table, without the digest that files of a test's own do not have.
fn source() -> Source {
    let known = SOURCES.iter().find(|source| source.name == "codecontests").unwrap();
    let file = Published { sha256: None, ..known.files[0] };
    assert!(file.file.ends_with(".parquet") && known.files[0].sha256.is_some());
    Source { name: known.name, files: Box::leak(Box::new([file])) }
}

#[test]
fn contests_from_a_table_that_pyarrow_wrote() {
    let python =
        std::env::var_os("PASSK_PYARROW").expect("an interpreter with pyarrow in PASSK_PYARROW: run .ci/parquet");
    let folder = TempDir::new().unwrap();
    let (table, lacking) = (folder.path().join(source().files[0].file), folder.path().join("lacking"));
    let script = repository().join("tests/it/suites/parquet.py");
    assert!(Command::new(python).arg(script).args([&table, &lacking]).status().unwrap().success());
    let place = Workplace::new();
    let fetch = |mirror: PathBuf| {
        let fetcher = Fetcher { mirror: Some(mirror.display().to_string()), ..Fetcher::default() };
        fetcher.fetch(&source(), &place.path("storage"), &mut |_| ())
    };
    let fetched = fetch(folder.path().to_owned()).unwrap();
    assert_eq!((fetched.rows, fetched.pinned), (2, false));

    let tasks = CodeContests.tasks(&place.path("storage")).unwrap();
    let ids: Vec<&str> = tasks.iter().map(|task| task.id.as_str()).collect();
    assert_eq!(ids, ["1000_A. Doubling", "p00001 Nothing solved in Python 3"]);
    let Check::Stdio(tests) = &tasks[0].check else { panic!("not judged by output") };
    assert_eq!(tests.len(), 104);
    assert_eq!((tests[3].input.as_str(), tests[103].output.as_str()), ("0\n", "198\n"));
    let question = tasks[0].question.as_ref().unwrap();
    assert!(question.text.contains("The task of 1000_A. Doubling, with ä and 🐍."), "{}", question.text);
    assert_eq!(question.input, "Input:\n1\nOutput:\n2\n\nInput:\n5\nOutput:\n10");
    // The one in Python 3, of four languages.
    assert_eq!(tasks[0].canonical.as_deref(), Some("print(2 * int(input()))"));
    assert_eq!(tasks[1].canonical, None);
    let rows = place.read("storage/datasets_v2/codecontests/processed/test_eval.jsonl");
    assert!(rows.contains(r#""source":"CODEFORCES","difficulty":"A""#), "{rows}");
    assert!(rows.contains(r#""source":"AIZU","difficulty":"UNKNOWN_DIFFICULTY""#), "{rows}");

    let judge = ["evaluate", "--dataset", "codecontests", "--samples", "canonical", "1000_A. Doubling"];
    run(&mut place.passk(&judge)).with_code(0).saying(&["pass@1 1.0000"]);

    // A table without one of the columns, one that is cut short, and the published name over another file.
    fs::rename(&lacking, &table).unwrap();
    let error = fetch(folder.path().to_owned()).unwrap_err().to_string();
    assert!(error.contains(":1: the table has no column `private_tests`: it has name,"), "{error}");
    let bytes = fs::read(&table).unwrap();
    fs::write(&table, &bytes[..bytes.len() / 2]).unwrap();
    let error = fetch(folder.path().to_owned()).unwrap_err().to_string();
    assert!(error.contains("failed to read") && error.contains(".parquet"), "{error}");
    let mut published = place.passk(&["fetch", "codecontests"]);
    run(published.env("PASSK_MIRROR", folder.path())).with_code(2).saying(&["not the pinned aa426cbdb202bf87"]);
}
