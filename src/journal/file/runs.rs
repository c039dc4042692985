//! Opening runs and taking them up again, and what must be so in the whole folder for that.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use super::files::{damaged, io, list, make_dir, place, read, remove, replace};
use super::index_file::IndexFile;
use super::journal::FileJournal;
use super::key_files::KeyFiles;
use super::state_dir::StateDir;
use crate::clock::Moment;
use crate::journal::ledger::sole_match;
use crate::journal::{KeyError, KeyRange, LedgerError};
use crate::plan::Plan;
use crate::rotation::State;

impl StateDir {
    /// Opens a new run: refuses when an open run holds one of the plan's targets, and otherwise
    /// holds them and writes the first record.
    ///
    /// # Errors
    /// When a target is held, or something cannot be written.
    pub fn create(
        &self,
        plan: &Arc<Plan>,
        reason: Option<String>,
        who: (&str, &str),
        at: Moment,
    ) -> Result<FileJournal, LedgerError> {
        let mut index = self.open_index(who, at)?;
        self.heal(&mut index, who, at)?;
        let holds = plan.holds();
        if let Some((target, run)) = self.held(&holds)? {
            return Err(LedgerError::Held { target, run });
        }
        let run = run_id(plan, at);
        let hold = self.hold_path(&run);
        replace(&hold, &serde_json::to_string(&holds).expect("strings are always JSON"))?;
        make_dir(&self.run_dir(&run))?;
        // Where this fails the hold stays: the first record may well be durable, and then the run is
        // open. `held` removes it where no run began.
        FileJournal::create(self, &run, plan, reason, who, at, &mut index)
    }

    /// The first of the targets that an open run holds.
    fn held(&self, wanted: &BTreeMap<String, String>) -> Result<Option<(String, String)>, LedgerError> {
        for entry in list(&self.root().join("open"))? {
            let Some(run) = entry.strip_suffix(".json") else { continue };
            let path = self.hold_path(run);
            let Some(text) = read(&path)? else { continue };
            let held: BTreeMap<String, String> = serde_json::from_str(&text).map_err(damaged(&path))?;
            let Some(target) = wanted.keys().find(|t| held.contains_key(*t)) else { continue };
            // A crash may have left the hold of a run that never began, or is over already.
            let over = match self.load(run) {
                Ok((state, _)) => state.end().is_some(),
                Err(LedgerError::NotFound(_)) => true,
                // What cannot be read may well be in the middle of something.
                Err(LedgerError::Invalid { .. }) => self.never_began(run)?,
                Err(other) => return Err(other),
            };
            if over {
                remove(&self.run_dir(run).join("sealed.jsonl"))?;
                fs::remove_file(&path).map_err(io("remove", &path))?;
            } else {
                return Ok(Some((target.clone(), run.to_owned())));
            }
        }
        Ok(None)
    }

    /// Takes up a run: takes its lock, checks its journal, and folds it.
    ///
    /// # Errors
    /// When another process has it, or its journal is not good.
    pub fn resume(
        &self,
        run: &str,
        who: (&str, &str),
        at: Moment,
    ) -> Result<(FileJournal, State), LedgerError> {
        self.known(run)?;
        let mut index = self.open_index(who, at)?;
        FileJournal::resume(self, run, who, at, &mut index)
    }

    /// The run that a name, or the beginning of one, means; without one the only open run.
    ///
    /// # Errors
    /// When it means none, or several.
    pub fn find(&self, name: Option<&str>) -> Result<String, LedgerError> {
        let fits = match name {
            Some(name) if !name.contains('/') && self.journal_path(name).exists() => {
                return Ok(name.to_owned());
            }
            Some(name) => self.runs()?.into_iter().filter(|r| r.starts_with(name)).collect(),
            None => self.open_runs()?,
        };
        let fits = match name {
            // Those that are here come first, and cost no look at the index.
            Some(name) if fits.is_empty() => {
                self.archived()?.into_iter().map(|(run, _)| run).filter(|run| run.starts_with(name)).collect()
            }
            _ => fits,
        };
        sole_match(name, fits)
    }

    /// As [`StateDir::find`]; without a name and without an open run, the run that began last.
    ///
    /// # Errors
    /// As for `find`.
    pub fn find_any(&self, name: Option<&str>) -> Result<String, LedgerError> {
        match self.find(name) {
            Err(LedgerError::NoOpenRun) => self.newest()?.ok_or(LedgerError::NoOpenRun),
            found => found,
        }
    }

    /// The run that began last.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn newest(&self) -> Result<Option<String>, LedgerError> {
        let began = |run: &String| {
            fs::metadata(self.lock_path(run)).and_then(|m| m.created().or_else(|_| m.modified())).ok()
        };
        Ok(self.runs()?.into_iter().max_by_key(began))
    }

    /// The index, with the state folder's lock held.
    pub(super) fn open_index(&self, who: (&str, &str), at: Moment) -> Result<IndexFile, LedgerError> {
        let (mut index, begun) = IndexFile::open(self, who, at)?;
        if !begun {
            // Runs that were over before are so in the index too.
            self.heal(&mut index, who, at)?;
        }
        Ok(index)
    }

    /// Records the ends of runs that a crash kept from it, so that only runs that go on are open.
    fn heal(&self, index: &mut IndexFile, who: (&str, &str), at: Moment) -> Result<(), LedgerError> {
        let open: Vec<String> = index.index().open().cloned().collect();
        for run in open {
            if self.is_live(&run) || !self.load(&run).is_ok_and(|(state, _)| state.end().is_some()) {
                continue;
            }
            match FileJournal::resume(self, &run, who, at, index) {
                Ok((mut journal, _)) => journal.close_with(index)?,
                Err(e @ LedgerError::Io { .. }) => return Err(e),
                // A run that is not good, or that somebody just took, must not keep another from beginning.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The keys with the positions of the index for which they are valid, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn key_ranges(&self) -> Result<Vec<KeyRange>, LedgerError> {
        match self.index(&[])? {
            Some(index) => Ok(index.keys().to_vec()),
            None => {
                let keys = self.verifying_keys()?;
                Ok(keys
                    .lines()
                    .iter()
                    .map(|key| KeyRange { key: key.clone(), from: 0, until: None })
                    .collect())
            }
        }
    }

    /// Makes the key, and begins the index with it. Without this the first run does.
    ///
    /// # Errors
    /// When there is one, or it cannot be made durable.
    pub fn create_key(&self, who: (&str, &str), at: Moment) -> Result<String, LedgerError> {
        let files = KeyFiles::of(self.root());
        if files.private.exists() || files.public.exists() {
            return Err(LedgerError::KeyExists(place(&files.private)));
        }
        let index = self.open_index(who, at)?;
        Ok(index.key().verifier().trim_end().to_owned())
    }

    /// Changes the key. Returns the new one, and from which position of the index on it is valid.
    ///
    /// # Errors
    /// When a run is open, or something cannot be made durable; the old key then stays, or the next
    /// run finishes the change.
    pub fn rotate_key(&self, who: (&str, &str), at: Moment) -> Result<KeyRange, LedgerError> {
        let files = KeyFiles::of(self.root());
        if !files.private.exists() {
            return Err(LedgerError::Key { place: place(&files.private), source: KeyError::Missing });
        }
        let mut index = self.open_index(who, at)?;
        self.heal(&mut index, who, at)?;
        let mut open: Vec<String> = index.index().open().cloned().collect();
        for run in self.runs()? {
            // A crash may have come before the index knew of it, or before there was a run at all.
            if !index.index().runs.contains_key(&run) && !self.never_began(&run)? {
                open.push(run);
            }
        }
        if !open.is_empty() {
            return Err(LedgerError::OpenRuns(open));
        }
        let (key, from) = index.rotate()?;
        Ok(KeyRange { key, from, until: None })
    }
}

/// A run's id: the runbook's name, the moment, and eight random digits, so that two runs that
/// begin in the same second on two machines differ. It tags what the run issues, and what carries
/// the tag and is not kept is revoked: fifty jobs of one second would share a tag of four digits in
/// one case of fifty.
fn run_id(plan: &Plan, at: Moment) -> String {
    let salt: u32 = rand::random();
    let drill = if plan.drill.is_some() { "drill-" } else { "" };
    format!("{drill}{}-{}-{salt:08x}", plan.runbook.name, at.wall.strftime("%Y%m%d-%H%M%S"))
}
