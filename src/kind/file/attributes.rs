//! What a file has besides its text: owner, mode, access control lists, extended attributes, labels, flags.

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    IFlags, XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, ioctl_getflags, ioctl_setflags,
};
use rustix::io::Errno;

/// The most that Linux keeps in one attribute, or in the list of their names (`XATTR_SIZE_MAX`,
/// `XATTR_LIST_MAX`).
const LIMIT: usize = 64 * 1024;
/// What the kernel makes anew from a file's text.
const MADE_BY_THE_KERNEL: [&str; 2] = ["security.ima", "security.evm"];

/// The flags that a person sets on a file with `chattr` and that its text does not bind: written through, no
/// access times, not in dumps, and what is done when it is deleted.
const FLAGS: IFlags = IFlags::SYNC
    .union(IFlags::NOATIME)
    .union(IFlags::NODUMP)
    .union(IFlags::SECURE_REMOVAL)
    .union(IFlags::UNRM);

/// Gives `new` everything that `old` has besides its text.
///
/// # Errors
/// When something cannot be kept: a file that is read by others, or by fewer, than before is none that
/// may take the old one's place.
pub(super) fn keep(old: &File, new: &File) -> io::Result<()> {
    let (was, is) = (old.metadata()?, new.metadata()?);
    if (was.uid(), was.gid()) != (is.uid(), is.gid()) {
        fchown(new, Some(was.uid()), Some(was.gid()))
            .map_err(|error| cannot("its owner and group", error))?;
    }
    keep_extended(old, new)?;
    keep_flags(old, new)?;
    // After the owner, whose change may clear bits of the mode, and after the access control list, whose
    // mask the group's bits are.
    let mode = was.mode() & 0o7777;
    new.set_permissions(Permissions::from_mode(mode)).map_err(|error| cannot("its mode", error))?;
    let is = new.metadata()?;
    if (is.uid(), is.gid(), is.mode() & 0o7777) != (was.uid(), was.gid(), mode) {
        return Err(cannot("its owner and mode", io::Error::other("the file system gave it others")));
    }
    Ok(())
}

fn keep_extended(old: &File, new: &File) -> io::Result<()> {
    let (wanted, present) = (names(old)?, names(new)?);
    for name in &wanted {
        let shown = name.to_string_lossy();
        if MADE_BY_THE_KERNEL.contains(&&*shown) {
            continue;
        }
        let what = format!("its extended attribute or access control list `{shown}`");
        let value = value(old, name).map_err(|error| cannot(&what, error.into()))?;
        if !value_is(new, name, &value) {
            fsetxattr(new, name, &value, XattrFlags::empty()).map_err(|error| cannot(&what, error.into()))?;
        }
    }
    // A folder may hand a list of its own down to each new file, which may be wider.
    for name in
        present.iter().filter(|name| !wanted.contains(name) && !name.to_bytes().starts_with(b"security."))
    {
        fremovexattr(new, name)
            .map_err(|error| cannot("the access rights that its directory hands down away", error.into()))?;
    }
    Ok(())
}

/// Sets the flags of the old file, and removes those that the directory handed down. Not every file system has
/// flags.
fn keep_flags(old: &File, new: &File) -> io::Result<()> {
    let (Ok(was), Ok(is)) = (ioctl_getflags(old), ioctl_getflags(new)) else { return Ok(()) };
    if was & FLAGS == is & FLAGS {
        return Ok(());
    }
    let wanted = is.difference(FLAGS) | was & FLAGS;
    ioctl_setflags(new, wanted).map_err(|error| cannot("its flags (see `lsattr`)", error.into()))
}

fn names(file: &File) -> io::Result<Vec<CString>> {
    let mut list = Vec::with_capacity(LIMIT);
    match flistxattr(file, spare_capacity(&mut list)) {
        Ok(_) => {}
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    list.split_inclusive(|byte| *byte == 0)
        .map(|name| CStr::from_bytes_with_nul(name).map(CStr::to_owned).map_err(io::Error::other))
        .collect()
}

fn value(file: &File, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(LIMIT);
    fgetxattr(file, name, spare_capacity(&mut value))?;
    Ok(value)
}

fn value_is(file: &File, name: &CStr, wanted: &[u8]) -> bool {
    value(file, name).is_ok_and(|value| value == wanted)
}

fn cannot(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("a replacement cannot keep {what}: {error}"))
}
