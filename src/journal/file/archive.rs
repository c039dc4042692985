//! Archives: closed runs that were moved out of the state directory, into a directory of their own.
//!
//! A run is copied, made durable, read back and compared; then the index records where it is, signed; and only
//! then is the original removed, its journal last. Killed at any point, it is whole in one place at least, and moving
//! it again finishes it. Its roots stay in the index, so that it is verified where it is.
//!
//! ```text
//! <archive>/stanch-archive       what it is: an archive that is not mounted does not have it
//! <archive>/RUN/journal.jsonl    the journal, as it was; `.age` behind its name where it is encrypted
//! <archive>/RUN/outbox/…         its messages, and whatever else belonged to it
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::examine::Cover;
use super::files::{io, list, make_dir, place, private_file, read, remove, replace, sync_dir};
use super::index_file::IndexFile;
use super::journal::lock;
use super::sealing::SealingKey;
use super::state_dir::StateDir;
use crate::clock::Moment;
use crate::journal::{Anchors, Index, LedgerError};
use crate::secret::Recipient;

/// The file that makes a directory an archive.
const MARK: &str = "stanch-archive";
/// What it holds.
const MARKED: &str = "archive of stanch, version 1\n";
/// The messages of a run, in its archive.
const OUTBOX: &str = "outbox";
/// What is not copied: of no use in an archive, or a secret.
const LEFT: [&str; 2] = ["lock", "sealed.jsonl"];

/// A directory that runs are moved into.
#[derive(Debug)]
pub struct Archive {
    folder: PathBuf,
    recipients: Vec<Recipient>,
    /// Whether it has its mark. It gets it with its first run: a refusal leaves a directory as it was.
    is_marked: bool,
}

/// A file of a run: where it is, and its name in the archive.
struct Part {
    from: PathBuf,
    name: PathBuf,
}

impl Archive {
    /// A directory as an archive. With recipients, what is moved there is encrypted for them and for the sealing
    /// identity of the state directory.
    ///
    /// # Errors
    /// When it is not there, or holds something else.
    pub fn open(folder: &Path, recipients: Vec<Recipient>) -> Result<Self, LedgerError> {
        let folder = fs::canonicalize(folder).map_err(io("find", folder))?;
        let bad = |why: &str| LedgerError::BadArchive { place: place(&folder), why: why.to_owned() };
        let there = list(&folder)?;
        let is_marked = match read(&folder.join(MARK))? {
            Some(text) if text == MARKED => true,
            Some(_) => return Err(bad("another version of stanch made it")),
            // What is made here on the way is not in the way.
            None if there.iter().all(|name| name.starts_with(".tmp")) => false,
            None => return Err(bad("it holds other files; name an empty directory, or an archive")),
        };
        Ok(Self { folder, recipients, is_marked })
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl StateDir {
    /// Moves a closed run into an archive; finishes a move that was interrupted. `outbox` are its messages. Returns the
    /// archive's directory.
    ///
    /// # Errors
    /// When the run is not closed or not valid, when a process works on it, or when something cannot be made
    /// durable. The original is then whole.
    pub fn archive(
        &self,
        run: &str,
        archive: &Archive,
        outbox: &Path,
        who: (&str, &str),
        at: Moment,
    ) -> Result<PathBuf, LedgerError> {
        self.known(run)?;
        let inside = fs::canonicalize(self.root()).is_ok_and(|root| archive.folder.starts_with(root));
        if inside {
            let why = "it is inside of the state directory".to_owned();
            return Err(LedgerError::BadArchive { place: place(&archive.folder), why });
        }
        let held = lock(self, run, who)?;
        let keys = self.verifying_keys()?;
        let index = self.index(&[])?;
        let found = self.examine(run, index.as_ref(), &keys, &Anchors::default())?;
        if let Some(fault) = found.report.fault {
            return Err(LedgerError::Invalid { run: run.to_owned(), fault });
        }
        if found.cover != Cover::Closed || found.report.unanchored() > 0 {
            return Err(LedgerError::NotClosed(run.to_owned()));
        }
        let recorded = index.as_ref().and_then(|index| index.archive_of(run)).map(PathBuf::from);
        let folder = recorded.clone().unwrap_or_else(|| archive.folder.clone());
        let mut parts = self.parts(run, outbox)?;
        let target = folder.join(run);
        if !target.exists() {
            if recorded.is_some() {
                return Err(unreachable(run, &folder, &gone()));
            }
            if !archive.is_marked {
                replace(&archive.folder.join(MARK), MARKED)?;
            }
            self.copy(run, archive, &parts)?;
        }
        // Also what an earlier try left there.
        self.compare(run, &target, &parts)?;
        if recorded.is_none() {
            IndexFile::open(self, who, at)?.0.archived(run, &place(&folder))?;
        }
        remove(&self.hold_path(run))?;
        self.remove_sealed(run)?;
        if outbox.exists() {
            // At once: of an outbox that is half gone, the missing messages would be sent again.
            fs::rename(outbox, self.run_dir(run).join(OUTBOX)).map_err(io("move", outbox))?;
            sync_dir(outbox.parent().unwrap_or(outbox))?;
            sync_dir(&self.run_dir(run))?;
            parts = self.parts(run, outbox)?;
        }
        for part in &parts {
            fs::remove_file(&part.from).map_err(io("remove", &part.from))?;
        }
        sync_dir(&self.run_dir(run))?;
        drop(held);
        self.prune(run, outbox);
        Ok(folder)
    }

    /// Finishes what a crash left undone: the ends of runs that the index does not have, and what is left of runs that
    /// were moved into archives. `outboxes` has a folder a run.
    ///
    /// # Errors
    /// When something cannot be read or made durable.
    pub fn settle(&self, outboxes: &Path, who: (&str, &str), at: Moment) -> Result<(), LedgerError> {
        drop(self.open_index(who, at)?);
        for (run, _) in self.archived()? {
            self.prune(&run, &outboxes.join(&run));
        }
        Ok(())
    }

    /// The files of a run. The journal comes last: what is removed before it can be removed again.
    fn parts(&self, run: &str, outbox: &Path) -> Result<Vec<Part>, LedgerError> {
        let mut parts = Vec::new();
        parts_below(outbox, Path::new(OUTBOX), &mut parts)?;
        parts_below(&self.run_dir(run), Path::new(""), &mut parts)?;
        parts.sort_by_key(|part| part.name == Path::new("journal.jsonl"));
        Ok(parts)
    }

    /// Removes the empty folders of a run that was moved. What a process left there since stays.
    fn prune(&self, run: &str, outbox: &Path) {
        let own = self.run_dir(run);
        for folder in [own.join("approvals"), own.join(OUTBOX), own, outbox.to_owned()] {
            let _ = fs::remove_file(folder.join("lock"));
            let _ = fs::remove_dir(folder);
        }
    }

    /// Copies a run beside its place in the archive, and moves it there when it is whole.
    fn copy(&self, run: &str, archive: &Archive, parts: &[Part]) -> Result<(), LedgerError> {
        let partial = archive.folder.join(format!(".{run}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(io("remove", &partial))?;
        }
        make_dir(&partial)?;
        let sealer = match archive.recipients.is_empty() {
            true => None,
            false => Some(self.sealer()?),
        };
        for part in parts {
            let to = partial.join(&part.name);
            let to = if sealer.is_some() { encrypted(&to) } else { to };
            let above = to.parent().unwrap_or(&partial);
            make_dir(above)?;
            let mut from = File::open(&part.from).map_err(io("open", &part.from))?;
            let mut out = private_file(&to, true)?;
            match &sealer {
                Some(sealer) => sealer.encrypt(&archive.recipients, &mut from, &mut out),
                None => io::copy(&mut from, &mut out).map(drop),
            }
            .map_err(io("write", &to))?;
            out.sync_all().map_err(io("sync", &to))?;
            // What is read back is to be what the disk has.
            let _ = rustix::fs::fadvise(&out, 0, None, rustix::fs::Advice::DontNeed);
        }
        for folder in ["approvals", OUTBOX, ""].map(|name| partial.join(name)) {
            if folder.exists() {
                sync_dir(&folder)?;
            }
        }
        self.compare(run, &partial, parts)?;
        let target = archive.folder.join(run);
        fs::rename(&partial, &target).map_err(io("move into the archive", &partial))?;
        sync_dir(&archive.folder)
    }

    /// Makes sure that each part of a run is in a directory, as it is here.
    fn compare(&self, run: &str, folder: &Path, parts: &[Part]) -> Result<(), LedgerError> {
        for part in parts {
            let copy = folder.join(&part.name);
            let original = File::open(&part.from).map_err(io("open", &part.from))?;
            let same = match self.plain(&copy) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                plain => plain.and_then(|copy| same(original, copy)),
            };
            if !same.map_err(io("read", &copy))? {
                let why = format!("{} is not what run {run} has; the run was not moved", place(&copy));
                return Err(LedgerError::BadArchive { place: place(folder), why });
            }
        }
        Ok(())
    }

    /// An archived file, decrypted where it is encrypted: in memory, never on a disk.
    fn plain(&self, path: &Path) -> io::Result<File> {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let sealed = open(&encrypted(path))?;
        let sealer = SealingKey::of(self.root()).existing().map_err(io::Error::other)?;
        let sealer = sealer.ok_or_else(|| io::Error::other("it is encrypted, and keys/seal.key is gone"))?;
        let mut plain: File =
            rustix::fs::memfd_create("stanch-archive", rustix::fs::MemfdFlags::CLOEXEC)?.into();
        sealer.decrypt(BufReader::new(sealed), &mut plain).map_err(|error| match error.raw_os_error() {
            Some(_) => error,
            None => changed(&format!("it cannot be decrypted: {error}")),
        })?;
        plain.seek(SeekFrom::Start(0))?;
        Ok(plain)
    }

    /// The runs that were moved into archives, and where each is.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn archived(&self) -> Result<Vec<(String, String)>, LedgerError> {
        let Some(index) = self.index(&[])? else { return Ok(Vec::new()) };
        let gone = |run: &&str| !self.journal_path(run).exists();
        let place = |run: &str| Some((run.to_owned(), index.archive_of(run)?.to_owned()));
        Ok(index.runs().filter(gone).filter_map(place).collect())
    }

    /// The journal of a run, and where it is: here, or in an archive.
    ///
    /// # Errors
    /// When there is no such run, or its archive cannot be read.
    pub(super) fn journal_file(&self, run: &str) -> Result<(File, PathBuf), LedgerError> {
        let path = self.journal_path(run);
        match File::open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("open", &path)(e)),
        }
        let index = self.index(&[])?;
        let found = index.as_ref().and_then(|index| self.archived_journal(run, index));
        found.unwrap_or_else(|| Err(LedgerError::NotFound(run.to_owned())))
    }

    /// The journal of a run in its archive; `None` where it was not moved into one.
    pub(super) fn archived_journal(
        &self,
        run: &str,
        index: &Index,
    ) -> Option<Result<(File, PathBuf), LedgerError>> {
        let folder = Path::new(index.archive_of(run)?);
        let path = folder.join(run).join("journal.jsonl");
        let opened = self.plain(&path).map(|file| (file, path));
        Some(opened.map_err(|error| match error.kind() {
            // In an archive that is there, a run that is not is gone.
            io::ErrorKind::NotFound if folder.join(MARK).exists() => {
                LedgerError::GoneFromArchive { run: run.to_owned(), place: place(folder) }
            }
            io::ErrorKind::InvalidData => LedgerError::ChangedInArchive {
                run: run.to_owned(),
                place: place(folder),
                why: error.to_string(),
            },
            _ => unreachable(run, folder, &error),
        }))
    }

    /// Refuses a name that no run has; what is in an archive is a run.
    pub(super) fn known_or_archived(&self, run: &str) -> Result<(), LedgerError> {
        match self.known(run) {
            Err(LedgerError::Archived { .. }) => Ok(()),
            known => known,
        }
    }
}

fn unreachable(run: &str, folder: &Path, error: &io::Error) -> LedgerError {
    let why = match folder.join(MARK).exists() {
        true => error.to_string(),
        false => "no archive is there; is it mounted?".to_owned(),
    };
    LedgerError::Unreachable { run: run.to_owned(), place: place(folder), why }
}

/// What is not what was moved there.
fn changed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Opens a file; what would wait for a writer, or has no end, is not one.
fn open(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(changed("it is not a file")),
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn encrypted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".age");
    name.into()
}

/// The files below a directory, under their names from there.
fn parts_below(folder: &Path, name: &Path, parts: &mut Vec<Part>) -> Result<(), LedgerError> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in list(folder)?.into_iter().filter(|entry| !LEFT.contains(&entry.as_str())) {
        let (from, name) = (folder.join(&entry), name.join(&entry));
        if from.is_dir() {
            parts_below(&from, &name, parts)?;
        } else {
            parts.push(Part { from, name });
        }
    }
    Ok(())
}

/// Whether two files hold the same.
fn same(a: File, b: File) -> io::Result<bool> {
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (BufReader::with_capacity(1 << 16, a), BufReader::with_capacity(1 << 16, b));
    let (mut left, mut right) = ([0; 1 << 14], [0; 1 << 14]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(true);
        }
        b.read_exact(&mut right[..n])?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
}
