//! What a runbook asks for in the way of approvals, as the plan has it.

use super::Plan;
use crate::approve::{Approvals, Fault, Requirement, Signers};
use crate::domain::Phase;
use crate::runbook::model::Runbook;

/// What a runbook needs before each phase. Others may add to it: a phase may have several requirements, and each must be met.
pub fn requirements(runbook: &Runbook, sandbox: bool) -> Vec<Requirement> {
    let Some(spec) = runbook.approvals.as_ref().filter(|spec| spec.sandbox || !sandbox) else {
        return Vec::new();
    };
    let order = Phase::order(runbook.strategy);
    let required = |phase: &Phase| {
        let rule = spec.phases.of(*phase)?;
        let mut from: Vec<String> =
            rule.from.iter().flat_map(|role| spec.roles.get(role).into_iter().flatten()).cloned().collect();
        from.sort();
        from.dedup();
        // What a strategy skips is asked for before the point of no return: a choice at the command line takes nothing away.
        let phase = if order.contains(phase) { *phase } else { Phase::Revoke };
        Some(Requirement {
            phase,
            count: rule.count,
            from,
            roles: rule.from.clone(),
            within: rule.within,
            presence: rule.presence,
            pin: rule.pin,
        })
    };
    Phase::ALL.iter().filter_map(required).collect()
}

/// The file of signers cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignersError {
    /// It was not read.
    #[error("the plan needs approvals, and the file of signers was not read")]
    NotRead,
    /// A line of it cannot be used.
    #[error("{file}:{line}:{column}: {what}")]
    Fault {
        /// The file.
        file: String,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The runbook names somebody whose key is not there.
    #[error("{file} has no line for {name}, who may approve")]
    Unlisted {
        /// The file.
        file: String,
        /// The principal.
        name: String,
    },
}

impl SignersError {
    /// What to do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NotRead => "nothing was changed; please report this",
            Self::Fault { hint, .. } => hint,
            Self::Unlisted { .. } => {
                "add the key of that person, or remove the principal from `approvals.roles`"
            }
        }
    }
}

/// The approvals of a new plan. `signers` is the text of the file that the runbook names.
pub(super) fn planned(
    runbook: &Runbook,
    sandbox: bool,
    signers: Option<String>,
) -> Result<Option<Approvals>, SignersError> {
    let required = requirements(runbook, sandbox);
    let Some(spec) = runbook.approvals.as_ref().filter(|_| !required.is_empty()) else { return Ok(None) };
    let signers = signers.ok_or(SignersError::NotRead)?;
    let read = Signers::read(&signers);
    if let Some(fault) = read.faults().first() {
        let Fault { line, column, what, hint } = fault.clone();
        return Err(SignersError::Fault { file: spec.signers.clone(), line, column, what, hint });
    }
    let unknown = required.iter().flat_map(|required| &required.from).find(|name| !read.knows(name));
    // A certificate names its principal itself.
    if let (Some(name), false) = (unknown, read.has_authority()) {
        let (file, name) = (spec.signers.clone(), name.clone());
        return Err(SignersError::Unlisted { file, name });
    }
    Ok(Some(Approvals { signers, required, break_glass: spec.break_glass }))
}

impl Plan {
    /// Whether the plan asks for what its runbook asks for, at least.
    pub(super) fn approvals_follow(&self) -> Result<(), String> {
        let wanted = requirements(&self.runbook, self.sandbox);
        let none = Vec::new();
        let has = self.approvals.as_ref().map_or(&none, |approvals| &approvals.required);
        if let Some(missing) = wanted.iter().find(|wanted| !has.contains(wanted)) {
            return Err(format!(
                "it does not ask for the approvals before {} that its runbook asks for",
                missing.phase
            ));
        }
        let Some(approvals) = &self.approvals else { return Ok(()) };
        let order = Phase::order(self.strategy);
        let idle = |r: &&Requirement| {
            r.count == 0 || r.from.is_empty() || !order.contains(&r.phase) || r.phase == Phase::Preflight
        };
        if let Some(idle) = has.iter().find(idle) {
            return Err(format!("its approval before {} would let everything pass", idle.phase));
        }
        if approvals.break_glass && !self.runbook.approvals.as_ref().is_some_and(|spec| spec.break_glass) {
            return Err("it lets --break-glass replace approvals, and its runbook does not".into());
        }
        match Signers::read(&approvals.signers).faults() {
            [] => Ok(()),
            [fault, ..] => Err(format!("line {} of its file of signers: {}", fault.line, fault.what)),
        }
    }
}
