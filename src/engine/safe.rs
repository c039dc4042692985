//! The run's secrets: in memory while the process lives, sealed on disk before anything sees them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::domain::Identity;
use crate::journal::SealedEntry;
use crate::plan::Action;
use crate::provider::CallError;
use crate::rotation::{Event, State, Status};
use crate::sabotage::{Sabotage, is_on};
use crate::secret::{
    Fingerprint, FingerprintKey, Material, NotMaterial, Scrubber, SealError, Sealer, Secret,
};

/// One version of a credential, with the name that its issuer has for it, where that is known.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) material: Arc<Material>,
    pub(super) identity: Option<Identity>,
}

/// Names, in the sealed file, of what is kept.
pub(super) fn incoming(credential: &str, round: u32) -> String {
    format!("incoming/{credential}/{round}")
}

pub(super) fn outgoing(credential: &str, store: usize) -> String {
    format!("outgoing/{credential}/{store}")
}

const FINGERPRINT_KEY: &str = "fingerprint-key";

/// Holds and seals.
pub(super) struct Safe {
    sealer: Arc<Sealer>,
    key: FingerprintKey,
    held: Mutex<HashMap<String, Held>>,
    scrubber: Mutex<Scrubber>,
}

/// A sealed secret cannot be made, or cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum SafeError {
    /// Sealing or opening failed.
    #[error("stanch cannot seal or open a secret of this run")]
    Seal(#[source] SealError),
    /// What was opened is not what was sealed.
    #[error("a sealed secret of this run has an unknown format")]
    Form,
}

/// The sealed text's form. It is made and read here only.
#[derive(Serialize, Deserialize)]
struct Form {
    material: String,
    identity: Option<Identity>,
}

impl Safe {
    /// The safe of a run: what was sealed before, and the run's fingerprint key, which is made and
    /// returned for keeping where there is none.
    pub(super) fn open(
        sealer: Arc<Sealer>,
        entries: &[SealedEntry],
    ) -> Result<(Self, Option<SealedEntry>), SafeError> {
        let mut held = HashMap::new();
        let mut scrubber = Scrubber::default();
        let mut key = None;
        for entry in entries {
            let text = sealer.open(&entry.sealed).map_err(SafeError::Seal)?;
            if entry.name == FINGERPRINT_KEY {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text.expose(), &mut bytes).map_err(|_| SafeError::Form)?;
                key = Some(FingerprintKey::from_bytes(bytes));
            } else {
                let mut form: Form = serde_json::from_str(text.expose()).map_err(|_| SafeError::Form)?;
                let material = Material::from_json(&Secret::new(std::mem::take(&mut form.material)))
                    .map_err(|NotMaterial| SafeError::Form)?;
                scrubber.add(&material);
                held.insert(
                    entry.name.clone(),
                    Held { material: Arc::new(material), identity: form.identity.take() },
                );
            }
        }
        let (key, fresh) = match key {
            Some(key) => (key, None),
            None => {
                let key = FingerprintKey::generate();
                let text = Secret::new(hex::encode(key.expose()));
                let sealed = sealer.seal(&text).map_err(SafeError::Seal)?;
                (key, Some(SealedEntry { name: FINGERPRINT_KEY.into(), sealed }))
            }
        };
        Ok((Self { sealer, key, held: Mutex::new(held), scrubber: Mutex::new(scrubber) }, fresh))
    }

    /// Puts something in. The entry must be made durable before anything outside sees the secret.
    pub(super) fn put(
        &self,
        name: &str,
        material: Material,
        identity: Option<Identity>,
    ) -> Result<SealedEntry, SafeError> {
        let form = Form { material: material.to_json().expose().to_owned(), identity: identity.clone() };
        let text = Secret::new(serde_json::to_string(&form).map_err(|_| SafeError::Form)?);
        let sealed = self.sealer.seal(&text).map_err(SafeError::Seal)?;
        self.scrubber().add(&material);
        let held = Held { material: Arc::new(material), identity };
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), held);
        Ok(SealedEntry { name: name.to_owned(), sealed })
    }

    /// Takes something out.
    pub(super) fn get(&self, name: &str) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Learns a secret that is only to be kept out of texts.
    pub(super) fn know(&self, secret: Secret) {
        self.learn(&Material::single("value", secret));
    }

    /// Learns a whole credential that is only to be kept out of texts.
    pub(super) fn learn(&self, material: &Material) {
        self.scrubber().add(material);
    }

    /// The text without any secret of the run, in any encoding.
    pub(super) fn clean(&self, text: &str) -> String {
        if is_on(Sabotage::Leak) {
            return text.to_owned();
        }
        self.scrubber().clean(text)
    }

    /// Refuses a version that tells a secret of the run, or lets one be guessed, before it is recorded.
    pub(super) fn refuse_telling(&self, version: &str) -> Result<(), CallError> {
        if self.scrubber().tells(version) { Err(CallError::telling()) } else { Ok(()) }
    }

    fn scrubber(&self) -> MutexGuard<'_, Scrubber> {
        self.scrubber.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keyed fingerprint of a credential.
    pub(super) fn fingerprint(&self, material: &Material) -> Fingerprint {
        self.key.of(material)
    }
}

/// Takes out of an event, which no engine records, whatever is a secret of the run.
///
/// # Errors
/// When the run's sealed secrets cannot be opened.
pub fn scrub(sealer: Arc<Sealer>, entries: &[SealedEntry], event: &mut Event) -> Result<(), SafeError> {
    let (safe, _) = Safe::open(sealer, entries)?;
    event.scrub(&|text| safe.clean(text));
    Ok(())
}

/// Whether the run's sealed secrets can be opened. One of them tells: the same key seals all.
///
/// # Errors
/// When they cannot.
pub fn try_open(sealer: &Sealer, entries: &[SealedEntry]) -> Result<(), SafeError> {
    entries.first().map_or(Ok(()), |entry| sealer.open(&entry.sealed).map(drop).map_err(SafeError::Seal))
}

/// Whether every old value that the run has captured is among its sealed secrets.
pub fn has_captured(entries: &[SealedEntry], state: &State) -> bool {
    let plan = state.plan();
    let sealed: HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    plan.steps.iter().enumerate().all(|(at, step)| match step.action {
        // What cannot be read is captured with a store that can.
        Action::Capture { credential, store }
            if *state.status(at) == Status::Done && plan.credentials[credential].source(store) == store =>
        {
            sealed.contains(outgoing(&plan.credentials[credential].name, store).as_str())
        }
        _ => true,
    })
}

impl Drop for Form {
    fn drop(&mut self) {
        use zeroize::Zeroize as _;
        self.material.zeroize();
    }
}
