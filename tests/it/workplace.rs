//! A folder of its own to run passk in, as a user would from a clone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A working folder with the repository's micro fixtures and nothing else.
pub(crate) struct Workplace {
    folder: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Ended with this status.
    #[track_caller]
    pub(crate) fn with_code(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Says every one of `words` on stderr, and did not panic.
    #[track_caller]
    pub(crate) fn saying(self, words: &[&str]) -> Ran {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks `{word}`:\n{}", self.stderr);
        }
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Workplace {
    pub(crate) fn new() -> Workplace {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("storage")).unwrap();
        let micro = repository().join("storage/micro");
        std::os::unix::fs::symlink(micro, folder.path().join("storage/micro")).unwrap();
        Workplace { folder }
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.folder.path().join(inside)
    }

    pub(crate) fn read(&self, inside: &str) -> String {
        std::fs::read_to_string(self.path(inside)).unwrap_or_else(|error| panic!("{inside}: {error}"))
    }

    pub(crate) fn write(&self, inside: &str, text: &str) -> PathBuf {
        let path = self.path(inside);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The `passk` binary, in this folder, with nothing of the caller's settings.
    pub(crate) fn passk(&self, args: &[&str]) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_passk")), args)
    }

    /// The same, by a shell that runs `setup` first; `$SETUP` is that whole script, `$@` the command.
    pub(crate) fn passk_after(&self, setup: &str, args: &[&str]) -> Command {
        let script = format!("{setup}\nexec \"$@\"");
        let mut command = self.command(Path::new("sh"), &["-c", &script, "sh", env!("CARGO_BIN_EXE_passk")]);
        command.args(args).env("SETUP", &script);
        command
    }

    /// The ten-line benchmark of the crate doc.
    pub(crate) fn squares(&self, args: &[&str]) -> Command {
        self.command(squares(), args)
    }

    fn command(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            let ours = ["PASSK_", "INSTA_", "MLFLOW_", "GITHUB_", "NEXTEST"];
            if name == "CI" || ours.iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The folder of the only run there is.
    pub(crate) fn run_folder(&self) -> PathBuf {
        let runs: Vec<PathBuf> =
            std::fs::read_dir(self.path("storage/runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.into_iter().next().unwrap()
    }
}

/// Runs to the end.
pub(crate) fn run(command: &mut Command) -> Ran {
    command.output().unwrap().into()
}

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo tells tests where binaries are, but not where an example is: ask it to build (usually nothing) and look.
fn squares() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--example", "squares", "--message-format=json"])
            .current_dir(repository())
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let messages = String::from_utf8(built.stdout).unwrap();
        let artifact = |line: &str| -> Option<PathBuf> {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let named = message["target"]["name"] == "squares";
            named.then(|| message["executable"].as_str().map(PathBuf::from))?
        };
        messages.lines().find_map(artifact).unwrap()
    })
}
