//! The settings in which the corpus is run, one trial each, and the trials of the corpus itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use passk::jail::{Isolation, Python, Start};
use passk::verdict::Verdict;

use crate::head::{self, Case, Setting};
use crate::host::SECRET_VARIABLE;
use crate::kill::Dice;

/// The user that root becomes: one that owns nothing on any machine.
const USER: u32 = 54_321;

/// Hostile programs of each kind that there are at least.
const KINDS: [(&str, usize); 7] = [
    ("escape_", 20),
    ("exhaustion_", 15),
    ("forgery_", 15),
    ("hang_", 8),
    ("garbage_", 10),
    ("leak_", 5),
    ("interference_", 7),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("heads", || heads().map_err(Failed::from)),
        Trial::test("damaged_heads", || damaged_heads().map_err(Failed::from)),
        Trial::test("bad_heads", || {
            bad_heads();
            Ok(())
        }),
    ];
    trials.push(Trial::test("kill", || kill().map_err(Failed::from)));
    trials.push(Trial::test("soak", || soak().map_err(Failed::from)));
    let all = std::env::var("PASSK_CORPUS").is_ok_and(|which| which == "all");
    let is_root = rustix::process::geteuid().is_root();
    for level in Isolation::ALL {
        for start in Start::ALL {
            for root in [true, false] {
                // As root there are two users to try; as another there is one.
                let usual = start == Start::Warm && root == is_root;
                if (all || usual) && (is_root || !root) {
                    let setting = Setting { level, start, root, split: true };
                    let name = format!("{level}/{start}/{}", if root { "root" } else { "user" });
                    trials.push(Trial::test(name, move || run(setting, is_root)));
                }
            }
        }
    }
    trials
}

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The programs of a folder, by name.
pub(crate) fn programs(folder: &Path) -> Result<Vec<(String, Case)>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let case = Case::parse(&text).map_err(|cause| format!("{}: {cause}", path.display()))?;
        Ok((path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), case))
    };
    paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "py")).map(read).collect()
}

/// Every head is well-formed; there are enough programs of each kind; what is benign passes, and of the hostile none
/// is ever to pass but by an in-process judgement that is known to be too little.
fn heads() -> Result<(), String> {
    let (benign, hostile) = (programs(&data().join("benign"))?, programs(&data().join("hostile"))?);
    if benign.len() < 40 || hostile.len() < 60 {
        return Err(format!("only {} benign and {} hostile programs", benign.len(), hostile.len()));
    }
    for (kind, least) in KINDS {
        let count = hostile.iter().filter(|(name, _)| name.starts_with(kind)).count();
        if count < least {
            return Err(format!("only {count} programs `{kind}…`"));
        }
    }
    for (name, case) in &hostile {
        if !KINDS.iter().any(|(kind, _)| name.starts_with(kind)) {
            return Err(format!("hostile/{name} is of no kind"));
        }
        // But for the one that did no harm: its tests were passed, and what it left to be done at exit is never done.
        if name != "hang_in_an_exit_handler" && case.ever_expected(true).any(Verdict::passed) {
            return Err(format!("hostile/{name} is expected to pass"));
        }
        let beside = case.at_once.as_deref().filter(|beside| *beside != "itself");
        if beside.is_some_and(|beside| !benign.iter().any(|(name, _)| name == beside)) {
            return Err(format!("hostile/{name} runs beside no benign program"));
        }
    }
    match benign.iter().find(|(_, case)| !case.ever_expected(true).any(Verdict::passed)) {
        Some((name, _)) => Err(format!("benign/{name} is not expected to pass")),
        None => Ok(()),
    }
}

fn bad_heads() {
    let parse = |text: &str| Case::parse(text).map(|_| ()).unwrap_err();
    #[rustfmt::skip]
    let cases = [
        ("", "what it does"),
        ("x = 1\n", "what it does"),
        ("# No stop\n", "no sentence"),
        ("# A sentence.\n", "without conditions"),
        ("# A sentence.\n# expect landlock: passed\n", "without conditions"),
        ("# A sentence.\n# expect: pased\n", "line 2: `pased` is no verdict"),
        ("# A sentence.\n# expect landlok: passed\n", "`landlok`"),
        ("# A sentence.\n# exepct: passed\n", "unknown directive `exepct`"),
        ("# A sentence.\n# words\n", "no directive"),
        ("# A sentence.\n# expect: passed\n# limits: cpu=1\n", "`cpu=1` is no limit"),
        ("# A sentence.\n# expect: passed\n# limits: memory=99999999999999999M\n", "is no limit"),
        ("# A sentence.\n# expect: passed\n# let A: \"x\"\n", "`@A@` is not used"),
        ("# A sentence.\n# expect: passed\n# let A: \"x\" * 99999999999\n@A@", "no text"),
        ("# A sentence.\n# expect: passed\n# let A: \"x\" * 30000000\n@A@@A@", "too large"),
        ("# A sentence.\n# expect: passed\n# let A: \"\\q\"\n@A@", "no text"),
        ("# A sentence.\n# expect: passed\n# --- test ---\n", "unknown divider `test`"),
        ("# A sentence.\n# expect: passed\n# --- tests ---\n# --- tests ---\n", "neither"),
        ("# A sentence.\n# expect: passed\n# --- output ---\n# --- input ---\n", "neither"),
    ];
    for (text, words) in cases {
        let said = parse(text);
        assert!(said.contains(words), "{text:?}: {said}");
        head::check(text);
    }
    let text = "# A sentence.\n# expect: passed | signal\n# expect warm: timeout_cpu\n# expect warm root: violation\n# let A: \"x\\u{e4}\" * 2\n# --- candidate ---\n@A@\n# --- tests ---\n@B@\n";
    let case = Case::parse(text).unwrap();
    let setting = |start, root| Setting { level: Isolation::Landlock, start, root, split: true };
    assert_eq!(case.expected(setting(Start::Cold, true)), [Verdict::Passed, Verdict::Signal]);
    assert_eq!(case.expected(setting(Start::Warm, false)), [Verdict::TimeoutCpu]);
    assert_eq!(case.expected(setting(Start::Warm, true)), [Verdict::Violation]);
    assert_eq!(case.program(&[("B", "y".into())]).source(), "xäxä\n\ny\n\n");
}

/// A damaged file is read or refused, and never more than that: every file, with parts cut out, doubled, moved and
/// replaced, 40 times over.
fn damaged_heads() -> Result<(), String> {
    const PIECES: [&str; 12] = [
        "# ",
        "\n",
        ": ",
        "\"",
        " * 9",
        "\\u{",
        "@",
        " --- ",
        "é",
        "expect",
        "# --- candidate ---\n",
        "=18446744073709551615M",
    ];
    let mut dice = Dice(4);
    let mut read = 0;
    for folder in ["benign", "hostile"] {
        for entry in fs::read_dir(data().join(folder)).map_err(|error| error.to_string())?.flatten() {
            let text = fs::read_to_string(entry.path()).map_err(|error| error.to_string())?;
            for _ in 0..40 {
                let mut chars: Vec<char> = text.chars().collect();
                for _ in 0..=(dice.part() * 4.0) as usize {
                    // Mostly in the head, and around it.
                    let at = (dice.part() * chars.len().min(240) as f64) as usize;
                    let end = (at + (dice.part() * 12.0) as usize).min(chars.len());
                    let piece: Vec<char> = match (dice.part() * 3.0) as usize {
                        0 => Vec::new(),
                        1 => chars[at..end].repeat(2),
                        _ => PIECES[(dice.part() * PIECES.len() as f64) as usize].chars().collect(),
                    };
                    chars.splice(at..end, piece);
                }
                let damaged: String = chars.into_iter().collect();
                read += usize::from(Case::parse(&damaged).is_ok());
                head::check(&damaged);
            }
        }
    }
    // Damage that is never refused, or always, would try nothing.
    if (500..8000).contains(&read) { Ok(()) } else { Err(format!("{read} damaged files were read")) }
}

/// Runs the corpus in one setting, by a worker.
fn run(setting: Setting, is_root: bool) -> Result<(), Failed> {
    let Setting { level, start, root, .. } = setting;
    let place = tempfile::tempdir()?;
    open(place.path())?;
    // Another user may be kept from where the repository lies: everything that is needed is copied to where it is not.
    let worker = copy(&std::env::current_exe()?, place.path(), "worker")?;
    let host = copy(Path::new(env!("CARGO_BIN_EXE_passk")), place.path(), "passk")?;
    for folder in ["benign", "hostile"] {
        fs::create_dir(place.path().join(folder))?;
        open(&place.path().join(folder))?;
        for entry in fs::read_dir(data().join(folder))? {
            let entry = entry?;
            copy(&entry.path(), &place.path().join(folder), &entry.file_name().to_string_lossy())?;
        }
    }
    let (own, tmp) = (place.path().join("own"), place.path().join("tmp"));
    for folder in [&own, &tmp] {
        fs::create_dir(folder)?;
        open(folder)?;
    }
    let as_user = is_root && !root;
    let Some(python) = interpreter(as_user)? else {
        eprintln!("{level}/{start}: no interpreter here that an unprivileged user may run; nothing was tried");
        return Ok(());
    };
    let mut command = Command::new(worker);
    command.args(["--worker", &level.to_string(), &start.to_string()]).args([place.path(), &host]);
    command.arg(env!("CARGO_MANIFEST_DIR")).current_dir(&own).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TMPDIR", &tmp);
    command.env(SECRET_VARIABLE, format!("{:032x}", u128::from(std::process::id()) << 64 | 0x5ec2e7));
    command.env("PASSK_PYTHON", python).env("HOME", &own);
    for name in ["PASSK_CORPUS", "PASSK_CORPUS_ONLY", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    if as_user {
        command.uid(USER).gid(USER);
    }
    let done = command.stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&done.stdout);
    if std::env::var_os("PASSK_CORPUS_VERBOSE").is_some() {
        eprintln!("{said}");
    }
    let last = said.lines().last().unwrap_or_default();
    if let Some(why) = last.strip_prefix("not offered: ") {
        let required = std::env::var("PASSK_CORPUS_REQUIRE").unwrap_or_default();
        if required.split(',').any(|name| name == level.to_string()) {
            return Err(format!("{level} is required, but not offered: {why}").into());
        }
        eprintln!("{level}/{start}: not offered here: {why}");
        return Ok(());
    }
    let faults: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("fault: ")).collect();
    if !faults.is_empty() {
        return Err(format!("{} faults\n{}", faults.len(), faults.join("\n")).into());
    }
    if !done.status.success() || !last.starts_with("done: ") {
        return Err(format!("the worker ended with {} after `{last}`", done.status).into());
    }
    eprintln!("{level}/{start}/{}: {}", if root { "root" } else { "user" }, &last["done: ".len()..]);
    Ok(())
}

/// Kills harnesses and what is below them, by a worker to which orphans fall.
fn kill() -> Result<(), String> {
    let number = |name: &str, otherwise: &str| std::env::var(name).unwrap_or(otherwise.into());
    let (count, seed) = (number("PASSK_KILLS", "6"), number("PASSK_KILLS_SEED", "1"));
    by_worker(&["--kill", &count, &seed, env!("CARGO_BIN_EXE_passk"), env!("CARGO_MANIFEST_DIR")])
}

/// Judges many programs, by a worker whose memory and processes are its own.
fn soak() -> Result<(), String> {
    let count = std::env::var("PASSK_SOAK").unwrap_or("300".into());
    by_worker(&["--soak", &count, env!("CARGO_BIN_EXE_passk")])
}

/// This executable again, with a temporary folder of its own.
fn by_worker(arguments: &[&str]) -> Result<(), String> {
    let tmp = tempfile::tempdir().map_err(|error| error.to_string())?;
    let done = Command::new(std::env::current_exe().map_err(|error| error.to_string())?)
        .args(arguments)
        .env("TMPDIR", tmp.path())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stdout);
    match (done.status.success(), said.lines().last().and_then(|last| last.strip_prefix("done: "))) {
        (true, Some(last)) => eprintln!("{}: {last}", arguments[0].trim_start_matches('-')),
        _ => return Err(format!("{}\n{said}", done.status)),
    }
    Ok(())
}

/// An interpreter that the worker's user may run.
fn interpreter(as_user: bool) -> Result<Option<PathBuf>, Failed> {
    let found = Python::find().map_err(|error| error.to_string())?.path;
    let candidates = [found, "/usr/bin/python3".into(), "/usr/local/bin/python3".into()];
    Ok(candidates.into_iter().find(|path| {
        let mut command = Command::new(path);
        command.args(["-c", ""]).current_dir("/").stderr(Stdio::null());
        if as_user {
            command.uid(USER).gid(USER);
        }
        command.status().is_ok_and(|status| status.success())
    }))
}

fn open(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))
}

fn copy(from: &Path, folder: &Path, name: &str) -> std::io::Result<PathBuf> {
    let to = folder.join(name);
    fs::copy(from, &to)?;
    let executable = fs::metadata(from)?.permissions().mode() & 0o100 != 0;
    fs::set_permissions(&to, fs::Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    Ok(to)
}
