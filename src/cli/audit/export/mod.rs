//! `stanch audit export`: the record for other programs.

mod csv;
mod ocsf;

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::cli::audit::verdict::worst;
use crate::cli::audit::verify;
use crate::cli::write::{to_file, unwritten};
use crate::cli::{CliError, Exit};
use crate::journal::{Record, StateDir};
use crate::rotation::{Event, State};

/// Write the record for other programs, as far as it is valid.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    /// Choose the format.
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// Write to this file instead of standard output. A regular file is replaced as a whole and kept private.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Write the records unchanged, one JSON object per line. You can verify such an export again.
    Jsonl,
    /// Write events of the Open Cybersecurity Schema Framework, one JSON object per line: the outcome of each effect.
    Ocsf,
    /// Write one row per record, for spreadsheets.
    Csv,
}

pub(super) fn main(files: &StateDir, args: &ExportArgs) -> Result<Exit, CliError> {
    let run = files.find_any(args.run.as_deref())?;
    let verdicts = verify::of(files, &run)?;
    // What the export is worth, which its reader must know.
    for verdict in verdicts.iter().filter(|v| v.exit != Exit::Done) {
        eprintln!("{}", verdict.words);
    }
    let good = verdicts.last().map_or(0, |v| v.good);
    if verdicts.iter().any(|v| v.exit == Exit::JournalInvalid) {
        eprintln!("stanch exported the {good} records before that.");
    }
    let written = match &args.output {
        None => {
            let out = BufWriter::new(std::io::stdout().lock());
            export(files, &run, args.format, good, out)?.map_err(|e| unwritten("standard output", &e))
        }
        Some(path) => {
            let mut read = Ok(());
            let written = to_file(path, |out| {
                export(files, &run, args.format, good, out).unwrap_or_else(|error| {
                    read = Err(error);
                    Err(std::io::Error::other("the record could not be read"))
                })
            });
            read?;
            written
        }
    };
    worst(&verdicts).shown(written)
}

/// Writes the first `good` records, and no more if the journal grows meanwhile.
fn export(
    files: &StateDir,
    run: &str,
    format: Format,
    good: u64,
    mut out: impl Write,
) -> Result<std::io::Result<()>, CliError> {
    let mut written = if format == Format::Csv { csv::header(&mut out) } else { Ok(()) };
    let mut state: Option<State> = None;
    files.audit_lines(run, |record, line| {
        if written.is_err() || record.envelope.seq >= good {
            return;
        }
        written = match format {
            Format::Jsonl => out.write_all(line).and_then(|()| out.write_all(b"\n")),
            Format::Csv => csv::row(&mut out, &record, state.as_ref()),
            Format::Ocsf => ocsf::event(&mut out, &record, state.as_ref()),
        };
        follow(&mut state, record);
    })?;
    Ok(written.and_then(|()| out.flush()))
}

/// Folds a record into the state.
fn follow(state: &mut Option<State>, record: Record) {
    let at = record.envelope.wall;
    match (state, record.event) {
        (state, Event::Opened { plan, .. }) => *state = Some(State::new(Arc::from(plan), at)),
        // A record that does not make sense is exported all the same.
        (Some(state), event) => drop(state.apply(&event, at)),
        (None, _) => {}
    }
}
