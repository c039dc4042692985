//! Secrets of channels: from an environment variable, or from a file that only its owner can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::provider::own_file;
use crate::runbook::notify::SecretFrom;
use crate::secret::Secret;

/// No address, key or password is longer.
const MOST: u64 = 16 * 1024;

/// The secret. `base` is the directory that relative paths start from.
///
/// # Errors
/// When it is not there, others can read it, or it is not one line of text. No error quotes it.
pub(super) fn read(from: &SecretFrom, base: &Path) -> Result<Secret, CallError> {
    let (secret, place) = match from {
        SecretFrom::Env(name) => {
            let place = format!("the variable {name}");
            let value = std::env::var(name).map_err(|_| {
                local(format!("{place} is not set, or is not text"))
                    .hint(format!("set {name}, then: stanch notify flush"))
            })?;
            (Secret::new(value), place)
        }
        SecretFrom::File(path) => {
            let path = base.join(path);
            let place = path.display().to_string();
            let cannot = |error: std::io::Error| local(format!("cannot read {place}: {error}"));
            let mode = std::fs::metadata(&path).map_err(cannot)?.permissions().mode();
            if mode & 0o077 != 0 {
                return Err(local(format!("others can read {place}, so stanch does not use it"))
                    .hint(format!("treat the secret as leaked if they may have; else: chmod 600 {place}")));
            }
            let bytes = own_file::read(&path, MOST).map_err(cannot)?;
            let text = String::from_utf8(bytes).map_err(|_| local(format!("{place} is not text")))?;
            (Secret::new(text), place)
        }
    };
    let line = secret.expose().trim();
    if line.is_empty() || line.chars().any(char::is_control) {
        return Err(local(format!("{place} does not have one line of text")));
    }
    Ok(Secret::new(line))
}

fn local(message: String) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}
