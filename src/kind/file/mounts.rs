//! One name for a file that several paths lead to through bind mounts.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// The device, as `major:minor`.
    device: Vec<u8>,
    /// The directory of that file system which is mounted.
    root: PathBuf,
    /// Where it is mounted.
    point: PathBuf,
}

/// The path that stands for a file, however many mounts show it: the one through the mount that shows most of
/// its file system. `canonical` where no other path leads to this file, or the mounts cannot be read.
///
/// A path and not a device number: those change when a machine starts anew, and a run may be open that long.
pub(super) fn one_name(canonical: &Path) -> PathBuf {
    let mounts = std::fs::read("/proc/self/mountinfo").map(|text| parse(&text)).unwrap_or_default();
    let same = |other: &Path| match (std::fs::metadata(canonical), std::fs::metadata(other)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    };
    // Another mount may hide what a path would lead to.
    names(&mounts, canonical).into_iter().find(|name| same(name)).unwrap_or_else(|| canonical.to_owned())
}

/// The paths that may lead to a file, best first.
fn names(mounts: &[Mount], canonical: &Path) -> Vec<PathBuf> {
    // Of two mounts on one point, the later one is seen.
    let over = mounts
        .iter()
        .filter(|mount| canonical.starts_with(&mount.point))
        .max_by_key(|mount| mount.point.components().count());
    let Some(over) = over else { return Vec::new() };
    let Ok(below) = canonical.strip_prefix(&over.point) else { return Vec::new() };
    let within = over.root.join(below);
    let mut others: Vec<&Mount> = mounts
        .iter()
        .filter(|mount| mount.device == over.device && within.starts_with(&mount.root))
        .collect();
    // The first of equals stays the first: a mount that is added later changes no name.
    others.sort_by_key(|mount| mount.root.components().count());
    let name = |mount: &Mount| Some(mount.point.join(within.strip_prefix(&mount.root).ok()?));
    others.into_iter().filter_map(name).collect()
}

fn parse(text: &[u8]) -> Vec<Mount> {
    let mount = |line: &[u8]| {
        // An id, the parent's id, the device, the root, the mount point, and more.
        let mut fields = line.split(|byte| *byte == b' ').skip(2);
        let device = fields.next()?.to_owned();
        let (root, point) = (unescape(fields.next()?), unescape(fields.next()?));
        Some(Mount { device, root, point })
    };
    text.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// A path as the kernel writes it: white space and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(text: &str, path: &str) -> Vec<String> {
        let names = names(&parse(text.as_bytes()), Path::new(path));
        names.iter().map(|name| name.display().to_string()).collect()
    }

    #[test]
    fn every_mount_that_shows_a_file_leads_to_one_name() {
        let mounts = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                      2 1 8:2 / /home rw shared:1 - ext4 /dev/b rw\n\
                      3 1 8:1 /srv/app\\040one /mnt/app rw - ext4 /dev/a rw\n\
                      4 2 8:2 /al /srv/al rw - ext4 /dev/b rw\n\
                      5 1 0:30 / /srv/tmp rw - tmpfs tmpfs rw\n\
                      odd\n";
        for path in ["/mnt/app/x/f", "/srv/app one/x/f"] {
            assert_eq!(names_of(mounts, path), ["/srv/app one/x/f", "/mnt/app/x/f"], "{path}");
        }
        for path in ["/srv/al/f", "/home/al/f"] {
            assert_eq!(names_of(mounts, path), ["/home/al/f", "/srv/al/f"], "{path}");
        }
        assert_eq!(names_of(mounts, "/srv/tmp/f"), ["/srv/tmp/f"]);
        assert_eq!(names_of(mounts, "/srv/apple/f"), ["/srv/apple/f"], "a name that begins alike");
        assert_eq!(names_of("", "/f"), [""; 0]);
    }

    #[test]
    fn a_file_that_one_path_leads_to_keeps_it() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().canonicalize().expect("path").join("f");
        std::fs::File::create(&path).expect("file");
        assert_eq!(one_name(&path), path);
        let gone = path.with_extension("gone");
        assert_eq!(one_name(&gone), gone);
    }
}
