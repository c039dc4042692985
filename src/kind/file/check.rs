//! What would keep a file from being replaced, looked for before anything is issued.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, IFlags, StatxFlags, ioctl_getflags, statx};
use rustix::process::geteuid;

use super::replace;
use super::work::from_io;
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;

/// The warning that every user may read it.
pub(super) const EVERYBODY_READS: &str = "every user of this machine may read it";

/// Tries all of a replacement but the last step: a file of `size` bytes with the target's owner, mode
/// and attributes is written into its folder and removed again. A warning where a replacement would have
/// a side effect.
///
/// # Errors
/// Whatever would stop the replacement.
pub(super) fn check(target: &Path, size: usize) -> Result<Option<String>, CallError> {
    let folder = replace::parent(target).map_err(|error| from_io(&error))?;
    refuse_flags(target, IFlags::IMMUTABLE | IFlags::APPEND)?;
    refuse_flags(&folder, IFlags::IMMUTABLE | IFlags::APPEND)?;
    if is_mounted(target, &folder) {
        return Err(local("it is a mount point of its own: a file that is mounted cannot be replaced")
            .hint("mount its directory instead, or name the file that is mounted there in the runbook"));
    }
    let (file, over) = std::fs::metadata(target)
        .and_then(|file| Ok((file, std::fs::metadata(&folder)?)))
        .map_err(|error| from_io(&error))?;
    let me = geteuid().as_raw();
    if over.mode() & 0o1000 != 0 && me != 0 && ![file.uid(), over.uid()].contains(&me) {
        return Err(CallError::rejected(
            ErrorKind::Denied,
            "its directory is sticky: only the owner of the file or of the directory may replace it",
        )
        .hint("run stanch as that owner, or as root"));
    }
    // Line feeds, and not the text: it holds other secrets, too.
    let tried = replace::prepare(target, &vec![b'\n'; size]).and_then(tempfile::NamedTempFile::close);
    tried.map_err(|error| {
        let error = from_io(&error);
        CallError { message: format!("a replacement cannot be written: {}", error.message), ..error }
            .hint("give this user the rights, or the disk the space, that it lacks; then plan again")
    })?;
    if file.nlink() > 1 {
        return Ok(Some("it has other hard links, which will keep the old text".to_owned()));
    }
    if file.mode() & 0o004 != 0 {
        return Ok(Some(EVERYBODY_READS.to_owned()));
    }
    Ok(None)
}

/// Not every file system has flags.
fn refuse_flags(path: &Path, barred: IFlags) -> Result<(), CallError> {
    let flags = replace::open(path).ok().and_then(|file: File| ioctl_getflags(&file).ok());
    if flags.is_some_and(|flags| flags.intersects(barred)) {
        let path = path.display();
        return Err(local(format!("{path} is marked immutable or append-only"))
            .hint(format!("type `chattr -i -a {path}`, then plan again")));
    }
    Ok(())
}

/// Whether something is mounted on the file itself.
fn is_mounted(target: &Path, folder: &Path) -> bool {
    let mount = |path: &Path| {
        let seen = statx(CWD, path, AtFlags::empty(), StatxFlags::MNT_ID).map_err(io::Error::from)?;
        let known = seen.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok::<_, io::Error>((known.then_some(seen.stx_mnt_id), seen.stx_dev_major, seen.stx_dev_minor))
    };
    match (mount(target), mount(folder)) {
        (Ok(file), Ok(folder)) => file != folder,
        _ => false,
    }
}

fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}
