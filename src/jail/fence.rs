//! What holds a program: namespaces, no rights, Landlock, seccomp, in that order.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use rustix::fs::{AtFlags, Mode};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};
use rustix::process::{Gid, Pid, Resource, Signal, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};
use seccompiler::BpfProgram;

use super::filter::{self, Filters};
use super::view::{self, View};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::json;

use super::cgroup::Cgroup;
use super::folder::Folder;
use super::init::Init;
use super::sys::{self, SingleThreaded};
use super::{Isolation, Limits, Python};

/// The place a program runs in, its own and empty.
#[derive(Debug)]
pub(super) struct Ground {
    home: PathBuf,
    uid: Option<u32>,
    /// At a level with namespaces: the init of its pid namespace, and the file system that becomes [`BOX`].
    init: Option<Init>,
    mount: Option<OwnedFd>,
    ruleset: Option<OwnedFd>,
    folder: Option<Folder>,
    cgroup: Option<Rc<Cgroup>>,
}

/// Where a program's own file system is, in its view.
const BOX: &str = "/box";

impl Ground {
    fn of_folder(folder: Folder) -> Ground {
        Ground {
            home: folder.path().to_owned(),
            uid: None,
            init: None,
            mount: None,
            ruleset: None,
            folder: Some(folder),
            cgroup: None,
        }
    }

    /// Its working folder.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The user it runs as, when that is not us.
    pub(super) fn uid(&self) -> Option<u32> {
        self.uid
    }

    /// What the interpreter that waits must be handed: the cgroup's doors, the pid namespace, the file system and the ruleset,
    /// where there are such.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let doors = self.cgroup.iter().flat_map(|cgroup| cgroup.doors());
        let init = self.init.iter().map(Init::namespace);
        doors.chain(init).chain(self.mount.iter().chain(&self.ruleset).map(AsFd::as_fd))
    }

    /// The init of the program's pid namespace, at a level with one.
    pub(super) fn init(&self) -> Option<Pid> {
        self.init.as_ref().map(Init::pid)
    }

    /// The program's cgroup, at a level with one.
    pub(super) fn cgroup(&self) -> Option<&Rc<Cgroup>> {
        self.cgroup.as_ref()
    }

    /// Its folder, where no file system of its own bounds what lies there.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(Folder::path)
    }

    /// Ends the pid namespace of a program that has been reaped.
    pub(super) fn end(&mut self, patience: Duration) -> io::Result<()> {
        self.init.take().map_or(Ok(()), |init| init.end(patience))
    }

    /// Removes it, once nothing is left of the program.
    pub(super) fn remove(self) -> io::Result<()> {
        self.folder.map_or(Ok(()), Folder::remove)
    }
}

/// A number that Python's `resource` module knows a limit by.
pub(super) fn number(resource: Resource) -> i32 {
    match resource {
        Resource::Cpu => libc::RLIMIT_CPU as i32,
        Resource::Fsize => libc::RLIMIT_FSIZE as i32,
        Resource::Nofile => libc::RLIMIT_NOFILE as i32,
        Resource::Stack => libc::RLIMIT_STACK as i32,
        Resource::Core => libc::RLIMIT_CORE as i32,
        Resource::As => libc::RLIMIT_AS as i32,
        _ => libc::RLIMIT_NPROC as i32,
    }
}

/// The rights of Landlock that we know; an older kernel knows fewer.
const KNOWN: ABI = ABI::V6;

/// What the kernel must know where Landlock is all there is: signals and abstract sockets stay inside.
const ALONE: i32 = 6;

/// What holds the programs of one slot.
#[derive(Debug)]
pub(super) struct Fence {
    level: Isolation,
    filters: Filters,
    view: Option<View>,
    /// The users of the slot's programs, when we may choose.
    first_uid: Option<u32>,
    /// The cgroups of a candidate and of its judge.
    cgroups: Vec<Rc<Cgroup>>,
    temp: PathBuf,
    /// Files and folders outside that a program may read, or write.
    readable: Vec<PathFd>,
    writable: Vec<PathFd>,
}

impl Fence {
    /// Brings this process, a slot's, to where it can start programs at `level`.
    pub(super) fn raise(
        single: SingleThreaded,
        level: Isolation,
        python: &Python,
        temp: &Path,
        slot: u32,
    ) -> Result<Fence, String> {
        let mut fence = Fence {
            level,
            filters: if level == Isolation::None { Filters::default() } else { filter::filters(level)? },
            view: None,
            first_uid: None,
            cgroups: Vec::new(),
            temp: temp.to_owned(),
            readable: Vec::new(),
            writable: Vec::new(),
        };
        let abi = sys::landlock_abi();
        let opened = |paths: &[&str]| paths.iter().filter_map(|path| PathFd::new(path).ok()).collect::<Vec<_>>();
        match level {
            Isolation::None => return Ok(fence),
            Isolation::Landlock if abi < ALONE => {
                return Err(format!(
                    "Landlock ABI {ALONE} is needed (Linux 6.12), and this kernel has {}",
                    if abi < 1 { "no Landlock at all".to_owned() } else { format!("ABI {abi}") }
                ));
            }
            Isolation::Landlock => {
                let paths = view::readable(python);
                fence.readable = paths.iter().filter_map(|path| PathFd::new(path).ok()).collect();
                fence.writable = opened(&view::DEVICES);
            }
            Isolation::Namespaces | Isolation::Full => {
                if level == Isolation::Full {
                    // While we still see where they are made.
                    let made = (0..2).map(|cell| Cgroup::make(slot, cell).map(Rc::new));
                    fence.cgroups = made.collect::<Result<_, _>>()?;
                }
                let view = View::enter(single, python, temp)?;
                if view.root() {
                    fence.first_uid = Some(uid(slot));
                }
                fence.view = Some(view);
                fence.readable = opened(&["/"]);
                fence.writable = opened(&view::DEVICES);
            }
        }
        Ok(fence)
    }

    pub(super) fn namespaces(&self) -> bool {
        self.view.is_some()
    }

    /// Programs run as users that run nothing else.
    pub(super) fn own_user(&self) -> bool {
        self.view.is_some()
    }

    /// A fresh place for the program of the slot's `cell`.
    pub(super) fn ground(&self, single: SingleThreaded, cell: u32, limits: &Limits) -> Result<Ground, String> {
        let Some(view) = &self.view else {
            let folder = Folder::new_in(&self.temp).map_err(|error| error.to_string())?;
            let mut ground = Ground::of_folder(folder);
            if self.level == Isolation::Landlock {
                ground.ruleset = self.ruleset(&PathFd::new(ground.home()).map_err(|error| error.to_string())?)?;
            }
            return Ok(ground);
        };
        let init =
            Init::start(single, view.pids()).map_err(|cause| format!("failed to make a pid namespace: {cause}"))?;
        let cgroup = self.cgroups.get(cell as usize).cloned();
        if let Some(cgroup) = &cgroup {
            cgroup.limit(limits).map_err(|cause| format!("failed to limit a cgroup: {cause}"))?;
        }
        let uid = self.first_uid.map(|first| first + cell);
        let mount = self.mount(uid, limits).map_err(|cause| format!("failed to make a tmpfs: {cause}"))?;
        let ruleset = self.ruleset(&mount)?;
        let home = Path::new(BOX).join("home");
        Ok(Ground { home, uid, init: Some(init), mount: Some(mount), ruleset, folder: None, cgroup })
    }

    /// An empty file system that is mounted nowhere yet: `home`, and what `/tmp` and `/dev/shm` lead to. It may be
    /// written to, so that a program can remove its own folder, but not listed.
    fn mount(&self, uid: Option<u32>, limits: &Limits) -> io::Result<OwnedFd> {
        use rustix::mount::{fsconfig_create, fsconfig_set_string, fsmount, fsopen};
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, c"size", limits.folder_bytes().to_string())?;
        fsconfig_set_string(&context, c"nr_inodes", Limits::FILES.to_string())?;
        fsconfig_set_string(&context, c"mode", c"333")?;
        if let Some(uid) = uid {
            fsconfig_set_string(&context, c"uid", uid.to_string())?;
            fsconfig_set_string(&context, c"gid", uid.to_string())?;
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        for name in [c"home", c"tmp", c"shm"] {
            rustix::fs::mkdirat(&mount, name, Mode::RWXU)?;
            if let Some(uid) = uid {
                let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
                rustix::fs::chownat(&mount, name, Some(owner), Some(group), AtFlags::empty())?;
            }
        }
        Ok(mount)
    }

    /// What the program may do with files: read what is in `readable`, and all of `own`.
    fn ruleset(&self, own: impl AsFd) -> Result<Option<OwnedFd>, String> {
        let files = AccessFs::from_file(KNOWN);
        let made = || -> Result<_, landlock::RulesetError> {
            let mut ruleset = Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(KNOWN))?
                .scope(Scope::from_all(KNOWN))?
                .handle_access(AccessNet::from_all(KNOWN))?
                .create()?;
            for path in &self.readable {
                ruleset = ruleset.add_rule(PathBeneath::new(path, AccessFs::from_read(KNOWN)))?;
            }
            for path in &self.writable {
                let writes = AccessFs::from_all(KNOWN) & files & !AccessFs::Execute;
                ruleset = ruleset.add_rule(PathBeneath::new(path, writes))?;
            }
            ruleset.add_rule(PathBeneath::new(own, AccessFs::from_all(KNOWN)))
        };
        made().map(Into::into).map_err(|error| format!("failed to make a Landlock ruleset: {error}"))
    }

    /// Forks, at a level with namespaces into the ground's pid namespace; `None` in the child.
    pub(super) fn fork(&self, single: SingleThreaded, ground: &Ground) -> io::Result<Option<Pid>> {
        match (&self.view, &ground.init) {
            (Some(view), Some(init)) => init.fork(single, view.pids()),
            _ => sys::fork(single),
        }
    }

    /// What the program's first process does first: enters the rest of the sample's own world.
    pub(super) fn enter(&self, ground: &Ground) -> io::Result<()> {
        if !self.namespaces() {
            return Ok(());
        }
        if let Some(cgroup) = &ground.cgroup {
            cgroup.enter()?;
        }
        sys::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWIPC)?;
        if let Some(mount) = &ground.mount {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(mount, c"", rustix::fs::CWD, BOX, flags)?;
        }
        // A container may hide parts of its own. Then there is none, rather than the machine's.
        view::mount_proc(c"proc", MountFlags::empty()).or_else(|_| view::mount_proc(c"tmpfs", MountFlags::RDONLY))
    }

    /// What the program's first process does last: gives up what it could do.
    pub(super) fn close(&self, ground: &Ground) -> io::Result<()> {
        if !self.namespaces() {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        }
        if self.level == Isolation::None {
            return Ok(());
        }
        if let Some(uid) = ground.uid {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            rustix::thread::set_thread_groups(&[])?;
            rustix::thread::set_thread_res_gid(gid, gid, gid)?;
            rustix::thread::set_thread_res_uid(uid, uid, uid)?;
        }
        let none = CapabilitySet::empty();
        rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        rustix::thread::set_no_new_privs(true)?;
        if let Some(ruleset) = &ground.ruleset {
            sys::landlock_restrict_self(ruleset.as_fd())?;
        }
        for filter in self.filters.early.iter().chain(&self.filters.late) {
            seccompiler::apply_filter(filter).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// The same in words for the interpreter that waits.
    pub(super) fn plan(&self) -> String {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let words =
            |filters: &[BpfProgram]| filters.iter().map(|filter| hex(filter::bytes(filter))).collect::<Vec<_>>();
        let filters = json!({"early": words(&self.filters.early), "late": words(&self.filters.late)});
        let calls = json!({
            "move_mount": libc::SYS_move_mount,
            "capset": libc::SYS_capset,
            "landlock_restrict_self": libc::SYS_landlock_restrict_self,
            "setuid": self.first_uid.is_some(),
        });
        let (namespaces, confined) = (self.namespaces(), self.level > Isolation::None);
        json!({"namespaces": namespaces, "confined": confined, "filters": filters, "calls": calls}).to_string()
    }
}

/// The first user of a slot's programs. Nobody has such numbers, and supervisors that run at once have different
/// ones; where a container maps fewer numbers, lower ones do.
fn uid(slot: u32) -> u32 {
    let supervisor = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid() as u32);
    let high = 0x4000_0000 + (supervisor % (1 << 22)) * 256 + (slot % 64) * 4;
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mapped = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u64>().unwrap_or(0));
        let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some((first..first + count).contains(&u64::from(high)))
    };
    match map.lines().any(|line| mapped(line) == Some(true)) {
        true => high,
        false => 20_000 + (supervisor % 100) * 256 + (slot % 64) * 4,
    }
}
