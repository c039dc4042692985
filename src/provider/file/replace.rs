//! Reading and replacing files. The new file is complete and on disk before it takes the old
//! one's name: a reader sees the old text or the new one, and so does a machine that lost power.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::resolve;

/// Why a replacement failed, and on which side of the rename.
pub(super) enum Failed {
    /// The file is not the expected one any more.
    Changed,
    /// Nothing changed.
    Before(io::Error),
    /// The new file stands, but may not survive a loss of power.
    After(io::Error),
}

/// Reads a file, and its version.
pub(super) fn load(path: &Path, limit: u64) -> io::Result<(Vec<u8>, String)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut text = Vec::new();
    (&file).take(limit + 1).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok((text, version(&metadata)))
}

/// Puts `text` in the file's place, if it is still of the version `expected`.
pub(super) fn replace(path: &Path, text: &[u8], expected: &str) -> Result<String, Failed> {
    let before = Failed::Before;
    let target = resolve(path).map_err(before)?;
    let folder = parent(&target).map_err(before)?;
    let old = std::fs::metadata(&target).map_err(before)?;

    // In the same folder, so that the rename cannot cross file systems; private from its making.
    let mut new = tempfile::Builder::new().prefix(".stanch-").tempfile_in(&folder).map_err(before)?;
    new.write_all(text).map_err(before)?;
    let mine = new.as_file().metadata().map_err(before)?;
    if (old.uid(), old.gid()) != (mine.uid(), mine.gid()) {
        std::os::unix::fs::chown(new.path(), Some(old.uid()), Some(old.gid())).map_err(|error| {
            Failed::Before(io::Error::new(error.kind(), format!("cannot keep the file's owner: {error}")))
        })?;
    }
    // After the owner: changing the owner may clear bits of the mode.
    new.as_file().set_permissions(std::fs::Permissions::from_mode(old.mode() & 0o7777)).map_err(before)?;
    new.as_file().sync_all().map_err(before)?;

    let now = std::fs::metadata(&target).map_err(before)?;
    if version(&now) != expected {
        return Err(Failed::Changed);
    }
    let file = new.persist(&target).map_err(|error| before(error.error))?;
    let metadata = file.metadata().map_err(Failed::After)?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(Failed::After)?;
    Ok(version(&metadata))
}

/// Whether a replacement would work; a warning where it would have a side effect.
pub(super) fn check(path: &Path) -> io::Result<Option<String>> {
    let target = resolve(path)?;
    let folder = parent(&target)?;
    tempfile::Builder::new()
        .prefix(".stanch-")
        .tempfile_in(&folder)
        .map_err(|error| io::Error::new(error.kind(), format!("its folder cannot be written: {error}")))?;
    let metadata = std::fs::metadata(&target)?;
    if metadata.nlink() > 1 {
        return Ok(Some("it has other hard links, which will keep the old text".to_owned()));
    }
    if metadata.mode() & 0o004 != 0 {
        return Ok(Some("everybody on this machine may read it".to_owned()));
    }
    Ok(None)
}

/// Inode, size and modification time: a version must say nothing about the text.
fn version(metadata: &Metadata) -> String {
    format!("{:x}-{:x}-{:x}.{:09}", metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

fn parent(target: &Path) -> io::Result<PathBuf> {
    target.parent().map(Path::to_path_buf).ok_or_else(|| io::Error::other("it has no folder"))
}
