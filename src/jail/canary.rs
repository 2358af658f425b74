//! Decides by trying: a program attempts what no program may do, against things that are really there.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use super::client::Client;
use super::wire::Setup;
use super::{HOSTED, Isolation, Jail, JailError, JailOptions, LevelReport, Limits, Python, nonce, sys};
use crate::verdict::Verdict;

const CANARY: &str = include_str!("canary.py");

/// A jail at `level` that has held every canary.
pub(super) fn proven(
    level: Isolation,
    python: Python,
    limits: Limits,
    options: &JailOptions,
) -> Result<Jail, JailError> {
    let missing = |why: String| JailError::Level { level, why };
    let mut jail = start(level, python, limits, options)?.check()?;
    let (held, through) = try_all(&jail, level)?;
    if let Some(first) = through.first() {
        return Err(missing(format!(
            "{} of {} canaries got through, {first} among them",
            through.len(),
            held.len() + through.len()
        )));
    }
    jail.survey = LevelReport { level, holds: true, mechanisms: mechanisms(level), held, missing: through };
    Ok(jail)
}

/// A jail at `level` with a supervisor, of which nothing has been tried yet.
pub(super) fn start(
    level: Isolation,
    python: Python,
    limits: Limits,
    options: &JailOptions,
) -> Result<Jail, JailError> {
    let missing = |why: String| JailError::Level { level, why };
    let host = match &options.host {
        Some(host) => host.clone(),
        None if HOSTED.load(Ordering::Relaxed) => "/proc/self/exe".into(),
        None => return Err(missing("this program does not call `passk::jail::host` first of all".into())),
    };
    let temp = std::env::temp_dir();
    let temp = std::fs::canonicalize(&temp).unwrap_or(temp);
    let setup = Setup { python: python.clone(), limits: limits.clone(), level, start: options.start, temp };
    let client = Some(Client::start(host, setup).map_err(missing)?);
    let survey = LevelReport::unproven(level);
    Ok(Jail { python, limits, start: options.start, split: options.split, survey, passed_over: Vec::new(), client })
}

fn mechanisms(level: Isolation) -> Vec<String> {
    let abi = sys::landlock_abi();
    let mut parts: Vec<String> = Vec::new();
    if level >= Isolation::Namespaces {
        let user = if rustix::process::geteuid().is_root() { "a user for each slot" } else { "user namespace" };
        parts.extend(["pid, mount, network, ipc and uts namespaces", user].map(str::to_owned));
    }
    if level == Isolation::Full {
        parts.push("a cgroup for each program".into());
    }
    parts.push("no capabilities".into());
    if abi > 0 {
        parts.push(format!("Landlock ABI {abi}"));
    }
    parts.extend(["seccomp", "rlimits"].map(str::to_owned));
    parts
}

/// Whether the whole of a program is bounded where no look at its processes could tell: by memory that is in none of them,
/// and by forks that are over before anybody counts.
fn try_bounds(jail: &Jail) -> Result<Vec<(&'static str, bool)>, JailError> {
    let ends_by = |source: &str, limits: &Limits, verdict| {
        Ok::<_, JailError>(jail.run_source(source, None, limits)?.0.verdict == verdict)
    };
    let memory = Limits { memory_bytes: 256 << 20, file_bytes: 512 << 20, ..jail.limits.clone() };
    let files = "file = open('file', 'wb')\nfor _ in range(320):\n    file.write(bytes(1 << 20))\n";
    let processes = Limits { processes: 8, ..jail.limits.clone() };
    let forks = "import os\nfor _ in range(12):\n    try:\n        if os.fork() == 0:\n            os.read(0, 1)\n            \
                 os._exit(0)\n    except OSError:\n        pass\n";
    Ok(vec![
        ("memory in no process", ends_by(files, &memory, Verdict::MemoryLimit)?),
        ("forks in a moment", ends_by(forks, &processes, Verdict::ProcessLimit)?),
    ])
}

/// The names of the canaries that were held, and of those that got through.
fn try_all(jail: &Jail, level: Isolation) -> Result<(Vec<String>, Vec<String>), JailError> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |cause: std::io::Error| JailError::Slot(format!("failed to lay out a canary's {what}: {cause}"))
    };
    let folder = tempfile::tempdir().map_err(|cause| JailError::Folder { parent: std::env::temp_dir(), cause })?;
    let name = nonce().map_err(failed("name"))?;
    for file in ["kept", "secret"] {
        std::fs::write(folder.path().join(file), &name).map_err(failed("file"))?;
    }
    let tcp = TcpListener::bind("127.0.0.1:0").map_err(failed("listener"))?;
    let udp = UdpSocket::bind("127.0.0.1:0").map_err(failed("listener"))?;
    let path = folder.path().join("socket");
    let unix = UnixListener::bind(&path).map_err(failed("socket"))?;
    let address = SocketAddr::from_abstract_name(&name).map_err(failed("socket"))?;
    let hidden = UnixListener::bind_addr(&address).map_err(failed("socket"))?;
    // It reads from us, so that it ends when we do, even by SIGKILL.
    let mut decoy = Command::new("cat");
    decoy.env("PASSK_CANARY", &name).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut decoy = decoy.spawn().map_err(failed("decoy"))?;
    let port = |address: std::io::Result<std::net::SocketAddr>| address.map_or(0, |address| address.port());
    let source = format!(
        "SENTINEL, TCP, UDP, ABSTRACT, SOCKET, DECOY, LANDLOCK = {:?}, {}, {}, {name:?}, {:?}, {}, {}\n{CANARY}",
        folder.path().to_string_lossy(),
        port(tcp.local_addr()),
        port(udp.local_addr()),
        path.to_string_lossy(),
        decoy.id(),
        if level == Isolation::Landlock { "True" } else { "False" },
    );
    let ran = jail.run_source(&source, Some(""), &jail.limits);
    let alive = matches!(decoy.try_wait(), Ok(None));
    let _ = decoy.kill();
    let _ = decoy.wait();
    let (judged, stdout) = ran?;
    if judged.verdict != Verdict::Passed {
        let why = format!("the canaries did not come to their end: {}: {}", judged.verdict, judged.detail);
        return Err(JailError::Level { level, why });
    }
    let text = String::from_utf8_lossy(&stdout).into_owned();
    let of = |end: &str| text.lines().filter_map(|line| line.strip_suffix(end)).map(str::to_owned).collect::<Vec<_>>();
    let (mut held, mut through) = (of(" held"), of(" through"));
    // What the program says of itself is not all: what it was to leave alone is looked at too.
    let kept = std::fs::read_to_string(folder.path().join("kept")).is_ok_and(|text| text == name);
    let untouched = kept && !folder.path().join("made").exists();
    let silent =
        |result: Result<(), std::io::Error>| matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock);
    let _ = (
        tcp.set_nonblocking(true),
        udp.set_nonblocking(true),
        unix.set_nonblocking(true),
        hidden.set_nonblocking(true),
    );
    let unheard = silent(tcp.accept().map(drop))
        && silent(udp.recv(&mut [0; 8]).map(drop))
        && silent(unix.accept().map(drop))
        && silent(hidden.accept().map(drop));
    let bounds = if level == Isolation::Full { try_bounds(jail)? } else { Vec::new() };
    let seen =
        [("files are as they were", untouched), ("listeners heard nothing", unheard), ("the decoy lives", alive)];
    for (name, good) in seen.into_iter().chain(bounds) {
        if good { held.push(name.into()) } else { through.push(name.into()) }
    }
    Ok((held, through))
}
