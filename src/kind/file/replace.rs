//! Reading and replacing files. The new file is complete and on disk before it takes the old
//! one's name: a reader sees the old text or the new one, and so does a machine that lost power.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use super::attributes;

/// How the name of a new file begins, until it takes the old one's. Six letters or digits follow.
const PREFIX: &str = ".stanch-";

/// How often a new file is made that others remove before it is locked. Each sweep of the folder takes one at
/// most; as many replacements and sweeps go on at once as a run has places.
const TRIES: usize = 1000;

/// Why a replacement failed, and on which side of the rename.
pub(super) enum Failed {
    /// The file is not the expected one any more.
    Changed,
    /// Nothing changed.
    Before(io::Error),
    /// The new file is in place, but may not survive a loss of power.
    After(io::Error),
}

/// Opens a file for reading. What is not a regular file or a folder is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Reads a file, and its version.
pub(super) fn load(path: &Path, limit: u64) -> io::Result<(Vec<u8>, String)> {
    let regular = |metadata: &Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    };
    // Even to open a device or a pipe may do something.
    regular(&std::fs::metadata(path)?)?;
    let file = open(path)?;
    let metadata = file.metadata()?;
    regular(&metadata)?;
    let mut text = Vec::new();
    (&file).take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok((text, version(&metadata)))
}

/// A file with `text` and all else that the target has, on disk in the target's folder: a rename within
/// a folder cannot cross file systems.
pub(super) fn prepare(target: &Path, text: &[u8]) -> io::Result<NamedTempFile> {
    let old = open(target)?;
    let mut new = create(&parent(target)?)
        .map_err(|error| io::Error::new(error.kind(), format!("its directory cannot be written: {error}")))?;
    new.write_all(text)?;
    attributes::keep(&old, new.as_file())?;
    new.as_file().sync_all()?;
    Ok(new)
}

/// A new file in `folder`, private from its making and locked: while it is, its maker lives. Where the file
/// system has no locks, leftovers stay.
fn create(folder: &Path) -> io::Result<NamedTempFile> {
    for _ in 0..TRIES {
        let new = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?;
        // Somebody who removes leftovers may have found it before it was locked.
        match flock(new.as_file(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {}
            Ok(()) if new.as_file().metadata()?.nlink() == 0 => {}
            _ => return Ok(new),
        }
    }
    Err(io::Error::other("another process removes each new file there at once"))
}

/// Puts `text` in the place of `target`, which no symbolic link names, if it is still of the version
/// `expected`.
pub(super) fn replace(target: &Path, text: &[u8], expected: &str) -> Result<String, Failed> {
    let before = Failed::Before;
    let new = prepare(target, text).map_err(before)?;
    let now = std::fs::metadata(target).map_err(before)?;
    if version(&now) != expected {
        return Err(Failed::Changed);
    }
    let file = new.persist(target).map_err(|error| before(error.error))?;
    let metadata = file.metadata().map_err(Failed::After)?;
    let folder = parent(target).and_then(File::open).map_err(Failed::After)?;
    folder.sync_all().map_err(Failed::After)?;
    Ok(version(&metadata))
}

/// Removes what processes that were killed while they wrote a replacement left beside the target. Best
/// effort: a leftover is never in the way.
pub(super) fn sweep(target: &Path) {
    let (Ok(folder), Ok(metadata)) = (parent(target), std::fs::metadata(target)) else { return };
    let owners = [geteuid().as_raw(), metadata.uid()];
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).unwrap_or_default();
        if random.len() != 6 || !random.bytes().all(|c| c.is_ascii_alphanumeric()) {
            continue;
        }
        let Ok(found) = entry.metadata() else { continue };
        if !found.is_file() || found.nlink() != 1 || !owners.contains(&found.uid()) {
            continue;
        }
        let Ok(file) = open(&entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Inode, size and modification time: a version must say nothing about the text.
fn version(metadata: &Metadata) -> String {
    format!("{:x}-{:x}-{:x}.{:09}", metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// The folder that a file is in.
pub(super) fn parent(target: &Path) -> io::Result<PathBuf> {
    target.parent().map(Path::to_path_buf).ok_or_else(|| io::Error::other("it has no directory"))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn sweeping_takes_no_file_of_a_living_maker() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("app.env");
        std::io::Write::write_all(&mut std::fs::File::create(&target).unwrap(), b"PW=old").unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        sweep(&target);
                        let new = prepare(&target, b"PW=new").unwrap();
                        sweep(&target);
                        assert!(new.path().exists());
                    }
                });
            }
        });
        // What nobody holds any more is removed.
        let left = create(folder.path()).unwrap().into_temp_path().keep().unwrap();
        sweep(&target);
        assert!(!left.exists());
    }
}
