//! The files and folders of a state folder: private, and durable before anybody relies on them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::journal::LedgerError;
use crate::secret::Secret;

/// A path as the place of an error.
pub(super) fn place(path: &Path) -> String {
    path.display().to_string()
}

/// Why a small file cannot be understood.
pub(super) fn damaged(path: &Path) -> impl FnOnce(serde_json::Error) -> LedgerError + '_ {
    move |source| LedgerError::Damaged { place: place(path), source: source.into() }
}

/// What was being done to what, for an error.
pub(super) fn io<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> LedgerError + 'a {
    move |source| LedgerError::Io { doing, place: place(path), source: source.into() }
}

pub(super) fn make_dir(path: &Path) -> Result<(), LedgerError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io("create the directory", path))
}

/// Opens a file that only its owner can read, and makes it where that is asked.
pub(super) fn private_file(path: &Path, create: bool) -> Result<File, LedgerError> {
    OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(path).map_err(io("open", path))
}

/// A small file's text, or `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, LedgerError> {
    /// No small file of a state folder is larger; the lists of held targets are the largest.
    const MAX: u64 = 64 << 20;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io("open", path)(e)),
    };
    let mut text = String::new();
    file.take(MAX).read_to_string(&mut text).map_err(io("read", path))?;
    Ok(Some(text))
}

/// Writes a file of which a crash leaves either the old or the new content.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), LedgerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write", path))?;
    file.write_all(text.as_bytes()).map_err(io("write", path))?;
    file.as_file().sync_all().map_err(io("write", path))?;
    file.persist(path).map_err(|e| io("write", path)(e.error))?;
    sync_dir(folder)
}

/// Writes a secret that must not be there yet, so that two processes cannot make two.
pub(super) fn create_secret(path: &Path, secret: &Secret) -> Result<(), LedgerError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write", path))?;
    file.write_all(secret.expose().as_bytes()).map_err(io("write", path))?;
    file.as_file().sync_all().map_err(io("write", path))?;
    match file.persist_noclobber(path) {
        Ok(_) => sync_dir(folder),
        // The other process' one is as good.
        Err(e) if e.error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io("write", path)(e.error)),
    }
}

/// Removes a file durably. Returns whether it was there.
pub(super) fn remove(path: &Path) -> Result<bool, LedgerError> {
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))).map(|()| true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io("remove", path)(e)),
    }
}

pub(super) fn sync_dir(path: &Path) -> Result<(), LedgerError> {
    File::open(path).and_then(|d| d.sync_all()).map_err(io("sync", path))
}

pub(super) fn list(path: &Path) -> Result<Vec<String>, LedgerError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(io("list", path))? {
        let entry = entry.map_err(io("list", path))?;
        names.extend(entry.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_not_there_is_nothing_and_what_cannot_be_reached_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, beyond) = (folder.path().join("file"), folder.path().join("file/beyond"));
        assert!(matches!(read(&file), Ok(None)) && matches!(remove(&file), Ok(false)));
        replace(&file, "one").expect("written");
        replace(&file, "two").expect("written");
        assert_eq!(read(&file).expect("read").as_deref(), Some("two"));
        assert!(read(&beyond).is_err() && remove(&beyond).is_err() && replace(&beyond, "").is_err());
        assert_eq!(list(folder.path()).expect("listed"), ["file"]);
        assert!(list(&file).is_err() && sync_dir(&beyond).is_err() && make_dir(&beyond).is_err());
        assert!(matches!(remove(&file), Ok(true)) && !file.exists());
        assert!(private_file(&file, false).is_err());
        private_file(&file, true).expect("made").write_all(b"a").expect("written");
        private_file(&file, false).expect("there").write_all(b"b").expect("appended");
        assert_eq!(read(&file).expect("read").as_deref(), Some("ab"));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_secret_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        create_secret(&file, &Secret::new("one")).expect("made");
        create_secret(&file, &Secret::new("two")).expect("another process' one is as good");
        assert_eq!(read(&file).expect("read").as_deref(), Some("one"));
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(create_secret(&file.join("beyond"), &Secret::new("three")).is_err());
        // Where it cannot be put it is not made, and nobody may think so.
        let long = folder.path().join("x".repeat(300));
        assert!(create_secret(&long, &Secret::new("four")).is_err());
    }
}
