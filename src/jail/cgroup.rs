//! The cgroup of a program: it bounds the memory and the processes of all of it together, whatever it forks and wherever
//! it keeps what it has.
//!
//! Each of a slot's programs has a group, which is made with the slot and limited anew for each program. It lies below
//! the group we are in, or below one above that, in whatever hierarchies have the controllers `memory` and `pids`: one of
//! version 2, or some of version 1 (Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/).

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Pid;

use super::Limits;
use super::watch::Stop;

/// What we need of cgroups.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// How groups are called: this, and the numbers of the supervisor, the slot and the cell.
const PREFIX: &str = "passk-";

/// What removing a group that still has processes ends in.
const BUSY: io::ErrorKind = io::ErrorKind::ResourceBusy;

/// How often its limits were reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Processes that were killed for want of memory.
    memory: u64,
    /// Forks that were refused.
    processes: u64,
}

/// The group of one program.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// Where a process writes `0` to enter.
    doors: Vec<File>,
    most_memory: File,
    most_swap: Option<File>,
    most_processes: File,
    memory_events: File,
    process_events: File,
    /// Before the program that is in it now.
    before: Cell<Counts>,
}

impl Cgroup {
    /// Makes the group of a slot's `cell`; the slot calls it, and the supervisor is its parent.
    ///
    /// # Errors
    /// Why there can be none, with the remedy.
    pub(super) fn make(slot: u32, cell: u32) -> Result<Cgroup, String> {
        let supervisor = rustix::process::getppid().map_or(0, Pid::as_raw_pid);
        let name = format!("{PREFIX}{supervisor}-{slot}-{cell}");
        let places = Place::all(&own()?, &mounts()?)?;
        let made: Result<Vec<_>, String> = places.iter().map(|place| place.make(&name)).collect();
        let [memory, pids] = <[(PathBuf, bool); 2]>::try_from(made?).map_err(|_| "no two controllers")?;
        Cgroup::open(&memory, &pids)
            .map_err(|cause| format!("failed to open a cgroup in {}: {cause}", memory.0.display()))
    }

    fn open((memory, second): &(PathBuf, bool), (pids, _): &(PathBuf, bool)) -> io::Result<Cgroup> {
        let to_write = |folder: &Path, file: &str| OpenOptions::new().write(true).open(folder.join(file));
        let [most, swap, events] = match second {
            true => ["memory.max", "memory.swap.max", "memory.events"],
            false => ["memory.limit_in_bytes", "memory.swappiness", "memory.oom_control"],
        };
        let mut doors = vec![to_write(memory, "cgroup.procs")?];
        if pids != memory {
            doors.push(to_write(pids, "cgroup.procs")?);
        }
        Ok(Cgroup {
            doors,
            most_memory: to_write(memory, most)?,
            most_swap: to_write(memory, swap).ok(),
            most_processes: to_write(pids, "pids.max")?,
            memory_events: File::open(memory.join(events))?,
            process_events: File::open(pids.join("pids.events"))?,
            before: Cell::default(),
        })
    }

    /// Sets the limits of the next program. Its init is one process more.
    pub(super) fn limit(&self, limits: &Limits) -> io::Result<()> {
        write!(&self.most_memory, "{}", limits.memory_bytes)?;
        if let Some(mut swap) = self.most_swap.as_ref() {
            swap.write_all(b"0")?;
        }
        write!(&self.most_processes, "{}", limits.processes.saturating_add(1))?;
        self.before.set(self.counts()?);
        Ok(())
    }

    /// The limit that the program has reached.
    pub(super) fn reached(&self) -> io::Result<Option<Stop>> {
        let (before, now) = (self.before.get(), self.counts()?);
        Ok(match () {
            () if now.memory > before.memory => Some(Stop::Memory),
            () if now.processes > before.processes => Some(Stop::Processes),
            () => None,
        })
    }

    /// What a process enters by.
    pub(super) fn doors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.doors.iter().map(AsFd::as_fd)
    }

    /// Takes this process in.
    pub(super) fn enter(&self) -> io::Result<()> {
        self.doors.iter().try_for_each(|mut door| door.write_all(b"0"))
    }

    fn counts(&self) -> io::Result<Counts> {
        let text = |mut file: &File| {
            let mut text = String::new();
            file.rewind()?;
            file.read_to_string(&mut text).map(|_| text)
        };
        Ok(Counts {
            memory: field(&text(&self.memory_events)?, "oom_kill"),
            processes: field(&text(&self.process_events)?, "max"),
        })
    }
}

/// The number after `name` in lines of names and numbers.
fn field(text: &str, name: &str) -> u64 {
    let value = |line: &str| line.split_once(' ').filter(|(key, _)| *key == name)?.1.trim().parse().ok();
    text.lines().find_map(value).unwrap_or(0)
}

/// Removes the groups of supervisors that are gone, and those of our slots that are `gone`. Where there are no cgroups,
/// there is nothing to do.
pub(super) fn sweep(gone: impl Fn(u32) -> bool) {
    let supervisor = rustix::process::getpid().as_raw_pid();
    let places = own().and_then(|own| Place::all(&own, &mounts()?));
    for place in places.into_iter().flatten() {
        for entry in place.ancestors().iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            let name = entry.file_name();
            let over = match name.to_str().and_then(owner) {
                Some((number, slot)) if number == supervisor => gone(slot),
                Some((number, _)) => !Path::new("/proc").join(number.to_string()).exists(),
                None => false,
            };
            // What was reaped just now may still be on its way out.
            let mut patience = 100;
            while over && patience > 0 && fs::remove_dir(entry.path()).is_err_and(|error| error.kind() == BUSY) {
                std::thread::sleep(Duration::from_millis(1));
                patience -= 1;
            }
        }
    }
}

/// Supervisor and slot of a group of ours.
fn owner(name: &str) -> Option<(i32, u32)> {
    let mut numbers = name.strip_prefix(PREFIX)?.split('-');
    let owner = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    numbers.next()?.parse::<u32>().ok().filter(|_| numbers.next().is_none()).map(|_| owner)
}

/// Where groups with one controller may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    controller: &'static str,
    second: bool,
    /// Where the hierarchy is mounted, and the group that we are in.
    mounted: PathBuf,
    ours: PathBuf,
}

impl Place {
    /// A place for each controller, of the texts of `/proc/self/cgroup` and `/proc/self/mountinfo`.
    fn all(own: &str, mounts: &str) -> Result<Vec<Place>, String> {
        let place = |controller| {
            let no = || {
                format!(
                    "there is no cgroup hierarchy with `{controller}` here; mount one, or run outside the container"
                )
            };
            Place::find(controller, own, mounts).ok_or_else(no)
        };
        CONTROLLERS.into_iter().map(place).collect()
    }

    fn find(controller: &'static str, own: &str, mounts: &str) -> Option<Place> {
        // `4:memory:/a/b` of version 1, `0::/a/b` of version 2.
        let lines = || own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let first = lines().find(|(names, _)| names.split(',').any(|name| name == controller));
        let second = first.is_none();
        let (_, path) = first.or_else(|| lines().find(|(names, _)| names.is_empty()))?;
        // `31 23 0:28 / /sys/fs/cgroup rw … - cgroup2 cgroup2 rw` (proc_pid_mountinfo(5))
        mounts.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, mounted) = (fields.next()?, Path::new(fields.next()?));
            let mut kinds = after.split(' ');
            let (kind, options) = (kinds.next()?, kinds.nth(1).unwrap_or_default());
            let right = match second {
                true => kind == "cgroup2",
                false => kind == "cgroup" && options.split(',').any(|option| option == controller),
            };
            let below = Path::new(path).strip_prefix(root).ok().filter(|_| right)?;
            Some(Place { controller, second, mounted: mounted.to_owned(), ours: mounted.join(below) })
        })
    }

    /// The group that we are in and those above it, as far as can be seen.
    fn ancestors(&self) -> Vec<&Path> {
        self.ours.ancestors().take_while(|folder| folder.starts_with(&self.mounted)).collect()
    }

    /// Makes the group `name`, as deep as it can be made. Returns its folder and whether that is of version 2.
    fn make(&self, name: &str) -> Result<(PathBuf, bool), String> {
        let mut why = String::new();
        for folder in self.ancestors() {
            let made = folder.join(name);
            match self.enable(folder).and_then(|()| fs::create_dir(&made)) {
                Ok(()) => return Ok((made, self.second)),
                // The other controller's group, which is the same.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.second => {
                    return Ok((made, self.second));
                }
                Err(error) if why.is_empty() => why = format!("{}: {error}", folder.display()),
                Err(_) => {}
            }
        }
        Err(format!(
            "no cgroup for `{}` may be made ({why}); run as root, or with a cgroup of your own \
             (systemd-run --scope -p Delegate=yes, in Docker --cgroupns=host with /sys/fs/cgroup writable)",
            self.controller
        ))
    }

    /// Sees to it that groups in `folder` have the controllers. Version 2 refuses where a group has processes itself.
    fn enable(&self, folder: &Path) -> io::Result<()> {
        if !self.second {
            return Ok(());
        }
        let file = folder.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&file)?;
        let missing = CONTROLLERS.iter().filter(|name| !enabled.split_ascii_whitespace().any(|other| other == **name));
        let wanted: Vec<String> = missing.map(|name| format!("+{name}")).collect();
        if wanted.is_empty() { Ok(()) } else { fs::write(file, wanted.join(" ")) }
    }
}

fn own() -> Result<String, String> {
    read("/proc/self/cgroup")
}

fn mounts() -> Result<String, String> {
    read("/proc/self/mountinfo")
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|cause| format!("failed to read {path}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "9:name=systemd:/\n8:pids:/\n4:cpu,memory:/jobs/a\n0::/\n";
    const FIRST_MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,cpu,memory\n\
        40 31 0:37 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
    const SECOND: &str = "0::/user.slice/session-3.scope\n";
    const SECOND_MOUNTS: &str = "41 31 0:38 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let of = |own, mounts| {
            let places = Place::all(own, mounts)?;
            Ok::<_, String>(places.into_iter().map(|place| (place.second, place.ours)).collect::<Vec<_>>())
        };
        let first = |path| (false, PathBuf::from(path));
        let places = vec![first("/sys/fs/cgroup/memory/jobs/a"), first("/sys/fs/cgroup/pids")];
        assert_eq!(of(FIRST, FIRST_MOUNTS), Ok(places));
        let place = (true, PathBuf::from("/sys/fs/cgroup/user.slice/session-3.scope"));
        assert_eq!(of(SECOND, SECOND_MOUNTS), Ok(vec![place.clone(), place]));
        // A container that sees a part of the tree.
        let part = SECOND_MOUNTS.replace(" / /sys", " /user.slice /sys");
        let place = (true, PathBuf::from("/sys/fs/cgroup/session-3.scope"));
        assert_eq!(of(SECOND, &part), Ok(vec![place.clone(), place]));
        let nothing = of(SECOND, "").unwrap_err();
        assert!(nothing.starts_with("there is no cgroup hierarchy with `memory` here"), "{nothing}");
    }

    /// In folders that stand for a hierarchy of version 2: this kernel may have its controllers elsewhere.
    #[test]
    fn a_group_is_made_where_the_controllers_are() {
        let root = tempfile::tempdir().unwrap();
        let scope = root.path().join("slice/scope");
        fs::create_dir_all(&scope).unwrap();
        fs::write(root.path().join("slice/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        let mounts = format!("41 31 0:38 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let places = Place::all("0::/slice/scope\n", &mounts).unwrap();
        let made: Vec<_> = places.iter().map(|place| place.make("passk-1-2").unwrap()).collect();
        let expected = (root.path().join("slice/passk-1-2"), true);
        assert_eq!(made, [expected.clone(), expected], "the scope itself has no such file");
        fs::remove_file(root.path().join("slice/cgroup.subtree_control")).unwrap();
        let why = places[0].make("passk-1-3").unwrap_err();
        assert!(why.starts_with("no cgroup for `memory` may be made") && why.contains("Delegate=yes"), "{why}");
    }

    #[test]
    fn groups_have_owners() {
        assert_eq!(owner("passk-12-3-1"), Some((12, 3)));
        for other in ["passk-12-3", "passk-12-3-1-1", "passk-x-3-1", "user-12-3-1", "passk-", ""] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn counts_are_read_of_both_versions() {
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), 3);
        assert_eq!(field("low 0\nhigh 0\nmax 12\noom 2\noom_kill 1\noom_group_kill 0\n", "oom_kill"), 1);
        assert_eq!(field("max 7\n", "max"), 7);
        assert_eq!(field("", "max"), 0);
    }
}
