//! Writing results: to standard output, and into files that the user names.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{BufWriter, ErrorKind, Result, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{CliError, Exit};

/// Prints a result.
///
/// # Errors
/// When it could not be written: a result that nobody can read is not a success.
pub(super) fn print(text: &str) -> std::result::Result<(), CliError> {
    #[cfg(test)]
    if super::tests::capture(text) {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
        .map_err(|e| unwritten("standard output", &e))
}

/// Prints JSON as a result.
///
/// # Errors
/// As for `print`.
pub(super) fn print_json(value: &serde_json::Value) -> std::result::Result<(), CliError> {
    print(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The error for a result that could not be written to `place`. A reader that has gone away, as `head`
/// does, gets no words.
pub(super) fn unwritten(place: &str, error: &std::io::Error) -> CliError {
    let exit = if error.kind() == ErrorKind::BrokenPipe { Exit::NotRead } else { Exit::Failed };
    CliError::new(exit, format!("cannot write the result to {place}: {error}"))
        .hint("free some disk space, or write elsewhere; the command itself has taken effect")
}

/// Writes a file: a regular one, also at the end of links, is replaced as a whole and private; a device or
/// a pipe is written into.
///
/// # Errors
/// When it could not be written. A regular file is then as it was.
pub(super) fn to_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> std::result::Result<(), CliError> {
    write_to(path, 0o600, write)
}

/// As [`to_file`], for what every user may read.
///
/// # Errors
/// As for `to_file`.
pub(super) fn to_public_file(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> std::result::Result<(), CliError> {
    write_to(path, 0o644, write)
}

fn write_to(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> std::result::Result<(), CliError> {
    let written = match target(path) {
        Some(target) => replace(&target, mode, write),
        None => into(path, write),
    };
    written.map_err(|e| unwritten(&path.display().to_string(), &e))
}

fn replace(path: &Path, mode: u32, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut out = BufWriter::new(&mut file);
    write(&mut out)?;
    out.flush()?;
    drop(out);
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn into(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = BufWriter::new(std::fs::OpenOptions::new().write(true).open(path)?);
    write(&mut out)?;
    out.flush()
}

/// The regular file, or the one to be made, that a name leads to. `None` where it leads to something else,
/// or to a stream that is open already (`/dev/stdout`): its file would be replaced under its reader.
fn target(path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    // As many links as the kernel follows.
    for _ in 0..40 {
        if ["/dev", "/proc"].iter().any(|streams| path.starts_with(streams)) {
            return None;
        }
        match std::fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => break,
        }
    }
    match std::fs::metadata(&path) {
        Ok(found) => found.is_file().then_some(path),
        // Opening a circle of links says so.
        Err(_) if path.is_symlink() => None,
        Err(_) => path.file_name().is_some_and(|name| name != OsStr::new("..")).then_some(path),
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn put(path: &Path, text: &str) -> std::result::Result<(), CliError> {
        to_file(path, |out| out.write_all(text.as_bytes()))
    }

    #[test]
    fn links_are_followed_and_only_regular_files_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).expect("made");
        fs::write(at("sub/real"), "old").expect("written");
        symlink("sub/real", at("link")).expect("linked");
        symlink("link", at("second")).expect("linked");
        symlink("sub/new", at("dangling")).expect("linked");
        for name in ["link", "second", "dangling", "plain"] {
            put(&at(name), name).expect("written");
        }
        assert_eq!(fs::read_to_string(at("sub/real")).expect("there"), "second");
        assert_eq!(fs::read_to_string(at("sub/new")).expect("there"), "dangling");
        assert!(fs::symlink_metadata(at("second")).expect("there").is_symlink());
        put(Path::new("/dev/null"), "gone").expect("a device takes it");
        assert!(put(Path::new("/dev/full"), "too much").is_err());
        assert!(put(&at("sub"), "a folder").is_err() && put(&at("none/x"), "no folder").is_err());
        symlink("circle", at("circle")).expect("linked");
        assert!(put(&at("circle"), "nowhere").is_err() && at("circle").is_symlink());
    }

    #[test]
    fn what_fails_half_way_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        put(&path, "old").expect("written");
        let failed = to_file(&path, |out| {
            out.write_all(b"new")?;
            Err(std::io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "old");
    }
}
