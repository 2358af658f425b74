//! JUnit XML: a suite for each label, a case for each problem.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::entry::Trouble;
use crate::record::{Problem, Run};

/// One label's cases.
pub(super) fn suite<'a>(run: &Run, outcomes: impl Iterator<Item = (&'a str, Result<Problem, Trouble>)>) -> TestSuite {
    let mut suite = TestSuite::new(format!("{}.{}", run.fingerprint.dataset, run.label));
    for (task, outcome) in outcomes {
        let (status, said) = match outcome {
            Ok(problem) => {
                let line = format!("{}/{}   {}", problem.tally.c, problem.tally.n, problem.verdict_line());
                (TestCaseStatus::success(), Some(line))
            }
            Err(trouble) => {
                let (kind, name) = match trouble {
                    Trouble::Moved(_) => (NonSuccessKind::Failure, "regression"),
                    Trouble::Harness(_) => (NonSuccessKind::Error, "harness"),
                };
                let text = trouble.to_string();
                let mut status = TestCaseStatus::non_success(kind);
                status
                    .set_type(name)
                    .set_message(text.lines().next().unwrap_or_default())
                    .set_description(text.clone());
                (status, None)
            }
        };
        let mut case = TestCase::new(task, status);
        case.set_classname(format!("{}.{}", run.fingerprint.dataset, run.label));
        if let Some(said) = said {
            case.set_system_out(said);
        }
        suite.add_test_case(case);
    }
    suite
}

/// Writes the report.
pub(super) fn write(path: &Path, suites: Vec<TestSuite>) -> std::io::Result<()> {
    let mut report = Report::new("passk");
    report.add_test_suites(suites);
    let text = report.to_string().map_err(std::io::Error::other)?;
    crate::file::write_atomically(path, text.as_bytes())
}
