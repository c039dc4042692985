//! Is the record what was written? A journal held against its signatures, against the index, and
//! against anchors. Reads only.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::files::io;
use super::state_dir::StateDir;
use crate::journal::anchor::Anchors;
use crate::journal::chain::Frontier;
use crate::journal::index::{INDEX_ORIGIN, Index, Standing, index_origin};
use crate::journal::key::{VerifyingKeys, run_origin};
use crate::journal::record::Record;
use crate::journal::verify::{Tail, verify_quickly};
use crate::journal::{Fault, LedgerError, Report};
use crate::rotation::Event;

/// What else than its own signatures stands for a run's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cover {
    /// There is no index, or it was not asked.
    NoIndex,
    /// The index does not know the run, and nothing was done in it yet.
    Unknown,
    /// The index has its beginning, and it goes on.
    Open,
    /// It is over, and the index does not have its end.
    Closing,
    /// The index has its end.
    Closed,
    /// It is in an archive that cannot be read.
    Away,
}

/// What was found out about a run's journal.
#[derive(Debug, Clone)]
pub struct Examined {
    /// What its own lines and signatures say; the fault may also be the index's or an anchor's word.
    pub report: Report,
    /// What the index says.
    pub cover: Cover,
    /// Whether its last word is that the run is over.
    pub over: bool,
    /// How many anchors agree.
    pub anchors: u64,
    /// Where its journal is, if it was moved into an archive, and why it cannot be read, if it cannot.
    pub archive: Option<(PathBuf, Option<String>)>,
}

impl StateDir {
    /// Reads the index and holds it against the keys that the reader trusts, and against anchors.
    /// Returns it with how many of these agree. `None` where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is gone.
    pub fn examine_index(
        &self,
        trusted: &VerifyingKeys,
        anchors: &Anchors,
    ) -> Result<Option<(Index, u64)>, LedgerError> {
        let sizes: Vec<u64> = anchors.sizes().collect();
        Ok(self.index(&sizes)?.map(|index| hold(index, trusted, anchors)))
    }

    /// Checks a run's journal against its signatures, the index and anchors.
    ///
    /// # Errors
    /// When neither the folder nor the index nor an anchor has such a run, or reading fails.
    pub fn examine(
        &self,
        run: &str,
        index: Option<&Index>,
        trusted: &VerifyingKeys,
        anchors: &Anchors,
    ) -> Result<Examined, LedgerError> {
        let standing = index.and_then(|index| index.runs.get(run));
        let mut path = self.journal_path(run);
        let mut archive = None;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => 'found: {
                match index.and_then(|index| self.archived_journal(run, index)) {
                    Some(Ok((file, place))) => {
                        archive = Some((place.clone(), None));
                        path = place;
                        break 'found file;
                    }
                    Some(Err(LedgerError::Unreachable { place, why, .. })) => {
                        return Ok(Examined::away(run, place.into(), why));
                    }
                    Some(Err(
                        error @ (LedgerError::GoneFromArchive { .. } | LedgerError::ChangedInArchive { .. }),
                    )) => {
                        return Ok(Examined::gone(run, error.to_string()));
                    }
                    Some(Err(error)) => return Err(error),
                    None => {}
                }
                let anchored = anchors.subjects(&run_origin(""), trusted).any(|subject| subject == run);
                let what = match standing {
                    Some(standing) => {
                        format!(
                            "the index lists this run since {:.0}, but its journal is gone",
                            standing.since
                        )
                    }
                    None if anchored => {
                        "an anchor proves that this run existed, but its journal is gone".into()
                    }
                    None => return Err(LedgerError::NotFound(run.into())),
                };
                return Ok(Examined::gone(run, what));
            }
            Err(e) => return Err(io("open", &path)(e)),
        };
        let keys = index.map(|index| index.key_of(run));
        let keys = keys.as_ref().unwrap_or(trusted);
        let (mut found, tail) = examine(&file, standing, keys, anchors).map_err(io("read", &path))?;
        if found.report.run.as_deref().is_some_and(|name| name != run) {
            let what = "it is the journal of another run: it was replaced".into();
            found.add_fault(Some(Fault { line: 1, what }));
        }
        match (index, standing) {
            (Some(_), Some(standing)) => {
                found.add_fault(standing.contradiction(&tail.frontier, found.report.torn > 0));
                found.cover = match (standing.closed, found.over) {
                    (Some(_), _) => Cover::Closed,
                    (None, true) => Cover::Closing,
                    (None, false) => Cover::Open,
                };
            }
            (Some(_), None) => {
                found.cover = Cover::Unknown;
                // More than the first record is never there: the index comes before everything else.
                found.add_fault((found.report.records > 1).then(|| Fault {
                    line: 1,
                    what:
                        "the index does not list this run: the run was placed here, or the index was cut off".into(),
                }));
            }
            (None, _) => {}
        }
        found.archive = archive;
        Ok(found)
    }

    /// All runs that the folder, the index or an anchor knows, by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn known_runs(
        &self,
        index: Option<&Index>,
        trusted: &VerifyingKeys,
        anchors: &Anchors,
    ) -> Result<Vec<String>, LedgerError> {
        let mut runs = self.runs()?;
        runs.extend(index.iter().flat_map(|index| index.runs()).map(str::to_owned));
        runs.extend(anchors.subjects(&run_origin(""), trusted).map(str::to_owned));
        runs.sort_unstable();
        runs.dedup();
        Ok(runs)
    }
}

/// Checks a journal that stands by itself, such as a copy: against its signatures and anchors.
///
/// # Errors
/// When it cannot be read.
pub fn examine_journal_file(
    path: &Path,
    trusted: &VerifyingKeys,
    anchors: &Anchors,
) -> Result<Examined, LedgerError> {
    let file = File::open(path).map_err(io("open", path))?;
    let found = examine(&file, None, trusted, anchors).map_err(io("read", path))?;
    Ok(found.0)
}

/// As [`StateDir::examine_index`], for an index that stands by itself.
///
/// # Errors
/// When it cannot be read.
pub fn examine_index_file(
    path: &Path,
    trusted: &VerifyingKeys,
    anchors: &Anchors,
) -> Result<(Index, u64), LedgerError> {
    let file = File::open(path).map_err(io("open", path))?;
    let mut index = Index::read(BufReader::new(file), anchors.sizes()).map_err(io("read", path))?;
    if index.signed == 0 && index.fault.is_none() {
        index.fault = Some(Fault { line: 1, what: "the index is empty".into() });
    }
    Ok(hold(index, trusted, anchors))
}

impl Examined {
    fn gone(run: &str, what: String) -> Self {
        let fault = Some(Fault { line: 1, what });
        let report =
            Report { run: Some(run.to_owned()), records: 0, checkpoints: 0, anchored: 0, torn: 0, fault };
        Self { report, cover: Cover::Open, over: false, anchors: 0, archive: None }
    }

    /// In an archive that cannot be read.
    fn away(run: &str, archive: PathBuf, why: String) -> Self {
        let report = Report {
            run: Some(run.to_owned()),
            records: 0,
            checkpoints: 0,
            anchored: 0,
            torn: 0,
            fault: None,
        };
        Self { report, cover: Cover::Away, over: true, anchors: 0, archive: Some((archive, Some(why))) }
    }

    /// Adds a fault, unless an earlier line has one.
    fn add_fault(&mut self, fault: Option<Fault>) {
        let Some(fault) = fault else { return };
        if self.report.fault.as_ref().is_none_or(|first| fault.line < first.line) {
            self.report.fault = Some(fault);
        }
    }
}

/// Holds an index against trusted keys and anchors.
fn hold(mut index: Index, trusted: &VerifyingKeys, anchors: &Anchors) -> (Index, u64) {
    let mine = index_origin(&index.id);
    let (agree, fault) = anchors.check(&mine, |at| index.key_at(at), &index.frontier);
    // A note by a trusted key about an index of another name: there was another one.
    let other = anchors.subjects(INDEX_ORIGIN, trusted).find(|id| *id != index.id);
    let other = other.map(|id| Fault {
        line: 1,
        what: format!("an anchor names the index {id}, but this is {}: it was replaced", index.id),
    });
    let faults = [index.fault.take(), index.untrusted_key(trusted), fault, other];
    index.fault = faults.into_iter().flatten().min_by_key(|fault| fault.line);
    (index, agree)
}

fn examine(
    file: &File,
    standing: Option<&Standing>,
    keys: &VerifyingKeys,
    anchors: &Anchors,
) -> std::io::Result<(Examined, Tail)> {
    let sizes: Vec<u64> = standing.iter().flat_map(|s| s.sizes()).chain(anchors.sizes()).collect();
    let mut best: Option<(Report, Tail, VerifyingKeys)> = None;
    // One key signs a whole run; where several are given, the newest that fits is the one. Another
    // one fails at the first checkpoint.
    for key in keys.lines().iter().rev().map(|key| VerifyingKeys::one(key)) {
        let mut reader = BufReader::with_capacity(1 << 16, file);
        reader.seek(SeekFrom::Start(0))?;
        let frontier = Frontier::watching(sizes.iter().copied());
        let (report, tail) = verify_quickly(reader, frontier, &key)?;
        let good = report.fault.is_none();
        if best.as_ref().is_none_or(|(best, ..)| good || report.records > best.records) {
            best = Some((report, tail, key));
        }
        if good {
            break;
        }
    }
    let Some((report, tail, key)) = best else {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "there is no key to verify it with"));
    };
    let origin = run_origin(report.run.as_deref().unwrap_or_default());
    let over = is_over(file, tail.end)?;
    let mut found = Examined { report, cover: Cover::NoIndex, over, anchors: 0, archive: None };
    // What is not good by itself cannot be held against anything from there on.
    if found.report.fault.is_none() {
        let (agree, fault) = anchors.check(&origin, |_| key.clone(), &tail.frontier);
        found.anchors = agree;
        found.add_fault(fault);
    }
    Ok((found, tail))
}

/// Whether the last record that says something says that the run is over.
fn is_over(mut file: &File, end: u64) -> std::io::Result<bool> {
    /// More than the last records take: the end itself, a repair, and their checkpoints.
    const LAST: u64 = 16 << 10;
    let begin = end.saturating_sub(LAST);
    file.seek(SeekFrom::Start(begin))?;
    let mut last = Vec::new();
    file.take(end - begin).read_to_end(&mut last)?;
    let records = last.split(|c| *c == b'\n').rev().filter_map(|line| Record::parse(line).ok());
    let mut events = records.map(|record| record.event);
    let said = events.find(|event| !matches!(event, Event::Checkpoint { .. } | Event::Repaired { .. }));
    Ok(matches!(said, Some(Event::Closed { .. })))
}
