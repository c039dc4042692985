//! `stanch init`: a commented runbook to start from.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::{CliError, Exit, Global, print};
use crate::kind::{self, ISSUERS};

/// Write a commented runbook to start from.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Write it to this file. Default: standard output.
    file: Option<PathBuf>,
    /// Choose the kind of credential to rotate.
    #[arg(long, default_value = "sandbox", value_parser = kinds())]
    kind: Scaffold,
}

/// The runbook that a kind of issuer has to start from.
#[derive(Debug, Clone, Copy)]
struct Scaffold(&'static str);

/// Each kind, with the first line of its runbook, which says what that does.
fn kinds() -> impl TypedValueParser<Value = Scaffold> {
    let names = ISSUERS.iter().map(|kind| {
        let first = kind.scaffold.lines().next().unwrap_or_default();
        PossibleValue::new(kind.name).help(first.trim_start_matches("# "))
    });
    PossibleValuesParser::new(names).try_map(|name| {
        kind::named(ISSUERS, Some(&name)).map(|kind| Scaffold(kind.scaffold)).ok_or("there is no such kind")
    })
}

pub(super) fn main(_global: &Global, args: InitArgs) -> Result<Exit, CliError> {
    let Scaffold(text) = args.kind;
    write(text, args.file, "stanch validate")
}

/// Writes a file to start from, which `check` checks; without a path, to standard output.
pub(super) fn write(text: &str, path: Option<PathBuf>, check: &str) -> Result<Exit, CliError> {
    let Some(path) = path else {
        print(text)?;
        return Ok(Exit::Done);
    };
    let write = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match write {
        Ok(()) => {
            eprintln!("wrote {}; edit it, then: {check} {}", path.display(), path.display());
            Ok(Exit::Done)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CliError::new(Exit::Usage, format!("{} already exists; nothing was changed", path.display())))
        }
        Err(e) => Err(CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()))),
    }
}
