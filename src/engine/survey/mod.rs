//! Observing, read-only, what a plan needs to know. Nothing is used up: a credential is asked about, as the
//! operator, and not tried.

mod ages;
mod drift;
mod failure;
mod learnt;
mod outside;
mod patience;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinSet;

use self::failure::{error_of, may_pass, with_failures};
use self::patience::{Places, patiently};
use crate::domain::{Check, CheckVerdict, ErrorKind, Identity, Life, Observation, Standing, Strategy};
use crate::plan::{Observed, ObservedCredential, ObservedStore, Outgoing, Plan};
use crate::provider::{CallError, Issuer, Provider, Store};
use crate::runbook::model::{Credential, Runbook};
use crate::sabotage::{Sabotage, is_on};
use crate::secret::Material;

pub use ages::{Age, ages};
pub use drift::drift;
pub(super) use failure::first_failure;
pub use learnt::Learnt;

/// How many credentials are observed at once.
const AT_ONCE: usize = 32;

/// A target could not be observed.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {source}")]
pub struct SurveyError {
    /// The connection or the credential, by its name.
    pub target: String,
    /// Why.
    pub source: CallError,
}

/// What a person says of outgoing versions that the stores cannot tell.
#[derive(Debug, Clone, Default)]
pub struct Choices {
    /// The handle of the outgoing version, by credential.
    pub outgoing: BTreeMap<String, String>,
    /// Why there is nothing to revoke where an issuer does not know what the stores hold.
    pub nothing_to_revoke: Option<String>,
}

impl Choices {
    /// What the person said when this plan was made.
    pub fn of(plan: &Plan) -> Self {
        let named = plan.credentials.iter().filter(|c| c.named);
        Self {
            outgoing: named
                .filter_map(|c| Some((c.name.clone(), c.outgoing.as_ref()?.handle.clone())))
                .collect(),
            nothing_to_revoke: plan.credentials.iter().find_map(|c| c.waived.clone()),
        }
    }
}

/// Observes every target of a runbook.
///
/// # Errors
/// When a target cannot be read: no sensible plan can be made without it.
pub async fn survey(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    choices: &Choices,
) -> Result<Observed, SurveyError> {
    survey_and_learn(provider, runbook, choices).await.map(|(observed, _)| observed)
}

/// Observes every target of a runbook, and hands out what secrets it read on the way.
///
/// # Errors
/// When a target cannot be read: no sensible plan can be made without it.
pub async fn survey_and_learn(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    choices: &Choices,
) -> Result<(Observed, Learnt), SurveyError> {
    let mut learnt = Learnt::default();
    let secrets = provider.secrets().into_iter();
    secrets.for_each(|secret| learnt.scrubber.add(&Material::single("value", secret)));
    let learnt = Arc::new(Mutex::new(learnt));
    let clean = |text: &str| learnt.lock().unwrap_or_else(PoisonError::into_inner).clean(text);
    let found = observe(provider, runbook, choices, &learnt).await;
    let mut observed = found.map_err(|e| SurveyError { source: e.source.scrubbed(&clean), ..e })?;
    refuse_telling(runbook, &observed, &learnt.lock().unwrap_or_else(PoisonError::into_inner))?;
    observed.checks.iter_mut().for_each(|check| check.scrub(&clean));
    for credential in &mut observed.credentials {
        // A person's reason, which becomes a part of the plan.
        if let Outgoing::Waived(why) = &mut credential.outgoing {
            *why = clean(why);
        }
    }
    let learnt = std::mem::take(&mut *learnt.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((observed, learnt))
}

/// Refuses a version that tells a secret: the plan would show it. It may be a value that another store holds, so all are
/// read first.
fn refuse_telling(runbook: &Runbook, observed: &Observed, learnt: &Learnt) -> Result<(), SurveyError> {
    for (name, seen) in runbook.credentials.keys().zip(&observed.credentials) {
        let told =
            |store: &&ObservedStore| store.versions.all().any(|version| learnt.scrubber.tells(version));
        if let Some(store) = seen.stores.iter().find(told) {
            let told = CallError::telling();
            let source = CallError { message: format!("{}: {}", store.place, told.message), ..told };
            return Err(SurveyError { target: format!("credential `{name}`"), source });
        }
    }
    Ok(())
}

async fn observe(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    choices: &Choices,
    learnt: &Arc<Mutex<Learnt>>,
) -> Result<Observed, SurveyError> {
    let mut observed = Observed::default();
    // What does not need each other goes out together: in a leak every round trip counts.
    // A server that is not fit makes every other message about it noise.
    let (checks, credentials, outside) = tokio::try_join!(
        connections(provider, runbook),
        async { Ok(credentials(provider, runbook, choices, learnt).await) },
        async {
            let mut checks = provider.reach(runbook).await;
            // What is not there cannot answer either.
            if checks.iter().all(|c| c.verdict != CheckVerdict::Fail) {
                checks.extend(outside::outside(provider, runbook).await?);
            }
            Ok(checks)
        },
    )?;
    observed.checks.extend(checks);
    observed.checks.extend(outside);
    // A credential that is missing here is refused when the plan is compiled.
    for (credential, checks) in credentials?.into_iter().flatten() {
        observed.credentials.push(credential);
        observed.checks.extend(checks);
    }
    Ok(observed)
}

/// Looks at every connection, in the order of the runbook.
async fn connections(provider: &Arc<dyn Provider>, runbook: &Runbook) -> Result<Vec<Check>, SurveyError> {
    let mut asking = JoinSet::new();
    for (at, connection) in runbook.connections.keys().cloned().enumerate() {
        let provider = Arc::clone(provider);
        asking.spawn(async move { (at, connection.clone(), provider.preflight(&connection).await) });
    }
    let mut answers = Vec::with_capacity(runbook.connections.len());
    while let Some(done) = asking.join_next().await {
        answers.push(done.map_err(|e| crashed("the connections", &e))?);
    }
    answers.sort_by_key(|(at, ..)| *at);
    let mut all = Vec::new();
    let mut unfit: Vec<(String, Check)> = Vec::new();
    for (_, connection, checks) in answers {
        match checks.iter().find(|c| c.verdict == CheckVerdict::Fail) {
            Some(failed) => unfit.push((format!("connection `{connection}`"), failed.clone())),
            None => all.extend(checks),
        }
    }
    match unfit.as_slice() {
        [] => Ok(all),
        [(target, failed)] => {
            Err(SurveyError { target: target.clone(), source: error_of(failed, failed.detail.clone()) })
        }
        // Each of them at once: to mend one and then learn of the next costs a round.
        [(target, first), rest @ ..] => {
            let mut message = first.detail.clone();
            let mut hints: Vec<&str> = first.hint.as_deref().into_iter().collect();
            for (target, failed) in rest {
                message += &format!("; {target}: {}", failed.detail);
                hints.extend(failed.hint.as_deref().filter(|hint| !hints.contains(hint)));
            }
            let hint = (!hints.is_empty()).then(|| hints.join("; "));
            Err(SurveyError {
                target: target.clone(),
                source: CallError { hint, ..error_of(first, message) },
            })
        }
    }
}

/// Looks at every credential, a number of them at once.
async fn credentials(
    provider: &Arc<dyn Provider>,
    runbook: &Runbook,
    choices: &Choices,
    learnt: &Arc<Mutex<Learnt>>,
) -> Result<Vec<Option<(ObservedCredential, Vec<Check>)>>, SurveyError> {
    let places = Arc::new(Places::new(AT_ONCE));
    let mut asking = JoinSet::new();
    let mut found: Vec<Option<(ObservedCredential, Vec<Check>)>> = Vec::new();
    found.resize_with(runbook.credentials.len(), || None);
    for (at, (name, credential)) in runbook.credentials.iter().enumerate() {
        if asking.len() >= AT_ONCE {
            take(&mut asking, &mut found).await?;
        }
        let (provider, name, credential) = (Arc::clone(provider), name.clone(), credential.clone());
        let said = Said {
            handle: choices.outgoing.get(&name).or(credential.outgoing.as_ref()).cloned(),
            nothing_to_revoke: choices.nothing_to_revoke.clone(),
        };
        let (learnt, strategy, places) = (Arc::clone(learnt), runbook.strategy, Arc::clone(&places));
        asking.spawn(async move {
            let look = || async {
                match strategy {
                    Strategy::Revoke => bare(provider.as_ref(), &name, &credential, &said).await,
                    Strategy::Overlap | Strategy::Contain => {
                        one(provider.as_ref(), &name, &credential, &said, &learnt).await
                    }
                }
            };
            let result = patiently(&places, look).await;
            (at, result.map_err(|source| SurveyError { target: format!("credential `{name}`"), source }))
        });
    }
    while !asking.is_empty() {
        take(&mut asking, &mut found).await?;
    }
    Ok(found)
}

type Found = (usize, Result<(ObservedCredential, Vec<Check>), SurveyError>);

async fn take(
    asking: &mut JoinSet<Found>,
    found: &mut [Option<(ObservedCredential, Vec<Check>)>],
) -> Result<(), SurveyError> {
    if let Some(done) = asking.join_next().await {
        let (at, result) = done.map_err(|e| crashed("a credential", &e))?;
        found[at] = Some(result?);
    }
    Ok(())
}

/// A look that crashed is an error, never an absence.
fn crashed(target: &str, error: &tokio::task::JoinError) -> SurveyError {
    let why = if error.is_panic() { "stanch crashed there" } else { "the check was cut short" };
    let message = format!("stanch could not observe it: {why}; nothing was changed");
    let source = CallError::rejected(ErrorKind::Local, message).hint("please report this");
    SurveyError { target: target.to_owned(), source }
}

/// What a person said of one credential.
struct Said {
    handle: Option<String>,
    nothing_to_revoke: Option<String>,
}

/// What is only to be revoked: whether its issuer knows it, and whether this run works with it.
async fn bare(
    provider: &dyn Provider,
    name: &str,
    credential: &Credential,
    said: &Said,
) -> Result<(ObservedCredential, Vec<Check>), CallError> {
    let issuer = provider.issuer(name, credential).await?;
    let outgoing = outgoing(issuer.as_ref(), name, None, said, &[]).await?;
    let mut checks = Vec::new();
    if let Outgoing::Named(standing) = &outgoing {
        let mut check = issuer.before_revoking(&standing.identity).await;
        if check.verdict == CheckVerdict::Fail {
            check.detail = format!("{name}: {}", check.detail);
            // Else the question failed, and its own hint says more.
            if check.kind == Some(ErrorKind::Invalid) && !credential.issuer.kind().takes_prefixes() {
                check.hint = Some(format!("leave it out (--keep {name}), or use another identity"));
            }
        }
        checks.push(check);
    }
    let issuer = issuer.traits();
    let (existing, stores, disagree) = (Vec::new(), Vec::new(), Vec::new());
    Ok((ObservedCredential { issuer, outgoing, existing, shares: None, stores, disagree }, checks))
}

async fn one(
    provider: &dyn Provider,
    name: &str,
    credential: &Credential,
    said: &Said,
    learnt: &Mutex<Learnt>,
) -> Result<(ObservedCredential, Vec<Check>), CallError> {
    let issuer = provider.issuer(name, credential).await?;
    if credential.stores.is_empty() && said.handle.is_none() && said.nothing_to_revoke.is_none() {
        let message = "no store holds the old credential, and nothing names it; nothing was changed";
        return Err(CallError::rejected(ErrorKind::Invalid, message).hint(format!(
            "name it: --outgoing {name}=HANDLE, or `outgoing` in the runbook; if there is none: --nothing-to-revoke --reason TEXT"
        )));
    }
    let mut stores = Vec::with_capacity(credential.stores.len());
    for index in 0..credential.stores.len() {
        stores.push(provider.store(name, credential, index).await?);
    }
    // What does not need each other goes out together: in a leak every round trip counts.
    let preflights = async {
        let mut checks = Vec::new();
        for store in &stores {
            checks.extend(store.preflight().await);
        }
        checks
    };
    let looks = async {
        let seen = look_at_all(name, &stores, learnt).await?;
        let existing = issuer.existing().await?;
        let outgoing = outgoing(issuer.as_ref(), name, seen.first.as_ref(), said, &existing).await?;
        Ok((seen, existing, outgoing))
    };
    let (mut checks, looked, ()) = tokio::join!(preflights, looks, issuer.warm());
    let (seen, existing, outgoing) = match looked {
        Ok(found) => found,
        Err(error) => {
            // What else is missing is worth knowing in the same breath.
            checks.extend(issuer.preflight(None).await);
            return Err(with_failures(error, &checks));
        }
    };
    let known = match &outgoing {
        Outgoing::Known(standing) | Outgoing::Named(standing) => Some(&standing.identity),
        Outgoing::Gone { .. } | Outgoing::Waived(_) => None,
    };
    checks.extend(issuer.preflight(known).await);
    // What may pass is looked at again, as a run does.
    let passing = |c: &Check| c.verdict == CheckVerdict::Fail && c.kind.is_some_and(may_pass);
    if let Some(failed) = checks.iter().find(|c| passing(c)) {
        return Err(with_failures(error_of(failed, failed.detail.clone()), &checks));
    }
    let shares = issuer.shares().await?;
    let issuer = issuer.traits();
    let Looked { stores, disagree, .. } = seen;
    Ok((ObservedCredential { issuer, outgoing, existing, shares, stores, disagree }, checks))
}

/// What the stores of a credential hold.
struct Looked {
    stores: Vec<ObservedStore>,
    /// The value that the first of them holds.
    first: Option<Material>,
    /// Those that hold another.
    disagree: Vec<usize>,
}

async fn look_at_all(
    name: &str,
    stores: &[Arc<dyn Store>],
    learnt: &Mutex<Learnt>,
) -> Result<Looked, CallError> {
    let mut seen = Looked { stores: Vec::with_capacity(stores.len()), first: None, disagree: Vec::new() };
    for (index, store) in stores.iter().enumerate() {
        let (versions, material) = look(store.as_ref()).await?;
        if let Some(material) = material {
            learnt.lock().unwrap_or_else(PoisonError::into_inner).add(name, &material);
            match &seen.first {
                None => seen.first = Some(material),
                Some(first) if material.same_as(first) => {}
                Some(_) => seen.disagree.push(index),
            }
        }
        seen.stores.push(versions);
    }
    Ok(seen)
}

/// The versions of a store, the place that its name leads to, and its current value.
async fn look(store: &dyn Store) -> Result<(ObservedStore, Option<Material>), CallError> {
    let versions = store.observe().await?;
    let material = match versions.current.as_deref() {
        current if current.is_some() && store.traits().reads => Some(store.read(current).await?),
        _ => None,
    };
    let place = store.place().await?;
    Ok((ObservedStore { traits: store.traits(), versions, place }, material))
}

/// What the issuer says of the value that the stores hold, asked as the operator.
async fn outgoing(
    issuer: &dyn Issuer,
    name: &str,
    material: Option<&Material>,
    said: &Said,
    existing: &[String],
) -> Result<Outgoing, CallError> {
    if let Some(handle) = &said.handle {
        if issuer.traits().change != Observation::Readable {
            let message =
                format!("its issuer cannot be asked about the handle {handle}; nothing was changed");
            return Err(CallError::rejected(ErrorKind::Unsupported, message).hint(
                "revoke the old credential by hand, then: --nothing-to-revoke --reason TEXT, without `outgoing`",
            ));
        }
        let handle = &issuer.full_handle(handle).await?;
        let life = issuer.life(handle).await?;
        if life == Life::Gone {
            if let Some(why) = &said.nothing_to_revoke {
                return Ok(Outgoing::Waived(why.clone()));
            }
            let message =
                format!("its issuer does not know the handle {handle}, given as the old credential");
            return Err(CallError::rejected(ErrorKind::NotFound, message)
                .hint("correct it: --outgoing NAME=HANDLE, or `outgoing` in the runbook"));
        }
        let identity = Identity { handle: handle.clone(), principal: name.to_owned() };
        return Ok(Outgoing::Named(Standing { identity, life, uses_left: None }));
    }
    let waived = || said.nothing_to_revoke.clone().map(Outgoing::Waived);
    let known = match material {
        None => None,
        Some(material) => match issuer.identify(material).await {
            Ok(standing) => standing,
            // The authority knows no names: it is told by the value itself.
            Err(e) if e.kind == ErrorKind::Unsupported && issuer.traits().revokes => {
                let identity = Identity { handle: "(by its value)".into(), principal: name.to_owned() };
                Some(Standing { identity, life: Life::Active, uses_left: None })
            }
            // A value that cannot be such a credential was sent nowhere.
            Err(e) if e.kind == ErrorKind::Invalid => return waived().ok_or(e),
            Err(e) => return Err(e),
        },
    };
    Ok(match known {
        Some(standing) if standing.life != Life::Gone => Outgoing::Known(standing),
        _ if is_on(Sabotage::Unknown) => Outgoing::Waived("broken on purpose".into()),
        _ => waived().unwrap_or_else(|| Outgoing::Gone { living: existing.to_vec() }),
    })
}
