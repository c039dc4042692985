//! What makes a state directory one of a drill: the file `drill.json` in it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lint::check;
use super::model::Scenario;
use crate::runbook::Source;

/// The file's name.
const NAME: &str = "drill.json";
/// The version of its form.
const VERSION: u32 = 1;

/// What a drill's state directory says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marker {
    version: u32,
    /// The scenario's text.
    pub scenario: String,
    /// The runbook to play, as a path.
    pub runbook: PathBuf,
    /// When the drill began.
    pub begun: Timestamp,
    /// How many times as fast as real time it is played; `None` is as fast as the work is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
}

/// The file is there, and does not say what it should. No command may then take the directory for an ordinary one.
#[derive(Debug, thiserror::Error)]
pub enum BadMarker {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what a drill writes.
    #[error("{} is not what `stanch drill` writes: {why}", path.display())]
    Malformed {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Marker {
    /// The marker of a drill that begins now.
    pub fn new(scenario: String, runbook: PathBuf, begun: Timestamp, speed: Option<f64>) -> Self {
        Self { version: VERSION, scenario, runbook, begun, speed }
    }

    /// Reads the marker of a state directory; `None` where it is an ordinary one.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn read(state: &Path) -> Result<Option<Self>, BadMarker> {
        let path = state.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(BadMarker::Unreadable { path, source }),
        };
        let malformed = |why: String| BadMarker::Malformed { path: path.clone(), why };
        let marker: Self = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;
        if marker.version != VERSION || marker.speed.is_some_and(|speed| !(speed.is_finite() && speed > 0.0))
        {
            return Err(malformed("its version or its speed is not known here".into()));
        }
        marker.scenario().map_err(malformed)?;
        Ok(Some(marker))
    }

    /// Puts it into a state directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(state)?;
        serde_json::to_writer(&mut file, self)?;
        file.as_file().sync_all()?;
        file.persist(state.join(NAME))?;
        Ok(())
    }

    /// The scenario that its text means.
    ///
    /// # Errors
    /// When the text is not a scenario, in words.
    pub fn scenario(&self) -> Result<Scenario, String> {
        let checked = check(&Source { name: NAME.to_owned(), text: self.scenario.clone() });
        checked.scenario.ok_or_else(|| {
            checked.findings.first().map_or_else(|| "no scenario".into(), |finding| finding.message.clone())
        })
    }
}
