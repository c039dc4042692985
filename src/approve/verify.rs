//! Whether a signed statement is an approval of this plan that counts, or the request to run it.

use jiff::Timestamp;

use super::line::Rejected;
use super::rules::{Approval, Approvals, Request, Requirement, Standing};
use super::signature::Signature;
use super::signers::Signers;
use super::statement::{Kind, Signed, Statement};
use crate::domain::Phase;

/// Why a signed statement does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The text is no statement, or the signature none.
    #[error("{0}")]
    Unreadable(String),
    /// It is signed in another namespace.
    #[error("the signature is of namespace `{found}`, and an approval is signed in `{expected}`")]
    Namespace {
        /// The namespace found.
        found: String,
        /// The namespace expected.
        expected: &'static str,
    },
    /// The signature is not of this text.
    #[error("the signature is forged, or the statement was changed after it was signed: {0}")]
    Forged(String),
    /// It is of another plan.
    #[error("it approves plan {found}, and this is plan {plan}")]
    OtherPlan {
        /// The beginning of the digest found.
        found: String,
        /// The beginning of the digest of this plan.
        plan: String,
    },
    /// What it shows to whoever signs is not what the plan does.
    #[error(
        "the statement says {said} of `{name}`, and the plan is another one: the person who signed did not see what it does"
    )]
    Misleads {
        /// The line.
        name: String,
        /// What it says.
        said: String,
    },
    /// It is of another run.
    #[error("it approves run {0} only")]
    OtherRun(String),
    /// The file of signers does not list the key with the principal.
    #[error("the key {key} is not listed for {by} in the file of signers")]
    Unlisted {
        /// Who it says signed.
        by: String,
        /// The fingerprint.
        key: String,
    },
    /// The file of signers lists it for other namespaces.
    #[error("line {line} of the file of signers does not let {by} sign in `{namespace}`")]
    NotFor {
        /// Who signed.
        by: String,
        /// The line.
        line: usize,
        /// The namespace.
        namespace: &'static str,
    },
    /// The line of the file of signers is not valid yet.
    #[error("line {line} of the file of signers lets {by} sign from {from:.0} on")]
    NotYet {
        /// Who signed.
        by: String,
        /// The line.
        line: usize,
        /// From when on.
        from: Timestamp,
    },
    /// The line of the file of signers has expired.
    #[error("line {line} of the file of signers let {by} sign until {since:.0}")]
    SignerExpired {
        /// Who signed.
        by: String,
        /// The line.
        line: usize,
        /// Until when.
        since: Timestamp,
    },
    /// The certificate does not give the principal.
    #[error("{why} (line {line} of the file of signers trusts its authority)")]
    Certificate {
        /// The line.
        line: usize,
        /// Why.
        why: String,
    },
    /// It says itself that it holds no more.
    #[error("the approval of {by} expired at {since:.0}")]
    Expired {
        /// Who signed.
        by: String,
        /// Until when it held.
        since: Timestamp,
    },
    /// The plan needs no approval for this phase.
    #[error("the plan asks for no approval before {0}")]
    NotAsked(Phase),
    /// The principal is in none of the roles.
    #[error("{by} may not approve {phase}: that takes {roles}")]
    NotInRole {
        /// Who signed.
        by: String,
        /// The phase.
        phase: Phase,
        /// The roles.
        roles: String,
    },
    /// Whoever asked for the run signed.
    #[error("{by} asked for this run and cannot approve it")]
    Requester {
        /// Who signed.
        by: String,
    },
    /// Whoever asked for the run signed, as another principal.
    #[error("{by} is {requester} with the same key, who asked for this run and cannot approve it")]
    Alias {
        /// Who signed.
        by: String,
        /// Who asked.
        requester: String,
    },
    /// The same person approved already.
    #[error("{by} has approved {phase} already")]
    Twice {
        /// Who signed.
        by: String,
        /// The phase.
        phase: Phase,
    },
    /// No security key was touched.
    #[error("{phase} takes a security key that was touched, and {by} signed {how}")]
    Presence {
        /// Who signed.
        by: String,
        /// The phase.
        phase: Phase,
        /// How it was signed.
        how: &'static str,
    },
    /// No security key took a PIN.
    #[error("{phase} takes a security key with a PIN, and {by} signed {how}")]
    Pin {
        /// Who signed.
        by: String,
        /// The phase.
        phase: Phase,
        /// How it was signed.
        how: &'static str,
    },
    /// A reason, or a ticket, is missing.
    #[error("{phase} cannot be undone, so its approval needs a reason and a ticket")]
    NoTicket {
        /// The phase.
        phase: Phase,
    },
}

impl Approvals {
    /// The statement, and its signature, of somebody whom the file of signers lets sign it at this moment.
    fn authentic(
        &self,
        kind: Kind,
        plan: &str,
        signed: &Signed,
        at: Option<Timestamp>,
    ) -> Result<(Statement, Signature), Refused> {
        let namespace = kind.namespace();
        let signature = Signature::read(&signed.signature).map_err(Refused::Unreadable)?;
        if signature.namespace != namespace {
            let found = crate::text::sanitize(&signature.namespace);
            return Err(Refused::Namespace { found, expected: namespace });
        }
        signature.verify(signed.statement.as_bytes()).map_err(Refused::Forged)?;
        let statement = Statement::read(&signed.statement).map_err(Refused::Unreadable)?;
        if statement.kind != kind {
            let what = "its first line names another namespace than its signature";
            return Err(Refused::Unreadable(what.into()));
        }
        let by = statement.by.clone();
        Signers::read(&self.signers).admit(&by, &signature.signer, namespace, at).map_err(|rejected| {
            match rejected {
                Rejected::Unlisted => Refused::Unlisted { by, key: signature.signer.fingerprint() },
                Rejected::Namespace { line } => Refused::NotFor { by, line, namespace },
                Rejected::NotYet { line, from } => Refused::NotYet { by, line, from },
                Rejected::Expired { line, since } => Refused::SignerExpired { by, line, since },
                Rejected::Certificate { line, why } => Refused::Certificate { line, why },
            }
        })?;
        if statement.plan != plan {
            let short = |digest: &str| crate::text::sanitize(digest.get(..12).unwrap_or(digest));
            return Err(Refused::OtherPlan { found: short(&statement.plan), plan: short(plan) });
        }
        if at.is_some_and(|at| at > statement.expires) {
            return Err(Refused::Expired { by: statement.by, since: statement.expires });
        }
        Ok((statement, signature))
    }
}

/// Verifies the request to run a plan. `plan` is its digest, `at` the moment at which it comes on the record; it is left out
/// where that was checked.
///
/// # Errors
/// When it is not one.
pub fn request(
    approvals: &Approvals,
    plan: &str,
    signed: &Signed,
    at: Option<Timestamp>,
) -> Result<Request, Refused> {
    let (statement, signature) = approvals.authentic(Kind::Request, plan, signed, at)?;
    Ok(Request { by: statement.by, key: signature.signer.fingerprint() })
}

/// Verifies an approval. `plan` is the plan's digest, `run` the run where it is known, `irreversible` says which phases cannot be undone, and
/// `at` is the moment at which the approval comes on the record; it is left out where that was checked, as in a record that is read again.
///
/// # Errors
/// When it does not count for every phase that it names.
pub fn admit(
    approvals: &Approvals,
    (plan, run): (&str, Option<&str>),
    irreversible: impl Fn(Phase) -> bool,
    standing: &Standing,
    signed: &Signed,
    at: Option<Timestamp>,
) -> Result<Approval, Refused> {
    let (statement, signature) = approvals.authentic(Kind::Approval, plan, signed, at)?;
    let by = statement.by;
    if let (Some(of), Some(run)) = (&statement.run, run)
        && of != run
    {
        return Err(Refused::OtherRun(crate::text::sanitize(of)));
    }
    let approval = Approval {
        by: by.clone(),
        phases: statement.phases,
        reason: statement.reason,
        ticket: statement.ticket,
        expires: statement.expires,
        present: signature.is_present(),
        verified: signature.is_verified(),
        signer: signature.signer.clone(),
    };
    if let Some(asked) = &standing.request {
        if by == asked.by {
            return Err(Refused::Requester { by });
        }
        let key = approval.signer.fingerprint();
        if key == asked.key || approvals.is_same(standing, &by, &asked.by) {
            return Err(Refused::Alias { by, requester: asked.by.clone() });
        }
    }
    for &phase in &approval.phases {
        let required: Vec<&Requirement> = approvals.required.iter().filter(|r| r.phase == phase).collect();
        if required.is_empty() {
            return Err(Refused::NotAsked(phase));
        }
        let mine: Vec<&&Requirement> = required.iter().filter(|r| r.from.contains(&by)).collect();
        if mine.is_empty() {
            let mut roles: Vec<&str> = required.iter().flat_map(|r| &r.roles).map(String::as_str).collect();
            roles.dedup();
            return Err(Refused::NotInRole { by, phase, roles: roles.join(" or ") });
        }
        let how = match (signature.is_hardware(), approval.present) {
            (false, _) => "without one",
            (true, false) => "without touching it",
            (true, true) => "without a PIN",
        };
        if mine.iter().any(|r| r.presence) && !approval.present {
            return Err(Refused::Presence { by, phase, how });
        }
        if mine.iter().any(|r| r.pin) && !approval.verified {
            return Err(Refused::Pin { by, phase, how });
        }
        if irreversible(phase) && (approval.reason.is_empty() || approval.ticket.is_none()) {
            return Err(Refused::NoTicket { phase });
        }
        let still = |(given, earlier): &&(Timestamp, Approval)| {
            let holds = |r: &&Requirement| {
                at.is_some_and(|at| at <= crate::clock::add(*given, r.within.get()) && at <= earlier.expires)
            };
            earlier.phases.contains(&phase)
                && mine.iter().any(|r| holds(r))
                && approvals.is_same(standing, &earlier.by, &by)
        };
        if standing.given.iter().any(|earlier| still(&earlier)) {
            return Err(Refused::Twice { by, phase });
        }
    }
    Ok(approval)
}
