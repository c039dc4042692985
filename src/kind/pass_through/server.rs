//! A program of the user's own as a store.
//!
//! It is asked right before each write and right after it: that the program says yes to a write proves nothing. A write is
//! never repeated here.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::ask::{Dialogue, Found};
use super::spec::{Characters, PassThrough};
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::Issuer;
use crate::kind::real::{RealProvider, StoreServer, invalid};
use crate::kind::spec::StoreSpec as _;
use crate::provider::exec::Program;
use crate::provider::layout::Layout;
use crate::provider::text::{refuse_unclear, strings};
use crate::provider::{CallContext, CallError, Promoted, Store};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// How far a time of the system may be ahead of this machine's clock.
const MOST_AHEAD: SignedDuration = SignedDuration::from_secs(60);

/// One place, by the program that knows it.
pub struct PassThroughStore {
    dialogue: Dialogue,
    layout: Layout,
    clock: Arc<dyn Clock>,
    /// Whether the value is generated here: then `stanch validate` knows whether it fits.
    generated: bool,
}

impl PassThroughStore {
    fn conflict(&self, message: &str) -> CallError {
        CallError::rejected(ErrorKind::Conflict, format!("{}: {message}", self.dialogue.spec.target()))
    }

    /// For a version that is not the current one.
    fn superseded(&self, wanted: &str, there: &str) -> CallError {
        let message = format!(
            "{}: the version {wanted} was there, and now it is {there}; no earlier versions are kept",
            self.dialogue.spec.target()
        );
        CallError::rejected(ErrorKind::NotFound, message).hint(
            "try again; if nothing else writes there, correct the program: `observe` and `read` must name the same version",
        )
    }

    /// What is there. A version that tells one of these values is refused before it is quoted or sent.
    async fn find(&self, known: &[&Material]) -> Result<Found, CallError> {
        let found = self.dialogue.find().await?;
        match known.iter().any(|material| material.tells(&found.version)) {
            true => Err(self.dialogue.about(CallError::telling().read_only(), "observe")),
            false => Ok(found),
        }
    }

    fn decode(&self, text: &Secret) -> Result<Material, CallError> {
        self.layout.decode(text).map_err(|error| self.dialogue.about(error, "read"))
    }

    /// Refuses a text that the place does not take, before it is sent.
    fn refuse_unfit(&self, text: &Secret) -> Result<(), CallError> {
        match self.dialogue.spec.unfit(text.expose().len(), text.expose()) {
            None => Ok(()),
            Some(why) => Err(invalid(format!("{}: the value {why}", self.dialogue.spec.target())).hint(
                "have the issuer make a value that fits, or correct what the runbook declares of the place",
            )),
        }
    }

    /// What is to be written: in a text that can be read, only the credential changes.
    fn encode(&self, held: Option<&Secret>, value: &Material) -> Result<Secret, CallError> {
        let text = match held {
            Some(held) => self.layout.encode(held, value),
            None => self.layout.whole(value),
        };
        let text = text.map_err(|error| self.dialogue.about(error, "write"))?;
        self.refuse_unfit(&text).map(|()| text)
    }

    /// Has the value written, and looks for what came of it. Returns the new version.
    async fn write(
        &self,
        context: &CallContext,
        before: Option<&str>,
        text: &Secret,
        known: &[&Material],
    ) -> Result<String, CallError> {
        context.ahead.may_begin()?;
        let answered = self.dialogue.put(context, before, text, known).await?;
        let unknown = |message: String| {
            Err(CallError::unknown(format!("{}: {message}", self.dialogue.spec.target()))
                .hint("look at the system itself, and find out what the program did"))
        };
        if before == Some(answered.as_str()) {
            return unknown(format!(
                "the program took the write, and names the version {answered}, as before"
            ));
        }
        let found = self.find(known).await.map_err(CallError::doubtful)?;
        if found.version != answered {
            return unknown(format!(
                "the program took the write as version {answered}, and version {} is there right after it",
                found.version
            ));
        }
        if found.text.is_some_and(|held| !held.same_as(text)) {
            return unknown(format!(
                "the program took the write, and version {answered} holds another value"
            ));
        }
        Ok(answered)
    }

    /// Whether the place takes only some values.
    fn has_limits(&self) -> bool {
        let PassThrough { max_bytes, characters, .. } = &self.dialogue.spec;
        max_bytes.is_some() || *characters != Characters::Any
    }

    /// Looks, read-only, at what a run would meet.
    fn check(&self, found: &Found) -> Result<Option<String>, CallError> {
        // By this time stanch tells its own writes.
        let ahead = found.written.map(|at| at.duration_since(self.clock.now().wall));
        if let Some(ahead) = ahead.filter(|ahead| *ahead > MOST_AHEAD) {
            let message = format!(
                "{}: `written` is {} s ahead of this machine's clock",
                self.dialogue.spec.target(),
                ahead.as_secs()
            );
            return Err(invalid(message)
                .hint("set the clocks of the system and of this machine (NTP), then plan again"));
        }
        match &found.text {
            Some(text) => {
                refuse_unclear(&self.decode(text)?).map_err(|error| self.dialogue.about(error, "read"))?;
                self.refuse_unfit(text)?;
                Ok(None)
            }
            None if self.has_limits() && !self.generated => Ok(Some(
                "whether a new value fits `max_bytes` and `characters` shows when it is written".to_owned(),
            )),
            None => Ok(None),
        }
    }
}

/// The same step with a key for one write: the same for a retry, and another one for the way back, even where that meets
/// the version `before` that the write met. A system that honours keys would answer the same again, and do nothing.
fn keyed(context: &CallContext, before: Option<&str>, to: Option<&str>) -> CallContext {
    let write = serde_json::json!([before, to]).to_string();
    CallContext { token: Uuid::new_v5(&context.token, write.as_bytes()), ..context.clone() }
}

#[async_trait]
impl Store for PassThroughStore {
    fn traits(&self) -> StoreTraits {
        self.dialogue.spec.traits()
    }

    async fn preflight(&self) -> Vec<Check> {
        let name = self.dialogue.spec.target();
        let look = async {
            let found = self.dialogue.find().await?;
            Ok((self.check(&found)?, found.version))
        };
        vec![match look.await {
            Ok((None, version)) => {
                Check::pass(&*name, format!("the program answered: version {version} is there"))
            }
            Ok((Some(warning), _)) => Check::warn(&*name, warning),
            Err(error) => CallError::to_check(&error, &name),
        }]
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let current = Some(self.dialogue.observe().await?.version);
        Ok(Versions { current, ..Versions::default() })
    }

    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        let found = self.dialogue.observe().await?;
        if found.version != version {
            return Err(self.superseded(version, &found.version));
        }
        Ok(found.written)
    }

    async fn read(&self, version: Option<&str>) -> Result<Material, CallError> {
        if !self.dialogue.spec.reads {
            let message = format!("{}: the program cannot read the value back", self.dialogue.spec.target());
            return Err(CallError::rejected(ErrorKind::Unsupported, message));
        }
        let found = self.dialogue.find().await?;
        if let Some(wanted) = version.filter(|wanted| *wanted != found.version) {
            return Err(self.superseded(wanted, &found.version));
        }
        // `read` is refused without a value.
        self.decode(&found.text.unwrap_or_else(|| Secret::new("")))
    }

    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        to: Option<&str>,
    ) -> Result<Promoted, CallError> {
        let found = self.find(&[value, from]).await?;
        let version = found.version;
        let held = found.text.as_ref().map(|text| self.decode(text)).transpose()?;
        match held {
            Some(held) if held.same_as(value) => return Ok(Promoted { version, was: None }),
            Some(held) if !held.same_as(from) => {
                return Err(self
                    .conflict("the value there is neither the old credential nor the new one; stanch left it as it is")
                    .hint("find out which person or program wrote it, then make a new plan"));
            }
            None if context.expected.as_ref().is_some_and(|expected| *expected != version) => {
                return Err(self.conflict(&format!(
                    "version {version} is there, and this run knew version {}",
                    context.expected.as_deref().unwrap_or_default()
                )));
            }
            Some(_) | None => {}
        }
        let text = self.encode(found.text.as_ref(), value)?;
        let held = found.text.as_ref().map(strings).unwrap_or_default();
        let known = [value, from, &strings(&text), &held];
        let new = self.write(&keyed(context, Some(&version), to), Some(&version), &text, &known).await?;
        Ok(Promoted { version: new, was: Some(version) })
    }

    async fn refill(&self, context: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        let text = self.encode(None, value)?;
        match self.dialogue.find().await {
            Ok(_) => Err(self.conflict("a value is there again")),
            Err(error) if error.kind == ErrorKind::NotFound => {
                let known = [value, &strings(&text)];
                let version = self.write(&keyed(context, None, None), None, &text, &known).await?;
                Ok(Promoted { version, was: None })
            }
            Err(error) => Err(error),
        }
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "no earlier versions are kept there"))
    }

    async fn place(&self) -> Result<String, CallError> {
        Ok(self.dialogue.spec.target())
    }
}

#[async_trait]
impl StoreServer for PassThrough {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        if self.place.trim().is_empty() || sanitize(&self.place) != self.place {
            return Err(invalid("`place` of a store is empty, or has characters that cannot be shown"));
        }
        let layout = Layout::new(credential.issuer.parts(), None, &BTreeMap::new())?;
        let generated = matches!(credential.issuer, Issuer::Random(_));
        let program = Program::plain(&self.argv, at.deadline);
        Ok(Arc::new(PassThroughStore {
            dialogue: Dialogue { program, spec: self.clone() },
            layout,
            clock: Arc::clone(&at.clock),
            generated,
        }))
    }
}
