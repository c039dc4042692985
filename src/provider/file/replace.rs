//! Reading and replacing files. The new file is complete and on disk before it takes the old
//! one's name: a reader sees the old text or the new one, and so does a machine that lost power.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::geteuid;
use tempfile::NamedTempFile;

use super::attributes;

/// How the name of a new file begins, until it takes the old one's. Six letters or digits follow.
const PREFIX: &str = ".stanch-";

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
    // Private from its making.
    let mut new = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempfile_in(parent(target)?)
        .map_err(|error| io::Error::new(error.kind(), format!("its directory cannot be written: {error}")))?;
    // While it is locked its maker lives; where the file system has no locks, leftovers stay.
    let _ = flock(new.as_file(), FlockOperation::NonBlockingLockExclusive);
    new.write_all(text)?;
    attributes::keep(&old, new.as_file())?;
    new.as_file().sync_all()?;
    Ok(new)
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
