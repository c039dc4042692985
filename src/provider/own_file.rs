//! Files that the operator names: certificates, keys, tokens. They are read within a bound of time, since a
//! pipe that nobody writes to, or a mount whose server is gone, would hold up the run forever without a word;
//! and within a bound of size.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// How long a file may take to answer; tests need not wait for as long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
/// No certificate, no bundle of them, no key and no token is larger.
pub const SMALL: u64 = 16 << 20;

/// The content of a file.
///
/// # Errors
/// When it cannot be read, has more than `most` bytes, or does not answer within ten seconds
/// ([`io::ErrorKind::TimedOut`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    within(PATIENCE, path, move |path| {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length <= most) {
            return Ok(bytes);
        }
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")))
    })
}

/// The regular files of a folder, links to such files included.
///
/// # Errors
/// When it cannot be listed, or does not answer within ten seconds.
pub fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    within(PATIENCE, folder, |folder| {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            files.push(entry?.path());
        }
        files.retain(|path| path.is_file());
        Ok(files)
    })
}

/// Whether something that is read elsewhere, without a bound, can be read there: a regular file, or nothing.
///
/// # Errors
/// When it is something else, or does not answer within ten seconds.
pub fn regular_or_absent(path: &Path) -> io::Result<()> {
    within(PATIENCE, path, |path| match std::fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    })
}

/// Does the work on a thread of its own, which is left behind when it does not end in time.
fn within<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, waiting) = mpsc::sync_channel(1);
    let path = path.to_owned();
    std::thread::Builder::new().name("own-file".to_owned()).spawn(move || {
        // The other side is gone when it waited too long.
        let _ = done.send(work(&path));
    })?;
    waiting.recv_timeout(patience).unwrap_or_else(|_| {
        let seconds = patience.as_secs();
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {seconds}s: is it a pipe, or on a mount whose server is gone?"),
        ))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test writes what it likes")]
mod tests {
    use super::*;

    /// A pipe that nobody writes to.
    fn pipe(folder: &Path) -> PathBuf {
        let path = folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        path
    }

    #[test]
    fn a_pipe_that_nobody_writes_to_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = pipe(folder.path());
        let patience = Duration::from_millis(50);
        let error = within(patience, &pipe, |path| std::fs::read(path)).expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(regular_or_absent(&pipe).expect_err("a pipe").to_string().contains("not a regular file"));
        assert!(
            list(folder.path()).expect("listed").is_empty(),
            "a pipe is no file of a folder of certificates"
        );
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").expect("written");
        assert_eq!(read(&path, 5).expect("read"), b"12345");
        assert_eq!(read(&path, 4).expect_err("too large").kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&folder.path().join("none"), 5).expect_err("none").kind(), io::ErrorKind::NotFound);
        assert_eq!(list(folder.path()).expect("listed"), std::slice::from_ref(&path));
        regular_or_absent(&path).expect("regular");
        regular_or_absent(&folder.path().join("none")).expect("absent");
    }
}
