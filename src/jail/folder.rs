//! The folder a program runs in, and its removal whatever the program made of it.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use tempfile::TempDir;

use super::JailError;

/// A fresh folder of our own, removed when dropped at the latest.
#[derive(Debug)]
pub(super) struct Folder {
    temp: TempDir,
    path: PathBuf,
    /// The folder itself: what its name leads to may be something else when the program is through with it.
    opened: OwnedFd,
}

impl Folder {
    /// An empty folder that nobody else may enter.
    pub(super) fn new() -> Result<Folder, JailError> {
        Folder::new_in(&std::env::temp_dir())
    }

    /// The same in a folder that is there.
    pub(super) fn new_in(parent: &Path) -> Result<Folder, JailError> {
        let parent = parent.to_owned();
        let temp = tempfile::Builder::new().prefix("passk-").tempdir_in(&parent);
        let made = temp.and_then(|temp| {
            // As the program sees it: the temporary folder may stand behind a link.
            let path = fs::canonicalize(temp.path())?;
            let opened = open(rustix::fs::CWD, &CString::new(path.as_os_str().as_bytes())?)?;
            Ok(Folder { temp, path, opened })
        });
        made.map_err(|cause| JailError::Folder { parent, cause })
    }

    /// The folder, without links on the way.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the folder and everything in it.
    pub(super) fn remove(self) -> io::Result<()> {
        rustix::fs::fchmod(&self.opened, Mode::RWXU)?;
        empty(&self.opened)?;
        match self.temp.close() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Whether what lies below `path` are more than `most` files and folders, or takes more than `bytes`. It may change
/// meanwhile; what cannot be looked into counts for itself alone.
pub(super) fn holds_more(path: &Path, bytes: u64, most: u64) -> bool {
    use std::os::unix::fs::MetadataExt;

    let (mut taken, mut count) = (0_u64, 0_u64);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            taken = taken.saturating_add(metadata.blocks().saturating_mul(512));
            count += 1;
            if taken > bytes || count > most {
                return true;
            }
        }
    }
    false
}

/// Removes everything inside `folder`, without recursion: what lies in a folder inside is moved up before that folder
/// is removed. A program can nest folders deeper than a recursive removal has stack or descriptors for.
fn empty(folder: &OwnedFd) -> io::Result<()> {
    let mut moved = 0_u64;
    loop {
        let names = names(folder)?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if removed(folder, &name)? {
                continue;
            }
            // Every process of the group is dead by now, so that no folder is swapped for a link under our hands.
            rustix::fs::chmodat(folder, &name, Mode::RWXU, AtFlags::empty())?;
            let inner = open(folder, &name)?;
            for inner_name in self::names(&inner)? {
                if removed(&inner, &inner_name)? {
                    continue;
                }
                // To move a folder is to write its `..`.
                rustix::fs::chmodat(&inner, &inner_name, Mode::RWXU, AtFlags::empty())?;
                loop {
                    let up = CString::new(format!("passk-moved-{moved}"))?;
                    moved += 1;
                    match rustix::fs::renameat(&inner, &inner_name, folder, &up) {
                        Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                        other => break other?,
                    }
                }
            }
        }
    }
}

/// Removes a file or an empty folder; false for a folder with something in it.
fn removed(folder: &OwnedFd, name: &CString) -> io::Result<bool> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        // Linux says the first of a folder, macOS the second.
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other.map(|()| true).map_err(io::Error::from),
    }
    match rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        other => other.map(|()| true).map_err(io::Error::from),
    }
}

/// Opens a folder, but not through a link.
fn open(parent: impl AsFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// What lies in a folder.
fn names(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn whatever_lies_in_it_is_removed_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let folder = Folder::new().unwrap();
        let root = folder.path().to_owned();
        fs::create_dir_all(root.join("a/b/c")).unwrap();
        fs::create_dir_all(root.join("passk-moved-0/full")).unwrap();
        fs::write(root.join("a/b/file"), "text").unwrap();
        symlink(outside.path(), root.join("a/link")).unwrap();
        symlink("/nowhere", root.join("dangling")).unwrap();
        for closed in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(root.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        folder.remove().unwrap();
        assert!(!root.exists());
        assert!(outside.path().join("kept").exists());
    }

    #[test]
    fn a_link_in_its_place_leads_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let folder = Folder::new().unwrap();
        let root = folder.path().to_owned();
        fs::remove_dir(&root).unwrap();
        symlink(outside.path(), &root).unwrap();
        folder.remove().unwrap();
        assert!(!root.is_symlink());
        assert!(outside.path().join("kept").exists());
        assert_eq!(fs::metadata(outside.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn depth_costs_neither_stack_nor_descriptors() {
        let folder = Folder::new().unwrap();
        let root = folder.path().to_owned();
        let mut inner = folder.opened.try_clone().unwrap();
        for _ in 0..2_000 {
            rustix::fs::mkdirat(&inner, "deeper", Mode::RWXU).unwrap();
            inner = open(&inner, c"deeper").unwrap();
        }
        folder.remove().unwrap();
        assert!(!root.exists());
    }
}
