//! Programs of the runbook's own: calls, probes, gates and attestations.
//!
//! A program is a list of arguments, never a shell's line. A credential goes to its standard input
//! and nowhere else. It runs in its own process group: the terminal's Ctrl-C, which stops new steps,
//! must not cut one short that is under way; and on a time-out its children end with it.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::logged::Logged;
use super::outcome::CallError;
use super::{Attestation, Call, CallContext, Probe, Secret256, Use};
use crate::domain::{Check, ErrorKind, Judgement, Verdict};
use crate::runbook::model::{Exec, ExecInput};
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// More output than this is read and thrown away, so that a talkative program neither fills our
/// memory nor blocks on a full pipe.
pub(crate) const MAX_OUTPUT: usize = 64 * 1024;
/// How much of the end of its standard error is looked at together.
const LAST_LINES: usize = 4096;
/// How long a program that has ended may keep its output open through a child that it left behind.
const GRACE: Duration = Duration::from_secs(1);
/// What a child must not inherit: the operator's own keys. Programs that need Vault or AWS use a
/// login of their own (a profile, a role, an agent, a file of passwords).
const WITHHELD: [&str; 12] = [
    "VAULT_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "PGPASSWORD",
    "MYSQL_PWD",
    "REDISCLI_AUTH",
    "GITLAB_TOKEN",
    "GITHUB_TOKEN",
    // It may hold a password.
    "REDIS_URL",
    // Keys of the collector that traces are sent to.
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
];

/// The names of the variables that a child must not inherit.
pub(crate) fn withheld() -> impl Iterator<Item = OsString> {
    let own = std::env::vars_os().map(|(name, _)| name);
    let own = own.filter(|name| name.to_string_lossy().starts_with("STANCH_"));
    WITHHELD.into_iter().map(OsString::from).chain(own)
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct Program {
    argv: Vec<String>,
    timeout: Duration,
    input: ExecInput,
    /// Whether what it left behind ends with it when it fails.
    ends_children: bool,
}

/// How a program ended.
pub(crate) struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    signal: Option<i32>,
    /// What it printed, and no more than [`MAX_OUTPUT`] of it.
    pub(crate) stdout: Vec<u8>,
    /// The last line of its standard error, sanitized and without the credential.
    complaint: String,
}

impl Program {
    /// From the runbook's words; `deadline` where they say no time-out.
    pub fn new(exec: &Exec, deadline: Duration) -> Self {
        Self {
            argv: exec.argv().to_vec(),
            timeout: exec.timeout().map_or(deadline, |period| period.get()),
            input: exec.input(),
            ends_children: false,
        }
    }

    /// A program that gets no credential.
    pub fn plain(argv: &[String], timeout: Duration) -> Self {
        Self { argv: argv.to_vec(), timeout, input: ExecInput::Value, ends_children: false }
    }

    /// The program's name, for messages. Arguments stay out of them: they are long.
    pub(crate) fn name(&self) -> String {
        sanitize(self.argv.first().map_or("(no program)", String::as_str))
    }

    fn stdin(&self, material: Option<&Material>) -> Result<Option<Secret>, CallError> {
        // A program that only tells whether a step was done is asked without a credential.
        let Some(material) = material.filter(|m| !m.is_empty()) else { return Ok(None) };
        match self.input {
            ExecInput::Json => Ok(Some(material.to_json())),
            ExecInput::Value => material.main().cloned().map(Some).ok_or_else(|| {
                CallError::rejected(
                    ErrorKind::Invalid,
                    format!("`{}` is to get one value, and the credential has several parts", self.name()),
                )
                .hint("set `input: json` to hand over all of them")
            }),
        }
    }

    /// Runs it with one more argument, and this on its standard input. Nothing of `known` is in what is said of its end.
    /// What it leaves behind when it fails is killed: it could still write when a look has settled what became of it.
    ///
    /// # Errors
    /// When it could not be started: then nothing happened. When it did not end in time: then anything may have happened.
    pub(crate) async fn ask(
        &self,
        argument: &str,
        context: Option<&CallContext>,
        input: Secret,
        known: &[&Material],
    ) -> Result<Ended, CallError> {
        let mut asked = Self { ends_children: true, ..self.clone() };
        asked.argv.push(argument.to_owned());
        asked.run(context, Some(input), known).await
    }

    /// Runs it to its end. `Err` when it could not be started (nothing happened), or did not end in
    /// time (anything may have happened).
    async fn run(
        &self,
        context: Option<&CallContext>,
        input: Option<Secret>,
        known: &[&Material],
    ) -> Result<Ended, CallError> {
        let name = self.name();
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(CallError::rejected(ErrorKind::Invalid, "there is no program to run"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        for variable in withheld() {
            command.env_remove(variable);
        }
        if let Some(context) = context {
            // Not secrets: with these a program can do its work once, however often it is called.
            command
                .env("STANCH_RUN", &context.run)
                .env("STANCH_STEP", &context.step)
                .env("STANCH_IDEMPOTENCY_KEY", context.token.to_string());
        }
        let mut call = Logged::start(|| format!("run `{name}`"));
        let mut child = command.spawn().map_err(|error| {
            call.end("not started");
            CallError::rejected(ErrorKind::Local, format!("cannot start `{name}`: {error}"))
                .hint("check the program's path, and that it may be executed by this user")
        })?;
        let group = Group::of(&child);
        let (status, stdout, stderr) = match feed_and_wait(&mut child, input, self.timeout).await {
            Ok(Some(ended)) => ended,
            Err(error) => {
                return Err(CallError::unknown(format!("cannot learn how `{name}` ended: {error}")));
            }
            Ok(None) => {
                call.end("killed");
                return Err(CallError::unknown(format!(
                    "`{name}` did not end within {} s and was killed",
                    self.timeout.as_secs_f32()
                ))
                .hint("give it more time (`timeout`, or `limits.deadline` where it has none), or find out what it waits for"));
            }
        };
        // What it leaves behind may be meant to stay: a service that it started again.
        if status.success() || !self.ends_children {
            group.keep();
        }
        call.end(&status.to_string());
        // The last line of a dump holds less of a value than counts as one; with the lines before it, it does.
        let stderr = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(LAST_LINES)..]);
        let stderr = known.iter().fold(stderr.into_owned(), |text, material| material.scrub(&text));
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let complaint = sanitize(last);
        Ok(Ended { code: status.code(), signal: status.signal(), stdout, complaint })
    }
}

impl Ended {
    /// How it ended, in words.
    pub(crate) fn how(&self, name: &str) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("`{name}` ended with status {code}"),
            (None, Some(signal)) => format!("`{name}` was ended by signal {signal}"),
            (None, None) => format!("`{name}` ended without a status"),
        }
    }

    /// The same, with the last line of its standard error.
    pub(crate) fn describe(&self, name: &str) -> String {
        let how = self.how(name);
        if self.complaint.is_empty() { how } else { format!("{how}: {}", self.complaint) }
    }
}

/// Kills the process group when dropped, unless it is kept: on a time-out, when the engine gives up waiting, and when
/// a program fails whose children must not outlive it.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// Of a child that leads its own.
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// How a program ended, and what it wrote.
type Conversation = (std::process::ExitStatus, Vec<u8>, Vec<u8>);

/// Writes the input, reads both outputs and waits, all at once: any other order can deadlock.
/// `None` when the program did not end in time.
async fn feed_and_wait(
    child: &mut Child,
    input: Option<Secret>,
    timeout: Duration,
) -> std::io::Result<Option<Conversation>> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut out = Vec::new();
    let mut err = Vec::new();
    let status = {
        let write = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that does not read its input is free to.
                let _ = stdin.write_all(input.expose().as_bytes()).await;
                let _ = stdin.shutdown().await;
            }
        };
        let talk = async {
            tokio::join!(write, drain(stdout, &mut out), drain(stderr, &mut err));
        };
        tokio::pin!(talk);
        let mut talked = false;
        let ended = {
            let wait = tokio::time::timeout(timeout, child.wait());
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    ended = &mut wait => break ended,
                    () = &mut talk, if !talked => talked = true,
                }
            }
        };
        let Ok(status) = ended else { return Ok(None) };
        let status = status?;
        if !talked {
            // Something that the program left behind may hold its output open for ever.
            let _ = tokio::time::timeout(GRACE, talk).await;
        }
        status
    };
    Ok(Some((status, out, err)))
}

async fn drain(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut buffer = [0; 8192];
    while let Ok(n @ 1..) = source.read(&mut buffer).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
}

/// The exit status of a program that changed nothing and may be started again later: `EX_TEMPFAIL` of
/// `sysexits.h`.
pub(crate) const TRY_AGAIN: i32 = 75;
/// The exit status of a program that changed nothing and will not: `EX_NOPERM` of `sysexits.h`.
pub(crate) const REFUSED: i32 = 77;

/// Runs a program as a call. Exit status 0 is success; 75 and 77 say that nothing was changed. Any other end is
/// *unknown*: a script that did its work and then failed at its last line ends like one that failed at its first.
#[async_trait]
impl Call for Program {
    async fn perform(&self, context: &CallContext, material: Option<&Material>) -> Result<(), CallError> {
        let ended = self.run(Some(context), self.stdin(material)?, material.as_slice()).await?;
        match ended.code {
            Some(0) => Ok(()),
            Some(TRY_AGAIN) => Err(CallError::rejected(ErrorKind::NotReady, ended.describe(&self.name()))),
            Some(REFUSED) => Err(CallError::rejected(ErrorKind::Declined, ended.describe(&self.name()))),
            Some(_) => Err(CallError::rejected(ErrorKind::Declined, ended.describe(&self.name())).doubtful()),
            None => Err(CallError::unknown(ended.describe(&self.name()))),
        }
    }
}

/// Exit status 0 is *accepted*, 1 is *refused*; anything else is neither.
#[async_trait]
impl Probe for Program {
    /// Whether it can be started is looked at with all other programs; starting it would use the credential.
    async fn preflight(&self, _name: &str) -> Vec<Check> {
        Vec::new()
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let input = self.stdin(Some(material))?;
        let ended = self.run(None, input, &[material]).await.map_err(CallError::read_only)?;
        let name = self.name();
        match ended.code {
            Some(0) => Ok(Use::Accepted),
            Some(1) => Ok(Use::Refused(ended.describe(&name))),
            _ => Err(CallError::rejected(
                ErrorKind::NoAnswer,
                format!("{}, which is neither acceptance (0) nor refusal (1)", ended.describe(&name)),
            )),
        }
    }
}

impl Program {
    /// Runs it as a condition: exit status 0 passes, 1 fails, anything else is an error.
    pub async fn judge(&self) -> Judgement {
        match self.run(None, None, &[]).await {
            Ok(ended) => {
                let verdict = match ended.code {
                    Some(0) => Verdict::Pass,
                    Some(1) => Verdict::Fail,
                    _ => Verdict::Error,
                };
                Judgement { verdict, detail: ended.describe(&self.name()) }
            }
            Err(error) => Judgement { verdict: Verdict::Error, detail: error.message },
        }
    }

    /// Runs it as an attestation: each line of its output is one instance's answer. A line that is
    /// no fingerprint is an instance that gave no answer; no line at all is one, too.
    pub async fn attest(&self) -> Vec<Result<Attestation, CallError>> {
        let name = self.name();
        let ended = match self.run(None, None, &[]).await {
            Ok(ended) => ended,
            Err(error) => return vec![Err(error.read_only())],
        };
        if ended.code != Some(0) {
            return vec![Err(CallError::rejected(ErrorKind::NoAnswer, ended.describe(&name)))];
        }
        let no_answer =
            |why: &str| Err(CallError::rejected(ErrorKind::Invalid, format!("`{name}` printed {why}")));
        let stdout = String::from_utf8_lossy(&ended.stdout);
        let answers: Vec<_> = stdout
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| match Secret256::parse(line) {
                Some(digest) => Ok(Attestation::digest(digest)),
                None => no_answer("a line that is not a SHA-256 in lower-case hex"),
            })
            .collect();
        if answers.is_empty() { vec![no_answer("nothing: no instance answered")] } else { answers }
    }
}
