//! A secret of GitHub Actions as a store.
//!
//! GitHub never gives a value back, and has no condition for a write. So `promote` goes by `updated_at` alone: it looks
//! right before it writes, and writes only if that is what this run last saw; and it looks again after it, since a reply
//! is no proof. A write by another between the look and the write cannot be seen.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;

use super::found::Found;
use super::spec::GithubActionsSecret;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind, StoreTraits, Versions};
use crate::kind::api::ApiClient;
use crate::kind::real::{RealProvider, StoreServer};
use crate::provider::http::RESERVED;
use crate::provider::layout::Layout;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted, Store};
use crate::runbook::model::Credential;
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// What a value may have, in bytes (<https://docs.github.com/en/actions/reference/security/secrets>).
const MAX_SIZE: usize = 48 << 10;
/// How often a write is looked for that GitHub has taken, and after how long.
const LOOKS: u32 = 3;
const LAG: Duration = Duration::from_millis(500);

/// One secret.
pub struct ActionsSecret {
    pub(super) client: Arc<ApiClient>,
    clock: Arc<dyn Clock>,
    /// The path of its owner's secrets.
    pub(super) base: String,
    pub(super) name: String,
    /// What it belongs to, for people.
    owner: String,
    /// What the token needs.
    pub(super) permission: &'static str,
    /// The scope that a classic token needs.
    pub(super) scope: &'static str,
    layout: Layout,
    part: Option<String>,
}

impl fmt::Debug for ActionsSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionsSecret").field("secret", &self.shown()).finish_non_exhaustive()
    }
}

impl ActionsSecret {
    /// A store on the secret that a runbook names, for a credential of these parts.
    ///
    /// # Errors
    /// When there cannot be such a secret.
    pub fn new(
        client: Arc<ApiClient>,
        clock: Arc<dyn Clock>,
        spec: &GithubActionsSecret,
        parts: &'static [&'static str],
    ) -> Result<Self, CallError> {
        let name = &spec.name;
        let is_name = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
            text.chars().all(fits) && text.chars().next().is_some_and(|first| !first.is_ascii_digit())
        };
        if !is_name(name) || name.to_uppercase().starts_with("GITHUB_") {
            return Err(invalid(format!(
                "`{}` cannot be the name of a secret of GitHub Actions",
                sanitize(name)
            ))
            .hint("a name has letters, digits and `_`, and begins neither with a digit nor with GITHUB_"));
        }
        if let Some(part) = spec.part.as_ref().filter(|part| !parts.contains(&part.as_str())) {
            return Err(invalid(format!("`part` names the part `{}`", sanitize(part)))
                .hint(format!("this credential has the parts {}", parts.join(", "))));
        }
        let is_owner = |text: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !text.is_empty() && text.chars().all(fits) && !matches!(text, "." | "..")
        };
        let wrong = |field: &str, hint: &str| {
            invalid(format!("`{field}` names nothing that can be at GitHub")).hint(hint)
        };
        let (base, owner, permission, scope) = match (&spec.repository, &spec.organization) {
            (Some(repository), None) => {
                let both =
                    repository.split_once('/').filter(|(owner, name)| is_owner(owner) && is_owner(name));
                both.ok_or_else(|| wrong("repository", "write it as OWNER/NAME"))?;
                match &spec.environment {
                    None => (
                        format!("/repos/{repository}/actions/secrets"),
                        repository.clone(),
                        "the permission `Secrets: write` of the repository (a classic token: the scope `repo`)",
                        "repo",
                    ),
                    Some(environment) => (
                        format!(
                            "/repos/{repository}/environments/{}/secrets",
                            utf8_percent_encode(environment, RESERVED)
                        ),
                        format!("{repository} ({})", sanitize(environment)),
                        "the permission `Environments: write` of the repository (a classic token: the scope `repo`)",
                        "repo",
                    ),
                }
            }
            (None, Some(organization)) => {
                if !is_owner(organization) {
                    return Err(wrong("organization", "write its name as it is in its address"));
                }
                (
                    format!("/orgs/{organization}/actions/secrets"),
                    organization.clone(),
                    "the permission `Secrets: write` of the organization (a classic token: the scope `admin:org`)",
                    "admin:org",
                )
            }
            _ => return Err(invalid("the secret belongs to neither a repository nor an organization")),
        };
        let layout = Layout::new(parts, None, &BTreeMap::new())?;
        let (name, part) = (name.clone(), spec.part.clone());
        Ok(Self { client, clock, base, name, owner, permission, scope, layout, part })
    }

    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.owner, self.name)
    }

    /// What is written of a credential.
    fn text(&self, value: &Material) -> Result<Secret, CallError> {
        let whole = self.layout.whole(value)?;
        let text = match &self.part {
            None => whole,
            Some(part) => value
                .part(part)
                .cloned()
                .ok_or_else(|| invalid(format!("{}: the credential has no part `{part}`", self.shown())))?,
        };
        let size = text.expose().len();
        if size > MAX_SIZE {
            let message =
                format!("{}: the value has {size} bytes, and GitHub takes {MAX_SIZE} at most", self.shown());
            return Err(invalid(message).hint("store a shorter value; or name the one `part` that jobs need"));
        }
        Ok(text)
    }

    /// Writes the longest value that a run could write, in memory.
    pub(super) fn rehearse(&self) -> Result<(), CallError> {
        self.text(&self.layout.stand_in()).map(drop)
    }

    /// The secret right before it is written, in a second in which no version of it was made: two writes in one second
    /// have one version.
    async fn find_in_a_new_second(&self) -> Result<Found, CallError> {
        let found = self.find().await?;
        match found.same_second() {
            None => Ok(found),
            Some(wait) => {
                self.clock.sleep(wait).await;
                self.find().await
            }
        }
    }

    /// Writes the value, and looks for what came of it. Returns the new version.
    async fn write(&self, before: Option<&Found>, text: &Secret) -> Result<String, CallError> {
        self.put(before, text).await?;
        for look in 0..LOOKS {
            if look > 0 {
                self.clock.sleep(LAG).await;
            }
            let after = self.find().await.map_err(CallError::doubtful)?;
            if before.is_none_or(|before| after.updated > before.updated) {
                return Ok(after.version());
            }
        }
        let message = format!("{}: GitHub took the write, and its `updated_at` is as before", self.shown());
        Err(CallError::unknown(message).hint("look at the secret's time of change at GitHub; then resume"))
    }
}

#[async_trait]
impl Store for ActionsSecret {
    fn traits(&self) -> StoreTraits {
        GithubActionsSecret::TRAITS
    }

    async fn preflight(&self) -> Vec<Check> {
        self.checks().await
    }

    async fn observe(&self) -> Result<Versions, CallError> {
        let current = Some(self.find().await?.version());
        Ok(Versions { current, ..Versions::default() })
    }

    async fn written(&self, version: &str) -> Result<Option<Timestamp>, CallError> {
        Ok(version.parse().ok())
    }

    async fn read(&self, _: Option<&str>) -> Result<Material, CallError> {
        let message = format!("{}: GitHub never gives a value back", self.shown());
        Err(CallError::rejected(ErrorKind::Unsupported, message))
    }

    async fn promote(
        &self,
        context: &CallContext,
        value: &Material,
        _: &Material,
        _: Option<&str>,
    ) -> Result<Promoted, CallError> {
        let text = self.text(value)?;
        let found = self.find_in_a_new_second().await?;
        let now = found.version();
        if let Some(expected) = context.expected.as_ref().filter(|expected| **expected != now) {
            let message = format!(
                "{}: the secret was written at {now}, and this run knew it as of {expected}",
                self.shown()
            );
            return Err(CallError::rejected(ErrorKind::Conflict, message));
        }
        context.ahead.may_begin()?;
        let version = self.write(Some(&found), &text).await?;
        Ok(Promoted { version, was: Some(now) })
    }

    async fn refill(&self, _: &CallContext, value: &Material) -> Result<Promoted, CallError> {
        let text = self.text(value)?;
        match self.find().await {
            Ok(_) => {
                let message = format!("{}: the secret is there again", self.shown());
                return Err(CallError::rejected(ErrorKind::Conflict, message));
            }
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.scope == "admin:org" {
            let message = format!("{}: the secret is gone, and with it who may use it", self.shown());
            return Err(CallError::rejected(ErrorKind::Unsupported, message)
                .hint("create the secret again by hand, for the repositories that need it, with any value; then resume in the same way"));
        }
        Ok(Promoted { version: self.write(None, &text).await?, was: None })
    }

    async fn destroy(&self, _: &CallContext, _: &str, _: &Material) -> Result<(), CallError> {
        Err(CallError::rejected(ErrorKind::Unsupported, "GitHub keeps no earlier versions of a secret"))
    }

    async fn place(&self) -> Result<String, CallError> {
        let path = format!("{}/{}", self.base, self.name).to_lowercase();
        Ok(format!("github-actions-secret {}{path}", self.client.place()))
    }
}

fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

#[async_trait]
impl StoreServer for GithubActionsSecret {
    async fn connect(&self, credential: &Credential, at: &RealProvider) -> Result<Arc<dyn Store>, CallError> {
        let client = at.client(&self.connection).await?;
        let clock = Arc::clone(&at.clock);
        Ok(Arc::new(ActionsSecret::new(client, clock, self, credential.issuer.parts())?))
    }
}
