//! The channels of a run: those of `notify.yaml`, and those of its runbook.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::templates::{TemplateError, Templates, read};
use crate::plan::Plan;
use crate::runbook::notify::{Channel, Notify};
use crate::runbook::{Finding, ReadError, Source, check_notify};

/// A channel that can be used.
#[derive(Debug, Clone)]
pub struct Configured {
    /// Its name.
    pub name: String,
    /// What the file says of it.
    pub channel: Channel,
    /// The directory that its relative paths start from.
    pub base: PathBuf,
    /// Its templates.
    pub templates: Arc<Templates>,
}

/// All channels of a run, by name.
#[derive(Debug, Clone, Default)]
pub struct Channels {
    /// The channels.
    pub all: Vec<Configured>,
    /// What is doubtful in `notify.yaml`, and its text.
    pub doubts: Option<(Source, Vec<Finding>)>,
}

/// The channels cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// The file has mistakes.
    #[error("{} is not valid", file.name)]
    Invalid {
        /// The file.
        file: Source,
        /// Its mistakes.
        findings: Vec<Finding>,
    },
    /// Its templates cannot be used.
    #[error(transparent)]
    Templates(#[from] TemplateError),
}

impl Channels {
    /// The channels of a file, where it is there, and of a plan's runbook. A channel of the runbook replaces one of
    /// the same name.
    ///
    /// # Errors
    /// When the file is not valid, or templates are not.
    pub fn load(file: Option<&Path>, plan: Option<&Plan>) -> Result<Self, ConfigError> {
        let mut channels = Self::default();
        if let Some(notify) = plan.and_then(|plan| plan.runbook.notify.as_ref()) {
            let directory = plan.and_then(|plan| plan.directory.as_deref()).unwrap_or(".");
            channels.add(notify, Path::new(directory))?;
        }
        if let Some(path) = file {
            let source = read(path)?;
            let checked = check_notify(&source);
            let Some(notify) = checked.notify else {
                return Err(ConfigError::Invalid { file: source, findings: checked.findings });
            };
            let base = path.parent().filter(|base| !base.as_os_str().is_empty()).unwrap_or(Path::new("."));
            channels.add(&notify, base)?;
            channels.doubts = (!checked.findings.is_empty()).then_some((source, checked.findings));
        }
        Ok(channels)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// A channel, by its name.
    pub fn get(&self, name: &str) -> Option<&Configured> {
        self.all.iter().find(|channel| channel.name == name)
    }

    fn add(&mut self, notify: &Notify, base: &Path) -> Result<(), ConfigError> {
        let own = notify.templates.as_ref().map(|folder| base.join(folder));
        let mut loaded: Vec<Arc<Templates>> = Vec::new();
        for (name, channel) in &notify.channels {
            let language = channel.language.as_deref().or(notify.language.as_deref()).unwrap_or("en");
            let templates = match loaded.iter().find(|templates| templates.language() == language) {
                Some(templates) => Arc::clone(templates),
                None => {
                    let templates = Arc::new(Templates::load(language, own.as_deref())?);
                    loaded.push(Arc::clone(&templates));
                    templates
                }
            };
            if self.get(name).is_none() {
                self.all.push(Configured {
                    name: name.clone(),
                    channel: channel.clone(),
                    base: base.to_owned(),
                    templates,
                });
            }
        }
        Ok(())
    }
}
