//! What stanch and the program say to each other. `page.md` describes it to whoever writes the program.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::spec::PassThrough;
use crate::domain::ErrorKind;
use crate::kind::spec::StoreSpec as _;
use crate::provider::exec::{Ended, MAX_OUTPUT, Program, REFUSED, TRY_AGAIN};
use crate::provider::text::strings;
use crate::provider::{CallContext, CallError};
use crate::secret::{Material, Secret};

/// The exit status of a program whose place does not exist: `EX_NOINPUT` of `sysexits.h`.
const ABSENT: i32 = 66;
/// The exit status of a program that wrote nothing, since the version is another one. No name of `sysexits.h`: between the
/// two others that say that nothing was changed.
const OVERTAKEN: i32 = 76;
/// The longest version.
const MAX_VERSION: usize = 128;

/// What the program gets on standard input.
#[derive(Serialize)]
struct Request<'a> {
    place: &'a str,
    #[serde(flatten)]
    write: Option<Write<'a>>,
}

#[derive(Serialize)]
struct Write<'a> {
    /// `null` where nothing may be there.
    version: Option<&'a str>,
    value: &'a str,
}

/// What it answers on standard output.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    version: String,
    #[serde(default)]
    written: Option<Timestamp>,
    #[serde(default)]
    value: Option<String>,
}

/// What is there.
pub(super) struct Found {
    pub(super) version: String,
    /// When it was written, where the program says so.
    pub(super) written: Option<Timestamp>,
    /// What it holds, where it was read.
    pub(super) text: Option<Secret>,
}

/// The program, and what the runbook says of it.
#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) program: Program,
    pub(super) spec: PassThrough,
}

impl Dialogue {
    /// An error, with the place that it is about.
    pub(super) fn about(&self, error: CallError, operation: &str) -> CallError {
        CallError { message: format!("{}: `{operation}`: {}", self.spec.target(), error.message), ..error }
    }

    /// The version that is there, without the value.
    pub(super) async fn observe(&self) -> Result<Found, CallError> {
        self.look("observe").await
    }

    /// What is there, with the value where it can be read.
    pub(super) async fn find(&self) -> Result<Found, CallError> {
        self.look(if self.spec.reads { "read" } else { "observe" }).await
    }

    async fn look(&self, operation: &str) -> Result<Found, CallError> {
        let request = Request { place: &self.spec.place, write: None };
        let look = async {
            let ended = self.program.ask(operation, None, json(&request), &[]).await?;
            let said = ended.how(&self.program.name());
            match ended.code {
                Some(0) => self.answer(ended, operation),
                Some(ABSENT) => {
                    Err(absent(&said)
                        .hint("make the place by hand, with any value, then type the command again"))
                }
                Some(TRY_AGAIN) => Err(not_now(&said)),
                Some(REFUSED) => {
                    Err(CallError::rejected(ErrorKind::Denied, format!("it is refused: {said}")))
                }
                _ => Err(CallError::rejected(ErrorKind::NoAnswer, said)),
            }
            // What it printed may be the value, which this run need not know yet.
            .map_err(|error| match &error.hint {
                None if operation == "read" => error.hint(format!(
                    "type `{} >/dev/null` to see its errors; without the end of it, you would see the value",
                    self.spec.by_hand(operation)
                )),
                None => error.hint(format!("type `{}` to see what it prints", self.spec.by_hand(operation))),
                Some(_) => error,
            })
        };
        look.await.map_err(|error| self.about(error.read_only(), operation))
    }

    /// Has the value written. `before` is the version that is there, and `None` where there is nothing. Returns the version
    /// that the program names, which proves nothing yet.
    pub(super) async fn put(
        &self,
        context: &CallContext,
        before: Option<&str>,
        text: &Secret,
        known: &[&Material],
    ) -> Result<String, CallError> {
        let write = Write { version: before, value: text.expose() };
        let request = Request { place: &self.spec.place, write: Some(write) };
        let write = async {
            let ended = self.program.ask("write", Some(context), json(&request), known).await?;
            let said = ended.describe(&self.program.name());
            match ended.code {
                Some(0) => {
                    let found = self.answer(ended, "write").map_err(CallError::doubtful)?;
                    refuse_telling(&found.version, text).map_err(CallError::doubtful)?;
                    Ok(found.version)
                }
                Some(ABSENT) => Err(absent(&said)),
                Some(TRY_AGAIN) => Err(not_now(&said)),
                Some(OVERTAKEN) => {
                    // A look shows whether the value is another one, or only the version.
                    let kind = if self.spec.reads { ErrorKind::NotReady } else { ErrorKind::Conflict };
                    Err(CallError::rejected(
                        kind,
                        format!("another version is there, and nothing was written: {said}"),
                    ))
                }
                Some(REFUSED) => {
                    Err(CallError::rejected(ErrorKind::Declined, format!("it is refused: {said}")))
                }
                _ => Err(CallError::unknown(said)),
            }
        };
        write.await.map_err(|error| self.about(error, "write"))
    }

    fn answer(&self, ended: Ended, operation: &str) -> Result<Found, CallError> {
        let wrong =
            |why: &str| Err(CallError::rejected(ErrorKind::Invalid, format!("the program's answer {why}")));
        if ended.stdout.len() >= MAX_OUTPUT {
            return wrong("has 64 KiB or more");
        }
        // Wiped when it is dropped. What serde says of a mistake may quote it.
        let answer = String::from_utf8(ended.stdout).map(Secret::new);
        let answer = answer.ok().and_then(|text| serde_json::from_str::<Answer>(text.expose()).ok());
        let Some(Answer { version, written, value }) = answer else {
            return wrong("is not a JSON object of `version`, `written` and `value`");
        };
        let text = value.map(Secret::new);
        let is_word =
            (1..=MAX_VERSION).contains(&version.len()) && version.bytes().all(|b| b.is_ascii_graphic());
        if !is_word {
            return wrong("has a version that is not one word of at most 128 printable ASCII characters");
        }
        match (operation, &text) {
            ("read", None) => return wrong("has no `value`"),
            ("read", Some(text)) => refuse_telling(&version, text)?,
            (_, Some(_)) => return wrong("has a `value`, which stanch did not ask for"),
            (_, None) => {}
        }
        Ok(Found { version, written, text })
    }
}

fn absent(said: &str) -> CallError {
    CallError::rejected(ErrorKind::NotFound, format!("there is no such place: {said}"))
}

fn not_now(said: &str) -> CallError {
    CallError::rejected(ErrorKind::NotReady, format!("it cannot be done now: {said}"))
}

fn json(request: &Request<'_>) -> Secret {
    Secret::new(serde_json::to_string(request).expect("strings are always JSON"))
}

/// Refuses a version from which the value can be read or guessed: versions are shown, and recorded.
fn refuse_telling(version: &str, text: &Secret) -> Result<(), CallError> {
    if strings(text).tells(version) { Err(CallError::telling()) } else { Ok(()) }
}
