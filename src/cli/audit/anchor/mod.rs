//! `stanch audit anchor`: keeps the latest checkpoint elsewhere.
//!
//! A checkpoint holds no secret: a run's name, a number of records, a hash and a signature.

mod s3;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::verify;
use crate::cli::context::state_folder;
use crate::cli::drive::block_on;
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::clock::{Clock as _, SystemClock};
use crate::journal::{Anchors, StateDir};
use crate::provider::exec::withheld;
use crate::provider::http::transport::Transport;
use crate::rotation::Event;
use crate::text::sanitize;

/// Keep the latest checkpoint out of reach of those who can write to the state directory.
///
/// The checkpoint proves from then on that the record began with exactly these records. `stanch audit verify
/// --anchor FILE` finds records that were cut off or rewritten since, even with the signing key.
#[derive(Debug, Args)]
pub(super) struct AnchorArgs {
    /// The run, or the start of its name. Default: the index, which covers all runs that
    /// have ended.
    run: Option<String>,
    #[command(flatten)]
    place: Places,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Places {
    /// Append the checkpoint to a file, on the disk of another machine or on append-only media.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Put the checkpoint into a bucket, never replacing an object: BUCKET or BUCKET/PREFIX.
    #[arg(long, value_name = "BUCKET")]
    s3: Option<String>,
    /// Append the checkpoint to the git note (refs/notes/stanch) of a commit in this repository. Push the ref.
    #[arg(long, value_name = "REPOSITORY")]
    git: Option<PathBuf>,
    /// Use this commit for --git.
    #[arg(long, value_name = "REVISION", default_value = "HEAD", requires = "git")]
    commit: String,
    /// Post the checkpoint, as text, to this URL: https, or this machine.
    #[arg(long, value_name = "URL")]
    http: Option<String>,
}

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The checkpoint to keep.
struct Note {
    text: String,
    origin: String,
    size: u64,
}

pub(super) fn main(global: &Global, args: &AnchorArgs) -> Result<Exit, CliError> {
    let place = &args.place;
    let leaves = place.s3.is_some() || place.http.is_some() || place.git.is_some();
    if leaves && super::super::context::drill_of(global)?.is_some() {
        let message = "an anchor of a drill is not sent anywhere; nothing was contacted";
        return Err(CliError::new(Exit::Usage, message).hint("write it to a file: --file FILE"));
    }
    // Reads only, so that it works beside a run.
    let state = StateDir::look(&state_folder(global)?)?;
    let run = args.run.as_deref().map(|name| state.find(Some(name))).transpose()?;
    // What was kept before must still be true, or the record is not one to vouch for.
    // A device or a pipe keeps nothing that could be read again.
    let before: Vec<PathBuf> = args.place.file.iter().filter(|path| path.is_file()).cloned().collect();
    let before = verify::anchors(&before)?;
    let note = latest(&state, run.as_deref(), &before)?;
    let mut kept = Vec::new();
    if let Some(path) = &args.place.file {
        kept.push(to_file(path, &note, &before)?);
    }
    if let Some(repository) = &args.place.git {
        kept.push(to_git(repository, &args.place.commit, &note)?);
    }
    if args.place.s3.is_some() || args.place.http.is_some() {
        let sent = block_on(async {
            let mut sent = Vec::new();
            if let Some(target) = &args.place.s3 {
                sent.push(s3::put(target, &note, SystemClock::new().now().wall).await?);
            }
            if let Some(url) = &args.place.http {
                sent.push(to_http(url, &note).await?);
            }
            Ok::<_, CliError>(sent)
        })?;
        kept.extend(sent?);
    }
    if global.json {
        print_json(&json!({ "origin": note.origin, "records": note.size, "note": note.text, "kept": kept }))?;
    } else {
        for place in &kept {
            print(&format!("{place}: {} with its first {} records", note.origin, note.size))?;
        }
    }
    Ok(Exit::Done)
}

/// The latest checkpoint, of a record that is good.
fn latest(state: &StateDir, run: Option<&str>, before: &Anchors) -> Result<Note, CliError> {
    let refuse = |what: String, look: String| {
        Err(CliError::new(Exit::JournalInvalid, format!("nothing was kept: {what}")).hint(look))
    };
    let trusted = state.verifying_keys()?;
    let index = state.examine_index(&trusted, before)?;
    if let Some(fault) = index.as_ref().and_then(|(index, _)| index.fault()) {
        return refuse(format!("the index is not valid: {fault}"), "stanch audit verify --all".into());
    }
    let index = index.map(|(index, _)| index);
    let text = match (run, index) {
        (None, Some(index)) => index.note().to_owned(),
        (None, None) => {
            return Err(CliError::new(Exit::Usage, "there is no index yet: no run has started")
                .hint("to create it: stanch audit key create"));
        }
        (Some(run), index) => {
            let found = state.examine(run, index.as_ref(), &trusted, before)?;
            if let Some(fault) = found.report.fault {
                return refuse(
                    format!("the record is not valid: {fault}"),
                    format!("stanch audit verify {run}"),
                );
            }
            let mut text = None;
            state.audit(run, |record| {
                if let Event::Checkpoint { note } = record.event {
                    text = Some(note);
                }
            })?;
            text.ok_or_else(|| {
                CliError::new(Exit::Unanchored, format!("run {run} has no checkpoint yet"))
                    .hint("it gets one at its next phase change")
            })?
        }
    };
    let mut lines = text.lines();
    let origin = lines.next().unwrap_or_default().to_owned();
    let size = lines.next().and_then(|size| size.parse().ok()).unwrap_or_default();
    Ok(Note { text, origin, size })
}

fn to_file(path: &Path, note: &Note, before: &Anchors) -> Result<String, CliError> {
    let place = path.display();
    if before.contains(&note.text) {
        return Ok(format!("already in {place}"));
    }
    let failed = |e: std::io::Error| {
        CliError::new(Exit::Failed, format!("cannot keep the checkpoint in {place}: {e}"))
            .hint("check that the directory exists and has free space, then repeat the command")
    };
    let made = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path);
    let mut file = match made {
        Err(e) if e.kind() == ErrorKind::AlreadyExists && !path.exists() => {
            // At the end of a link that leads to no file yet.
            OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)?
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists && !path.is_file() => {
            let mut stream = OpenOptions::new().write(true).open(path).map_err(failed)?;
            stream.write_all(note.text.as_bytes()).map_err(failed)?;
            return Ok(format!("written to {place}"));
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).append(true).open(path).map_err(failed)?
        }
        made => made.map_err(failed)?,
    };
    // An editor may have taken the last newline.
    let gap = if ends_in_newline(&mut file).map_err(failed)? { "" } else { "\n" };
    file.write_all(format!("{gap}{}", note.text).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(format!("kept in {place}"))
}

fn ends_in_newline(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn to_git(repository: &Path, revision: &str, note: &Note) -> Result<String, CliError> {
    let spec = format!("{revision}^{{commit}}");
    let commit = git(repository, &["rev-parse", "--verify", "--end-of-options", &spec], "")?;
    let commit = commit.trim();
    let was = git(repository, &["notes", "--ref=stanch", "list"], "")?;
    let has = was.lines().any(|line| line.split(' ').nth(1) == Some(commit));
    let place = format!("git notes --ref=stanch show {}", &commit[..commit.len().min(12)]);
    if has && git(repository, &["notes", "--ref=stanch", "show", commit], "")?.contains(note.text.trim_end())
    {
        return Ok(format!("already in {place}"));
    }
    git(repository, &["notes", "--ref=stanch", "append", "-F", "-", commit], &note.text)?;
    Ok(format!("kept in {place}"))
}

/// Runs git, with its input and without the operator's credentials, and returns its output.
fn git(repository: &Path, arguments: &[&str], input: &str) -> Result<String, CliError> {
    let failed = |what: String| {
        CliError::new(Exit::Failed, format!("git {} in {}: {what}", arguments[0], repository.display()))
            .hint("check that it is your repository, has a commit, and that git knows your name")
    };
    let mut command = Command::new("git");
    command.arg("-C").arg(repository).args(arguments);
    for name in withheld() {
        command.env_remove(name);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("cannot be started: {e}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A git that does not read it says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let ended = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !ended.status.success() {
        let why = String::from_utf8_lossy(&ended.stderr);
        return Err(failed(sanitize(why.lines().last().unwrap_or("it failed without a message"))));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

async fn to_http(url: &str, note: &Note) -> Result<String, CliError> {
    let usage = |what: &str| CliError::new(Exit::Usage, format!("--http: {what}"));
    let uri: http::Uri = url.parse().map_err(|_| usage("not a URL"))?;
    let near = ["127.0.0.1", "[::1]", "localhost"].contains(&uri.host().unwrap_or_default());
    if uri.authority().is_none_or(|a| a.as_str().contains('@')) {
        return Err(usage("pass a URL with a host, without a user name or password"));
    }
    if !(uri.scheme_str() == Some("https") || near && uri.scheme_str() == Some("http")) {
        return Err(usage(
            "use https: over plain http, an attacker on the network could fake the confirmation",
        ));
    }
    let place = crate::provider::http::safe_url(url);
    let request = http::Request::post(uri)
        .header(http::header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(note.text.clone().into_bytes())
        .map_err(|_| usage("not a URL"))?;
    let reply = Transport::new(PATIENCE).send(request, None).await?;
    match reply.status.as_u16() {
        200..=299 => Ok(format!("kept at {place}")),
        status @ 300..=399 => Err(CliError::new(
            Exit::Failed,
            format!("nothing was kept: {place} answered {status}, a redirect"),
        )
        .hint("stanch never follows redirects; pass the final URL")),
        status @ (401 | 403) => {
            Err(CliError::new(Exit::Denied, format!("nothing was kept: {place} answered {status}")))
        }
        status => Err(CliError::new(
            Exit::Unreachable,
            format!("unknown whether the checkpoint was kept: {place} answered {status}"),
        )
        .hint("repeat the command: that is harmless")),
    }
}
