//! The view of the machine that a slot's programs have: a few folders, to be read only.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags,
};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags};

use super::Python;
use super::sys::{self, SingleThreaded};

/// Folders of the system that an interpreter needs, or that hold the tools a program may call.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// Files and folders of `/etc` that say nothing of who uses the machine.
const ETC: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/mime.types",
    "/etc/localtime",
];

/// Devices that are harmless, to be read and written.
pub(super) const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/box/shm", "dev/shm"),
    ("/box/tmp", "tmp"),
];

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// Who a program is, to itself, where its number is chosen by no one.
const INSIDE: u32 = 1000;

/// Everything outside its own folder that a program may read.
pub(super) fn readable(python: &Python) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SYSTEM.iter().chain(&ETC).map(PathBuf::from).collect();
    for folder in python.folders.iter().chain(&python.packages) {
        paths.push(folder.clone());
        paths.extend(fs::canonicalize(folder));
    }
    paths.retain(|path| path.exists() && path.as_path() != Path::new("/"));
    paths.sort();
    paths.dedup();
    paths
}

/// The namespaces of a slot.
#[derive(Debug)]
pub(super) struct View {
    root: bool,
    pids: OwnedFd,
}

impl View {
    /// Brings this process into namespaces of its own, with nothing of the machine's files but what programs may see.
    /// `temp` is covered for a moment, in this process's view alone.
    ///
    /// Who is not root goes on as the init of a pid namespace: back to the one it came from it may not go, and between
    /// two programs a slot goes back.
    pub(super) fn enter(single: SingleThreaded, python: &Python, temp: &Path) -> Result<View, String> {
        let failed = |what: &'static str| move |cause: io::Error| format!("failed to {what}: {cause}");
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let new = UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
        let root = uid == 0 && sys::unshare(new).is_ok();
        if !root {
            sys::unshare(new | UnshareFlags::NEWUSER | UnshareFlags::NEWPID).map_err(|cause| {
                format!(
                    "namespaces are refused ({cause}): run as root, or allow unprivileged user namespaces \
                     (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; \
                     in Docker --security-opt seccomp=unconfined)"
                )
            })?;
            let map = |file: &str, text: String| fs::write(format!("/proc/self/{file}"), text);
            map("setgroups", "deny".into())
                .and_then(|()| map("uid_map", format!("{INSIDE} {uid} 1")))
                .and_then(|()| map("gid_map", format!("{INSIDE} {gid} 1")))
                .map_err(failed("map users into a namespace"))?;
            become_init(single).map_err(failed("become the init of a pid namespace"))?;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let pids = rustix::fs::open("/proc/self/ns/pid", flags, Mode::empty())
            .map_err(|error| failed("open /proc/self/ns/pid")(error.into()))?;
        let recursive = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", recursive).map_err(|error| failed("make the mounts private")(error.into()))?;
        build(python, temp).map_err(failed("build the view of the file system"))?;
        if !root {
            mount_proc(c"proc", MountFlags::empty()).map_err(failed("mount /proc"))?;
            keep_rights().map_err(failed("keep the rights of a namespace"))?;
        }
        Ok(View { root, pids })
    }

    /// We are root outside of it too.
    pub(super) fn root(&self) -> bool {
        self.root
    }

    /// The pid namespace that we are in ourselves.
    pub(super) fn pids(&self) -> BorrowedFd<'_> {
        self.pids.as_fd()
    }
}

/// Mounts a file system of this kind on `/proc`.
pub(super) fn mount_proc(kind: &CStr, more: MountFlags) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | more;
    Ok(rustix::mount::mount(kind, c"/proc", kind, flags, None)?)
}

/// Goes on as the init of the pid namespace that the next child is in. Who we were waits, and ends when we do.
fn become_init(single: SingleThreaded) -> io::Result<()> {
    if let Some(child) = sys::fork(single)? {
        let ended = sys::reap(Some(child), true);
        sys::leave(ended.is_err().into());
    }
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Lets the interpreter that waits have the right to make and enter namespaces, which exec takes from who is not root.
fn keep_rights() -> io::Result<()> {
    let rights = CapabilitySet::SYS_ADMIN;
    let sets = rustix::thread::capabilities(None)?;
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable: rights, ..sets })?;
    Ok(rustix::thread::configure_capability_in_ambient_set(rights, true)?)
}

/// A detached copy of what lies at a path.
fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

fn put(mount: impl AsFd, at: impl AsRef<Path>) -> io::Result<()> {
    Ok(rustix::mount::move_mount(mount, c"", CWD, at.as_ref(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn build(python: &Python, temp: &Path) -> io::Result<()> {
    // All copies are made before anything is covered.
    let mut copies = Vec::new();
    let mut links: Vec<(PathBuf, PathBuf)> = Vec::new();
    for path in readable(python) {
        let inside = path.strip_prefix("/").unwrap_or(&path).to_owned();
        match fs::read_link(&path) {
            Ok(target) => links.push((target, inside)),
            // What lies in a folder that is there already is seen through it.
            Err(_) if copies.iter().any(|(_, other, _): &(_, PathBuf, _)| inside.starts_with(other)) => {}
            Err(_) => copies.push((copy(&path)?, inside, path.is_dir())),
        }
    }
    for (mount, ..) in &copies {
        sys::restrict_mount(mount, READ_ONLY, true)?;
    }
    let mut devices = Vec::new();
    for device in DEVICES {
        let mount = copy(Path::new(device))?;
        sys::restrict_mount(&mount, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC, false)?;
        devices.push((mount, device.trim_start_matches('/')));
    }
    let proc = copy(Path::new("/proc"))?;

    let context = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, c"size", c"1m")?;
    rustix::mount::fsconfig_set_string(&context, c"mode", c"755")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    put(&root, temp)?;
    std::env::set_current_dir(temp)?;

    for folder in ["box", "proc", "dev", "etc"] {
        make_folder(Path::new(folder))?;
    }
    let users = format!("root:x:0:0::/:/bin/sh\ncandidate:x:{INSIDE}:{INSIDE}::/box/home:/bin/sh\n");
    fs::write("etc/passwd", users)?;
    fs::write("etc/group", format!("root:x:0:\ncandidate:x:{INSIDE}:\n"))?;
    fs::write("etc/hosts", "127.0.0.1 localhost\n")?;
    fs::write("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n")?;
    for (mount, inside, is_folder) in copies {
        if is_folder {
            make_folder(&inside)?;
        } else {
            make_folder(inside.parent().unwrap_or(Path::new("")))?;
            fs::write(&inside, "")?;
        }
        put(mount, &inside)?;
    }
    for (mount, inside) in devices {
        fs::write(inside, "")?;
        put(mount, inside)?;
    }
    put(proc, "proc")?;
    let links = links.iter().map(|(target, inside)| (target.as_path(), inside.as_path()));
    for (target, inside) in links.chain(LINKS.iter().map(|(target, inside)| (Path::new(target), Path::new(inside)))) {
        make_folder(inside.parent().unwrap_or(Path::new("")))?;
        match symlink(target, inside) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    sys::restrict_mount(&root, READ_ONLY, false)?;

    // The old root comes to lie on the new one, and goes.
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Makes a folder and those above it, so that anybody may pass through.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.as_os_str().is_empty() {
        return Ok(());
    }
    fs::create_dir_all(path)
}
