//! What was seen of a program → a judgement. Pure: the same seen is judged the same.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::Limits;
use super::report::{Report, STEP, clean, words};
use super::watch::{LeftBehind, Seen, Stop};
use crate::verdict::{Judgement, Verdict};

/// What `runner.py` writes before the program has its turn.
const BEGUN: &[u8] = b"begun\n";

const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
const SIGSYS: i32 = 31;

/// The judgement of a program that had `folder` and `nonce`.
///
/// # Errors
/// When the program was never begun; the text says why.
pub(super) fn judge(seen: &Seen, limits: &Limits, nonce: &str, folder: &str) -> Result<Judgement, String> {
    let Some(report) = seen.report.strip_prefix(BEGUN) else {
        return Err(last_words(seen));
    };
    let (verdict, detail) = match of_limits(seen, limits) {
        Some(reached) => reached,
        None => match Report::read(report, nonce) {
            Report::One(Verdict::Passed, _) => of_a_pass(seen.left_behind),
            Report::One(verdict, detail) => (verdict, detail),
            Report::None => of_the_end(seen.status),
            Report::Garbled => (Verdict::Violation, "wrote to the report pipe".into()),
        },
    };
    let mut parts = detail.split(STEP).map(|part| clean(part, folder));
    let detail = parts.next().unwrap_or_default();
    Ok(Judgement { cpu: seen.cpu, traceback: parts.collect(), ..Judgement::new(verdict, detail) })
}

/// What came of tests that were executed apart from what they test.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// They ended so.
    Judged(Judgement),
    /// They need what cannot be apart, and why.
    Whole(String),
    /// Whoever was to answer was gone.
    Gone,
}

/// As [`judge`], of an interpreter that had the tests alone.
///
/// # Errors
/// As there.
pub(super) fn asked(seen: &Seen, limits: &Limits, nonce: &str, folder: &str) -> Result<Asked, String> {
    let words = seen.report.strip_prefix(BEGUN).and_then(|report| words(report, nonce));
    Ok(match (of_limits(seen, limits), words) {
        (None, Some((word, why))) if word == "in_process" => Asked::Whole(clean(&why, folder)),
        (None, Some((word, _))) if word == "gone" => Asked::Gone,
        _ => Asked::Judged(judge(seen, limits, nonce, folder)?),
    })
}

/// A limit that was reached, whatever the program says about itself.
fn of_limits(seen: &Seen, limits: &Limits) -> Option<(Verdict, String)> {
    let signal = seen.status.signal();
    // Also when it ended, or reached another limit, before we looked. Where its time cannot be known, the kernel's
    // signal tells.
    let used_up = seen.cpu.is_some_and(|cpu| cpu >= limits.cpu) || signal == Some(SIGXCPU);
    let reached = match seen.stop {
        _ if used_up => Stop::Cpu,
        None if signal == Some(SIGXFSZ) => {
            let most = limits.file_bytes;
            let detail = format!("wrote a file of more than {most} bytes");
            return Some((Verdict::OutputLimit, detail));
        }
        reached => reached?,
    };
    let (cpu, wall) = (limits.cpu.as_secs_f64(), limits.wall.as_secs_f64());
    let (output, processes) = (limits.output_bytes, limits.processes);
    let (verdict, detail) = match reached {
        Stop::Cpu => (Verdict::TimeoutCpu, format!("used its {cpu} s of processor time")),
        Stop::Wall => (Verdict::TimeoutWall, format!("still running after {wall} s")),
        Stop::Output => (Verdict::OutputLimit, format!("printed more than {output} bytes")),
        Stop::Processes => (Verdict::ProcessLimit, format!("had more than {processes} processes and threads")),
        Stop::Memory => {
            (Verdict::MemoryLimit, format!("its processes took more than {} bytes together", limits.memory_bytes))
        }
        Stop::Files => {
            let (bytes, files) = (limits.folder_bytes(), Limits::FILES);
            (Verdict::OutputLimit, format!("had files of more than {bytes} bytes together, or more than {files} files"))
        }
        Stop::Report => (Verdict::Violation, "wrote more to the report pipe than a report has".to_owned()),
    };
    Some((verdict, detail))
}

/// A report of a pass stands only when nobody is left.
fn of_a_pass(left_behind: LeftBehind) -> (Verdict, String) {
    match left_behind {
        LeftBehind::Nobody => (Verdict::Passed, String::new()),
        LeftBehind::Member => (Verdict::Violation, "left a process running".into()),
        LeftBehind::Outsider => (Verdict::Violation, "left a process running outside its process group".into()),
    }
}

/// There is no report: how the process ended tells why, and can never be a pass.
fn of_the_end(status: ExitStatus) -> (Verdict, String) {
    match status.signal() {
        Some(SIGSYS) => (Verdict::Violation, "made a system call of another architecture".into()),
        Some(SIGKILL) => (Verdict::Signal, Judgement::KILLED.into()),
        Some(signal) => (Verdict::Signal, format!("ended by {}", signal_name(signal))),
        None => {
            let code = status.code().unwrap_or_default();
            (Verdict::EarlyExit, format!("ended without a report, exit status {code}"))
        }
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        8 => "SIGFPE",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return format!("signal {signal}"),
    };
    format!("{name} ({signal})")
}

/// What an interpreter that never began said last.
fn last_words(seen: &Seen) -> String {
    let text = String::from_utf8_lossy(&seen.tail);
    match (text.lines().rfind(|line| !line.trim().is_empty()), seen.stop) {
        (Some(line), _) => format!("{} ({})", clean(line, ""), seen.status),
        (None, Some(Stop::Wall)) => "it did not start within the wall time".into(),
        (None, _) => seen.status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::time::Duration;

    const PASS: &str = "begun\nabc passed \n";

    fn seen(report: &str) -> Seen {
        Seen {
            report: report.into(),
            tail: Vec::new(),
            stdout: Vec::new(),
            stop: None,
            left_behind: LeftBehind::Nobody,
            cpu: Some(Duration::from_millis(20)),
            status: ExitStatus::from_raw(0),
        }
    }

    #[track_caller]
    fn check(seen: &Seen, expected: Verdict) {
        let limits = Limits::for_cpu(Duration::from_secs(2));
        assert_eq!(judge(seen, &limits, "abc", "/tmp/x").unwrap().verdict, expected, "{seen:?}");
    }

    #[test]
    fn one_report_with_the_nonce_is_believed() {
        check(&seen(PASS), Verdict::Passed);
        check(&seen("begun\nabc wrong_answer assert f(1) == 2\n"), Verdict::WrongAnswer);
        check(&seen("begun\nabc early_exit SystemExit: 0\n"), Verdict::EarlyExit);
    }

    #[test]
    fn steps_stand_behind_the_detail() {
        let limits = Limits::for_cpu(Duration::from_secs(2));
        let report =
            "begun\nabc exception KeyError: 1\u{1f}line 9, in check: f(1)\u{1f}line 2, in f: open('/tmp/x/a')\n";
        let judged = judge(&seen(report), &limits, "abc", "/tmp/x").unwrap();
        assert_eq!((judged.verdict, judged.detail.as_str()), (Verdict::Exception, "KeyError: 1"));
        assert_eq!(judged.traceback, ["line 9, in check: f(1)", "line 2, in f: open('<folder>/a')"]);
    }

    #[test]
    fn exit_status_is_no_evidence() {
        check(&seen("begun\n"), Verdict::EarlyExit);
        check(&Seen { status: ExitStatus::from_raw(1 << 8), ..seen(PASS) }, Verdict::Passed);
    }

    #[test]
    fn anything_else_on_the_report_pipe_is_a_violation() {
        for report in [
            "passed",
            "abc passed",
            "abc passed\n",
            "xyz passed \n",
            "abc passed \nabc passed \n",
            "abc disputed \n",
            "abc in_process \n",
            "abc gone \n",
            "\n",
            "begun\nabc passed \n",
        ] {
            check(&seen(&format!("begun\n{report}")), Verdict::Violation);
        }
    }

    #[test]
    fn only_tests_that_are_apart_may_ask_to_be_whole() {
        let limits = Limits::for_cpu(Duration::from_secs(2));
        let of = |seen: &Seen| asked(seen, &limits, "abc", "/tmp/x").unwrap();
        assert_eq!(of(&seen("begun\nabc in_process an argument\n")), Asked::Whole("an argument".into()));
        assert_eq!(of(&seen("begun\nabc gone \n")), Asked::Gone);
        for (report, stop, verdict) in [
            ("begun\nabc passed \n", None, Verdict::Passed),
            ("begun\nxyz in_process an argument\n", None, Verdict::Violation),
            ("begun\nabc in_process an argument\n", Some(Stop::Wall), Verdict::TimeoutWall),
            ("begun\nabc gone \n", Some(Stop::Wall), Verdict::TimeoutWall),
        ] {
            let Asked::Judged(judgement) = of(&Seen { stop, ..seen(report) }) else { panic!("{report}") };
            assert_eq!(judgement.verdict, verdict, "{report}");
        }
    }

    #[test]
    fn what_never_began_is_not_judged() {
        let limits = Limits::for_cpu(Duration::from_secs(2));
        let tail = b"Fatal Python error: no codec\n\n".to_vec();
        let dead = Seen { tail, status: ExitStatus::from_raw(1 << 8), ..seen("") };
        let cause = judge(&dead, &limits, "abc", "/tmp/x").unwrap_err();
        assert_eq!(cause, "Fatal Python error: no codec (exit status: 1)");
        assert!(judge(&seen("abc passed \n"), &limits, "abc", "/tmp/x").is_err());
    }

    #[test]
    fn a_limit_outweighs_every_report() {
        for (stop, verdict) in [
            (Stop::Wall, Verdict::TimeoutWall),
            (Stop::Output, Verdict::OutputLimit),
            (Stop::Processes, Verdict::ProcessLimit),
            (Stop::Memory, Verdict::MemoryLimit),
            (Stop::Files, Verdict::OutputLimit),
            (Stop::Report, Verdict::Violation),
        ] {
            check(&Seen { stop: Some(stop), ..seen(PASS) }, verdict);
        }
        let cpu = Some(Duration::from_secs(2));
        check(&Seen { cpu, ..seen(PASS) }, Verdict::TimeoutCpu);
        check(&Seen { cpu, stop: Some(Stop::Wall), ..seen(PASS) }, Verdict::TimeoutCpu);
    }

    #[test]
    fn signals_are_told_apart() {
        let by = |signal| Seen { status: ExitStatus::from_raw(signal), ..seen("begun\n") };
        check(&by(SIGXCPU), Verdict::TimeoutCpu);
        check(&by(SIGXFSZ), Verdict::OutputLimit);
        check(&by(SIGKILL), Verdict::Signal);
        check(&Seen { cpu: Some(Duration::from_secs(3)), ..by(SIGKILL) }, Verdict::TimeoutCpu);
    }

    #[test]
    fn who_is_left_behind_spoils_a_pass() {
        for left_behind in [LeftBehind::Member, LeftBehind::Outsider] {
            check(&Seen { left_behind, ..seen(PASS) }, Verdict::Violation);
            check(&Seen { left_behind, ..seen("begun\nabc exception E\n") }, Verdict::Exception);
        }
    }
}
