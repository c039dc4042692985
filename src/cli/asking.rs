//! Whose a value is, asked of its issuer as the operator. The value is not used, and goes no further.

use std::sync::Arc;

use super::context::Context;
use super::{CliError, Exit};
use crate::domain::Standing;
use crate::kill::{self, KillError};
use crate::kind::spec::IssuerKind;
use crate::provider::{CallError, Issuer};
use crate::secret::{Material, Secret};

/// An issuer that values are held against.
pub(super) struct Asking {
    kind: &'static IssuerKind,
    /// The issuer.
    pub(super) issuer: Arc<dyn Issuer>,
}

impl Asking {
    /// The issuer of a kind, with the fields that a person gave for it.
    pub(super) async fn of(
        context: &Context,
        kind: &'static IssuerKind,
        fields: &[(String, String)],
    ) -> Result<Self, CliError> {
        // Any handle makes the runbook whose issuer is asked.
        let handle = "unknown".to_owned();
        let runbook = kill::runbook(kind, fields, std::slice::from_ref(&handle), 1, "");
        let runbook = runbook.map_err(|error| unfit(kind, &error))?;
        let provider = context.provider(&runbook, false)?;
        let issuer = provider.issuer(&handle, &runbook.credentials[&handle]).await?;
        Ok(Self { kind, issuer })
    }

    /// Whether one value identifies a credential of the kind.
    pub(super) fn tells_by_value(&self) -> bool {
        is_told_by_value(self.kind)
    }

    /// What the issuer says of a value; `None` where it does not know it.
    pub(super) async fn about(&self, value: &Secret) -> Result<Option<Standing>, CallError> {
        let part = self.kind.parts.first().copied().unwrap_or("value");
        self.issuer.identify(&Material::single(part, Secret::new(value.expose()))).await
    }
}

/// Whether one value identifies a credential of a kind.
pub(super) fn is_told_by_value(kind: &IssuerKind) -> bool {
    kind.parts.len() == 1
}

/// Why a person's words make no issuer, and what to pass.
pub(super) fn unfit(kind: &IssuerKind, error: &KillError) -> CliError {
    let needs = kind.bare.iter().flat_map(|bare| bare.needs);
    let needs: Vec<String> = needs.map(|field| format!("--set {field}=VALUE")).collect();
    let hint = match (error, needs.is_empty()) {
        (KillError::Nothing, _) => "name handles, or pass --handles FILE or --values FILE".to_owned(),
        (_, true) => format!("its fields: stanch init --kind {}", kind.name),
        (_, false) => format!("pass {}", needs.join(" ")),
    };
    CliError::new(Exit::Usage, format!("{error}; nothing was changed")).hint(hint)
}
