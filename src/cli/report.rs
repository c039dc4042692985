//! `stanch report`: what happened in a run, for people, from its record alone.

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::context::Context;
use super::write::{print, to_file};
use super::{CliError, Exit, Global};
use crate::follow::report::{Fold, Form, Report, between_marks, differs, named_in, with_lessons};

/// The longest report that is read back.
const MAX_SIZE: u64 = 64 << 20;

/// Write the report of a run, or compare one with the record.
#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    #[arg(conflicts_with = "check")]
    run: Option<String>,
    /// Write this form. Default: by the file's ending, else markdown.
    #[arg(long, value_name = "FORM", conflicts_with = "check")]
    form: Option<FormArg>,
    /// Write to this file. Keeps the section *Lessons* of a report that is there.
    #[arg(short, long, value_name = "FILE", conflicts_with = "check")]
    output: Option<PathBuf>,
    /// Compare this report with the record, line by line. Changes nothing.
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormArg {
    /// Markdown.
    Markdown,
    /// One page of HTML, without scripts or other files.
    Html,
    /// JSON.
    Json,
    /// JUnit XML: a test for each credential and milestone.
    Junit,
}

pub(super) async fn main(context: &Context, global: &Global, args: ReportArgs) -> Result<Exit, CliError> {
    if let Some(path) = &args.check {
        return check(context, path).await;
    }
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let ending = args.output.as_ref().and_then(|path| path.extension()?.to_str());
    let form = match (args.form, ending) {
        (Some(FormArg::Markdown), _) => Form::Markdown,
        (Some(FormArg::Html), _) | (None, Some("html" | "htm")) => Form::Html,
        (Some(FormArg::Json), _) | (None, Some("json")) => Form::Json,
        (Some(FormArg::Junit), _) | (None, Some("xml")) => Form::Junit,
        (None, _) if global.json => Form::Json,
        (None, _) => Form::Markdown,
    };
    let text = form.write(&of(context, &run, None).await?);
    let Some(path) = args.output else {
        print(&text)?;
        return Ok(Exit::Done);
    };
    let text = match kept(&path, &run)? {
        Some(old) => with_lessons(&text, &old),
        None => text,
    };
    to_file(&path, |out| out.write_all(text.as_bytes()))?;
    eprintln!(
        "wrote {}; compare it with the record: stanch report --check {}",
        path.display(),
        path.display()
    );
    Ok(Exit::Done)
}

/// What a file holds that is to be replaced: of a report, people's words are kept; anything else is not ours to
/// replace.
fn kept(path: &std::path::Path, run: &str) -> Result<Option<String>, CliError> {
    // A device or a pipe holds nothing to keep, and reading it may wait for ever.
    if !std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() > 0) {
        return Ok(None);
    }
    let text = read(path)?;
    match named_in(&text) {
        Some((_, other, _)) if other != run => {
            let message =
                format!("{} is the report of another run, {other}; nothing was changed", path.display());
            return Err(CliError::new(Exit::Usage, message).hint("write to another file"));
        }
        Some((form, ..)) if matches!(form, Form::Json | Form::Junit) || between_marks(&text).is_some() => {
            return Ok(Some(text));
        }
        _ => {}
    }
    let message = format!(
        "{} is not a report, or its section Lessons has lost its marks; nothing was changed",
        path.display()
    );
    Err(CliError::new(Exit::Usage, message).hint("write to another file"))
}

fn read(path: &std::path::Path) -> Result<String, CliError> {
    let failed = |error: std::io::Error| {
        CliError::new(Exit::Usage, format!("cannot read {}: {error}", path.display()))
    };
    if std::fs::metadata(path).map_err(failed)?.len() > MAX_SIZE {
        return Err(failed(ErrorKind::FileTooLarge.into()));
    }
    std::fs::read_to_string(path).map_err(failed)
}

async fn check(context: &Context, path: &std::path::Path) -> Result<Exit, CliError> {
    let kept = read(path)?;
    let Some((form, run, records)) = named_in(&kept) else {
        let message = format!("{} does not say which run it is the report of", path.display());
        return Err(CliError::new(Exit::BadRunbook, message).hint("make it again: stanch report RUN -o FILE"));
    };
    let run = context.ledger.find(Some(&run)).await?;
    let made = form.write(&of(context, &run, Some(records)).await?);
    if let Some((line, kept, made)) = differs(&kept, &made) {
        let message = format!(
            "{}, line {line}, is not what the record of {run} says\n  report  {}\n  record  {}",
            path.display(),
            crate::text::sanitize(&kept),
            crate::text::sanitize(&made)
        );
        return Err(CliError::new(Exit::BadRunbook, message)
            .hint(format!("make it again: stanch report {run} -o FILE")));
    }
    print(&format!(
        "OK: {} says what the first {records} records of {run} say; its section Lessons was not compared. Whether they are what stanch wrote: stanch audit verify {run}\n",
        path.display()
    ))?;
    Ok(Exit::Done)
}

/// The report of a run, of its first `upto` records.
pub(super) async fn of(context: &Context, run: &str, upto: Option<u64>) -> Result<Report, CliError> {
    let mut fold = Fold::new(upto);
    let mut wrong = None;
    let mut take = |record| {
        if let Err(error) = fold.take(record) {
            wrong.get_or_insert(error);
        }
    };
    let read = context.ledger.records(run, &mut take).await?;
    let fault = read.fault.map(|fault| fault.to_string()).or(wrong.map(|error| error.to_string()));
    if let Some(fault) = fault {
        let message = format!("the record of {run} is not valid, so no report can be made of it: {fault}");
        return Err(CliError::new(Exit::JournalInvalid, message)
            .hint(format!("see where: stanch audit verify {run}")));
    }
    if upto.is_some_and(|upto| upto > read.records) {
        let message = format!(
            "the report is of more records than {run} has: {} of {}",
            read.records,
            upto.unwrap_or_default()
        );
        return Err(
            CliError::new(Exit::BadRunbook, message).hint("records were lost, or it is another run's report")
        );
    }
    fold.finish().ok_or_else(|| CliError::new(Exit::JournalInvalid, format!("{run} has no records")))
}
