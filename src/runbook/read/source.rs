//! A runbook's file. The only part of this layer that touches the world.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::tree::MAX_BYTES;

/// A runbook's text and the name that findings call it by.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file's name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The file cannot be read as a runbook.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("the file {} does not exist", path.display())]
    Missing {
        /// The path that was asked for.
        path: PathBuf,
        /// Runbooks that stand nearby.
        nearby: Vec<PathBuf>,
    },
    /// It is a directory.
    #[error("{} is a directory", path.display())]
    Directory {
        /// The path that was asked for.
        path: PathBuf,
        /// Runbooks inside it.
        nearby: Vec<PathBuf>,
    },
    /// It is too large.
    #[error("{} has more than {MAX_BYTES} bytes; that is too large for a runbook", path.display())]
    TooLarge {
        /// The path that was asked for.
        path: PathBuf,
    },
    /// It is not text.
    #[error("{} is not UTF-8 text (the byte at {at} is not)", path.display())]
    NotText {
        /// The path that was asked for.
        path: PathBuf,
        /// The offset of the first bad byte.
        at: usize,
    },
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The path that was asked for.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { path, nearby } => Some(match nearest(path, nearby) {
                Some(near) => format!("did you mean {}?", near.display()),
                None if nearby.is_empty() => "`stanch init` writes a runbook to start from".to_owned(),
                None => format!("nearby: {}", list(nearby)),
            }),
            Self::Directory { nearby, .. } if nearby.is_empty() => {
                Some("name the runbook file; `stanch init` writes one to start from".to_owned())
            }
            Self::Directory { nearby, .. } => Some(format!("name one of its files: {}", list(nearby))),
            Self::TooLarge { .. } => None,
            Self::NotText { .. } => Some("save the file as UTF-8".to_owned()),
            Self::Io { .. } => None,
        }
    }
}

impl Source {
    /// Reads a file, up to 1 MiB of it.
    ///
    /// # Errors
    /// When there is no such file, or it is too large, not text or not readable.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let mut nearby = runbooks_in(folder);
                nearby.extend(runbooks_in(&folder.join("runbooks")));
                ReadError::Missing { path: path.to_owned(), nearby }
            }
            io::ErrorKind::IsADirectory => {
                ReadError::Directory { path: path.to_owned(), nearby: runbooks_in(path) }
            }
            _ => ReadError::Io { path: path.to_owned(), source },
        };
        Self::from_reader(path, File::open(path).map_err(io)?)
    }

    /// The same, of a file that is open already.
    ///
    /// # Errors
    /// When it is too large, not text or not readable.
    pub fn from_reader(path: &Path, file: impl Read) -> Result<Self, ReadError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::IsADirectory => {
                ReadError::Directory { path: path.to_owned(), nearby: runbooks_in(path) }
            }
            _ => ReadError::Io { path: path.to_owned(), source },
        };
        let mut bytes = Vec::new();
        // One byte more than allowed tells a file that is too large from one that just fits.
        let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(io)?;
        if bytes.len() > MAX_BYTES {
            return Err(ReadError::TooLarge { path: path.to_owned() });
        }
        let text = String::from_utf8(bytes).map_err(|error| ReadError::NotText {
            path: path.to_owned(),
            at: error.utf8_error().valid_up_to(),
        })?;
        Ok(Self { name: path.display().to_string(), text })
    }
}

/// The YAML files of a folder; none where it cannot be listed, since this only helps a hint.
fn runbooks_in(folder: &Path) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = listed.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .take(1000)
        .flatten()
        .map(|entry| folder.join(entry.file_name()))
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml"))
        .collect();
    found.sort();
    found
}

fn nearest<'a>(path: &Path, nearby: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let name = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let wanted = name(path)?;
    nearby.iter().find(|other| {
        name(other).is_some_and(|other| strsim::damerau_levenshtein(&wanted, &other) <= wanted.len() / 3)
    })
}

fn list(paths: &[PathBuf]) -> String {
    let mut names: Vec<String> = paths.iter().take(8).map(|path| path.display().to_string()).collect();
    if paths.len() > names.len() {
        names.push("…".to_owned());
    }
    names.join(", ")
}
