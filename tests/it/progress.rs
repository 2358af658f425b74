//! The bar on a terminal, seen through a pseudo-terminal: it shows, and garbles no line.

use std::io::Read;
use std::process::{Command, Stdio};

use crate::workplace::Workplace;

/// Runs a command with a terminal of this size and returns the bytes that came to its screen.
const IN_A_TERMINAL: &str = r#"
import fcntl, os, pty, struct, sys, termios
rows, cols = int(sys.argv[1]), int(sys.argv[2])
pid, fd = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    os.execv(sys.argv[3], sys.argv[3:])
out = sys.stdout.buffer
while True:
    try:
        chunk = os.read(fd, 65536)
    except OSError:
        break
    if not chunk:
        break
    out.write(chunk)
out.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

const ROWS: u16 = 120;

/// The bytes of a command that ends with this status, and the screen as a person sees it at the end.
fn on_a_terminal(columns: u16, command: &Command, code: i32) -> (String, Vec<String>) {
    let mut python = Command::new("python3");
    python.args(["-c", IN_A_TERMINAL, &ROWS.to_string(), &columns.to_string()]);
    python.arg(command.get_program()).args(command.get_args());
    python.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null()).stdout(Stdio::piped());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    let mut child = python.env("TERM", "xterm-256color").spawn().unwrap();
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(code), "{}", String::from_utf8_lossy(&bytes));
    let mut terminal = vt100::Parser::new(ROWS, columns, 0);
    terminal.process(&bytes);
    let rows = terminal.screen().rows(0, columns).map(|row| row.trim_end().to_owned()).collect();
    (String::from_utf8_lossy(&bytes).into_owned(), rows)
}

#[track_caller]
fn check(columns: u16, command: &Command, results: impl Iterator<Item = String>) {
    let (bytes, rows) = on_a_terminal(columns, command, 0);
    let screen = rows.join("\n");
    assert!(bytes.contains(" judged, "), "there was no bar:\n{screen}");
    // Nothing is left of the bar.
    assert!(!screen.contains(" judged, ") && !screen.contains('█') && !screen.contains('░'), "{screen}");
    for result in results {
        assert!(rows.contains(&result), "`{result}` is not whole:\n{screen}");
    }
}

#[test]
fn no_result_line_is_garbled() {
    let results = || (0..12).map(|n| format!("test {:<10} ... ok", format!("squares/{n}")));
    for (columns, threads) in [(80, "2"), (40, "4"), (80, "1")] {
        let place = Workplace::new();
        let args = ["--samples", "canonical", "--jobs", "1", "--test-threads", threads];
        check(columns, &place.squares(&args), results());
    }
}

#[test]
fn nor_a_line_of_our_own() {
    let place = Workplace::new();
    let args = ["evaluate", "--dataset", "micro", "--num-samples", "2", "--max-tasks", "8"];
    check(60, &place.passk(&args), std::iter::empty());
    let place = Workplace::new();
    let (_, rows) = on_a_terminal(100, &place.passk(&args), 0);
    let results = rows.iter().filter(|row| row.starts_with('[') && row.contains("/8] micro/")).count();
    assert_eq!(results, 8, "{}", rows.join("\n"));
    // Under CI there is none even on a terminal.
    let place = Workplace::new();
    let mut command = place.passk(&args);
    command.env("CI", "true");
    assert!(!on_a_terminal(80, &command, 0).0.contains(" judged, "));
}

#[test]
fn a_download_fits_the_narrowest_terminal() {
    for (columns, bar) in [(100, true), (40, true), (34, false), (20, false)] {
        let place = Workplace::new();
        let mut command = place.passk(&["fetch", "humaneval"]);
        command.env("PASSK_MIRROR", crate::track::server(Some("200 OK"), "not what was published"));
        let (bytes, rows) = on_a_terminal(columns, &command, 2);
        assert!(bytes.contains("HumanEval.jsonl.gz") && bytes.contains('█') == bar, "{columns} columns: {bytes}");
        // Nothing is left of it above the message.
        assert!(rows[0].starts_with("error: ") && !rows.concat().contains(" MB"), "{columns} columns: {rows:?}");
    }
}
