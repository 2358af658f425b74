//! Finds the interpreter once, so that no program pays for a shim on the way to it.

use std::env;
use std::ffi::OsStr;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use super::JailError;

/// The oldest version that `runner.py` is written for.
const OLDEST: (u32, u32) = (3, 8);

/// A shim may search a while, and a cold disk be slow, but an interpreter that needs longer is none.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers in lines: the interpreter behind all shims, its version, with a `+` the
/// folders it is installed in, and those of installed packages. Understood by
/// Python 2 as well, which is to be refused by its version and not by a syntax error.
const QUESTION: &str = "\
import site, sys
lines = [sys.executable or '', '%d.%d.%d' % sys.version_info[:3]]
prefixes = [sys.prefix, sys.exec_prefix, getattr(sys, 'base_prefix', sys.prefix), getattr(sys, 'base_exec_prefix', sys.prefix)]
lines += ['+' + folder for folder in sorted(set(prefixes))]
try:
    lines += site.getsitepackages()
except AttributeError:
    pass
sys.stdout.write('\\n'.join(lines) + '\\n')
";

/// The real interpreter: not a shim, not a launcher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// Its executable, as `sys.executable` names it.
    pub path: PathBuf,
    /// Its version, e.g. `3.11.7`.
    pub version: String,
    /// Folders it is installed in.
    pub folders: Vec<PathBuf>,
    /// Folders of installed packages, which programs may import from.
    pub packages: Vec<PathBuf>,
}

impl Python {
    /// The interpreter that `PASSK_PYTHON` names, else `python3` on the path. An empty variable counts as unset.
    ///
    /// # Errors
    /// When there is none, or it is older than 3.8.
    pub fn find() -> Result<Python, JailError> {
        match env::var_os("PASSK_PYTHON") {
            Some(command) if !command.is_empty() => Python::at(&command),
            _ => Python::at("python3".as_ref()),
        }
    }

    /// The interpreter behind `command`, a path or a name on the path.
    ///
    /// # Errors
    /// When it does not answer as an interpreter does, or is older than 3.8.
    pub fn at(command: &OsStr) -> Result<Python, JailError> {
        let answer = ask(command)
            .map_err(|cause| JailError::NoPython { command: command.to_string_lossy().into_owned(), cause })?;
        let mut lines = answer.lines();
        let path = PathBuf::from(lines.next().unwrap_or_default());
        let version = lines.next().unwrap_or_default().to_owned();
        let Some(number) = parse(&version).filter(|_| path.is_absolute()) else {
            return Err(JailError::NoPython {
                command: command.to_string_lossy().into_owned(),
                cause: "it does not answer as an interpreter does".into(),
            });
        };
        if number < OLDEST {
            return Err(JailError::OldPython { path, version });
        }
        let (folders, packages): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('+'));
        let there = |lines: Vec<&str>| {
            let paths = lines.into_iter().map(|line| PathBuf::from(line.trim_start_matches('+')));
            paths.filter(|folder| folder.is_dir()).collect()
        };
        Ok(Python { path, version, folders: there(folders), packages: there(packages) })
    }
}

/// `3.11.7` as (3, 11).
fn parse(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// What `command` prints when asked, or why it does not.
fn ask(command: &OsStr) -> Result<String, String> {
    let mut child = Command::new(command)
        .args(["-E", "-s", "-c", QUESTION])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let ended = child.wait_timeout(PATIENCE).map_err(|error| error.to_string())?;
    let Some(status) = ended else {
        // Nothing more can be done about one that cannot be killed.
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("no answer within {} s", PATIENCE.as_secs()));
    };
    if !status.success() {
        let mut words = Vec::new();
        if let Some(stderr) = &mut child.stderr {
            let _ = stderr.take(4096).read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words);
        let last = words.lines().rfind(|line| !line.trim().is_empty());
        return Err(match last {
            Some(line) => format!("{status}: {line}"),
            None => status.to_string(),
        });
    }
    let mut answer = String::new();
    match child.stdout.take().map(|stdout| stdout.take(1 << 16).read_to_string(&mut answer)) {
        Some(Err(error)) => Err(error.to_string()),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(parse("3.11.7"), Some((3, 11)));
        assert_eq!(parse("3"), None);
        assert_eq!(parse("three.four"), None);
        assert!(parse("3.10.0").unwrap() > OLDEST);
        assert!(parse("2.7.18").unwrap() < OLDEST);
    }
}
