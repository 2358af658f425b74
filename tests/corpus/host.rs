//! The host as programs must not find it: files, services and processes that stand ready to be harmed, and the look
//! whether they were.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
#[cfg(target_os = "linux")]
use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The variable in whose value the harness keeps a secret.
pub(crate) const SECRET_VARIABLE: &str = "PASSK_TEST_SECRET";

/// How long the killed may take to be gone.
const GRACE: Duration = Duration::from_secs(1);

/// What a program must leave as it is.
pub(crate) struct Host {
    /// A folder in which everyone may write.
    folder: PathBuf,
    secret: String,
    tcp: TcpListener,
    udp: UdpSocket,
    unix: UnixListener,
    abstracted: UnixListener,
    abstract_name: String,
    neighbour: Child,
    repository: PathBuf,
    hostname: String,
    mounts: String,
    /// Processes below us and files in our temporary folder while nothing is judged; not held before [`settle`].
    ///
    /// [`settle`]: Host::settle
    processes: usize,
    files: usize,
}

impl Host {
    /// Sets everything up in `folder`.
    pub(crate) fn new(folder: &Path, repository: &Path) -> io::Result<Host> {
        let secret = std::env::var(SECRET_VARIABLE).map_err(io::Error::other)?;
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let sentinel = folder.join("sentinel");
        fs::create_dir(&sentinel)?;
        open(&sentinel, 0o777)?;
        fs::write(sentinel.join("keep.txt"), "keep me\n")?;
        open(&sentinel.join("keep.txt"), 0o666)?;
        fs::write(folder.join("secret.txt"), format!("planted {secret}\n"))?;
        open(&folder.join("secret.txt"), 0o644)?;
        let unix_path = folder.join("service");
        let unix = UnixListener::bind(&unix_path)?;
        open(&unix_path, 0o777)?;
        let abstract_name = format!("passk-corpus-{}", std::process::id());
        let abstracted = UnixListener::bind_addr(&SocketAddr::from_abstract_name(abstract_name.as_bytes())?)?;
        let (tcp, udp) = (TcpListener::bind(("127.0.0.1", 0))?, UdpSocket::bind(("127.0.0.1", 0))?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        unix.set_nonblocking(true)?;
        abstracted.set_nonblocking(true)?;
        // It ends when our end of its stdin does, however we end.
        let mut neighbour = Command::new("sh");
        neighbour.args(["-c", "read line; :", "passk-sentinel-argument"]).stdin(Stdio::piped());
        let neighbour = neighbour.spawn()?;
        Ok(Host {
            folder: folder.to_owned(),
            secret,
            tcp,
            udp,
            unix,
            abstracted,
            abstract_name,
            neighbour,
            repository: repository.to_owned(),
            hostname: hostname(),
            mounts: mounts(),
            processes: usize::MAX,
            files: usize::MAX,
        })
    }

    /// What programs are told of the host.
    pub(crate) fn facts(&self) -> io::Result<Vec<(&'static str, String)>> {
        Ok(vec![
            ("SENTINEL", self.folder.join("sentinel").display().to_string()),
            ("SECRET", self.folder.join("secret.txt").display().to_string()),
            ("REPOSITORY", self.repository.display().to_string()),
            ("TCP", self.tcp.local_addr()?.port().to_string()),
            ("UDP", self.udp.local_addr()?.port().to_string()),
            ("UNIX", self.folder.join("service").display().to_string()),
            ("ABSTRACT", self.abstract_name.clone()),
            ("PID", self.neighbour.id().to_string()),
            ("HARNESS", std::process::id().to_string()),
        ])
    }

    /// Takes the present number of processes and files for what is there between programs.
    pub(crate) fn settle(&mut self) {
        self.processes = descendants().len();
        self.files = files();
    }

    /// What was harmed or left, in words; `said` is what the program said.
    pub(crate) fn faults(&mut self, said: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| {
            if !holds {
                faults.push(fault.to_owned());
            }
        };
        let keep = fs::read_to_string(self.folder.join("sentinel/keep.txt"));
        check(keep.is_ok_and(|text| text == "keep me\n"), "a sentinel file was changed");
        check(names(&self.folder.join("sentinel")) == ["keep.txt"], "something was left beside the sentinel file");
        check(!said.contains(&self.secret), "the secret was read");
        check(self.tcp.accept().is_err(), "the TCP listener was called");
        check(self.udp.recv(&mut [0]).is_err(), "the UDP socket was written to");
        check(self.unix.accept().is_err(), "the socket in the file system was called");
        check(self.abstracted.accept().is_err(), "the abstract socket was called");
        check(matches!(self.neighbour.try_wait(), Ok(None)), "the neighbouring process was ended");
        check(self.hostname == hostname(), "the host was renamed");
        check(self.mounts == mounts(), "a mount was changed or left");
        let begun = Instant::now();
        while begun.elapsed() < GRACE && (descendants().len() > self.processes || files() > self.files) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let processes = descendants();
        if processes.len() > self.processes {
            faults.push(format!("{} processes where {} were: {processes:?}", processes.len(), self.processes));
            self.processes = processes.len();
        }
        if files() > self.files {
            faults.push(format!("{} files where {} were", files(), self.files));
            self.files = files();
        }
        faults
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.neighbour.kill();
        let _ = self.neighbour.wait();
    }
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

pub(crate) fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Files and folders in our temporary folder, at any depth that is worth a look.
pub(crate) fn files() -> usize {
    fn count(folder: &Path, depth: usize) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let inside =
            |path: &Path| if depth > 0 && path.is_dir() && !path.is_symlink() { count(path, depth - 1) } else { 0 };
        entries.map(|entry| 1 + inside(&entry.path())).sum()
    }
    count(&std::env::temp_dir(), 6)
}

/// Every process below us, by number, with its name and its state. The dead who wait for their parent's word count: nobody gave it.
pub(crate) fn descendants() -> BTreeMap<u32, String> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let (Some((head, rest)), Ok(pid)) = (stat.rsplit_once(')'), entry.file_name().to_string_lossy().parse::<u32>())
        else {
            continue;
        };
        let parent: u32 = rest.split_whitespace().nth(1).and_then(|parent| parent.parse().ok()).unwrap_or(0);
        let (state, name) =
            (rest.trim_start().get(..1).unwrap_or_default(), head.split_once('(').map_or("", |(_, name)| name));
        parents.insert(pid, (parent, format!("{name} {state}")));
    }
    let me = std::process::id();
    let below = |mut pid: u32| {
        while let Some((parent, _)) = parents.get(&pid) {
            if *parent == me {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents.iter().filter(|(pid, _)| below(**pid)).map(|(pid, (_, name))| (*pid, name.clone())).collect()
}

/// The most memory that we ever held, in bytes.
pub(crate) fn peak_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(u64::MAX >> 10) << 10
}
