//! The journal's signing key, and the checkpoints that it signs: C2SP signed notes over
//! C2SP tlog-checkpoints (<https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use signed_note::{Note, StandardSigner, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash};

use crate::secret::Secret;

/// The name in the key, and so in every signature line.
const KEY_NAME: &str = "stanch-journal";

/// Signs checkpoints.
#[derive(Clone)]
pub(super) struct SigningKey {
    signer: StandardSigner,
    verifier: String,
}

/// Checks checkpoints. Holds verifier keys in the note format.
#[derive(Debug, Clone)]
pub struct VerifyingKeys {
    keys: Vec<String>,
}

/// A key, or a checkpoint, is not right.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// The key's text is not one.
    #[error("it is not a key in the signed-note format")]
    Malformed,
    /// The note cannot be read, or it is not signed with a known key.
    #[error("it is not signed with a known key")]
    Signature,
    /// There is none.
    #[error("the key is missing")]
    Missing,
    /// The key is a good one, and not the one that is valid now.
    #[error("it is not the key that the index names as current")]
    NotPresent,
    /// The signature is good, and the note is about something else.
    #[error("its signature is valid, but it names a different {0}")]
    Other(&'static str),
}

/// The first line of a run's checkpoints, so that another run's cannot stand in for them.
pub(super) fn run_origin(run: &str) -> String {
    format!("stanch-journal/{run}")
}

/// What a note with a good signature says: the journal of this origin began with so many records,
/// under this root.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    pub(super) origin: String,
    pub(super) size: u64,
    pub(super) root: Hash,
    about: String,
}

impl SigningKey {
    /// A new key's private text, which is a secret.
    pub(super) fn generate() -> Secret {
        Secret::new(signed_note::generate_key(&mut rand::rngs::OsRng, KEY_NAME).0)
    }

    pub(super) fn parse(private: &Secret) -> Result<Self, KeyError> {
        let text = private.expose().trim();
        let signer = StandardSigner::new(text).map_err(|_| KeyError::Malformed)?;
        // The format: PRIVATE+KEY+name+hash+base64 of the algorithm's byte and the seed.
        let seed = text
            .splitn(5, '+')
            .nth(4)
            .and_then(|encoded| BASE64.decode(encoded).ok())
            .and_then(|bytes| <[u8; 32]>::try_from(bytes.get(1..)?).ok())
            .ok_or(KeyError::Malformed)?;
        let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
        let verifier = format!("{}\n", signed_note::new_ed25519_verifier_key(KEY_NAME, &public));
        Ok(Self { signer, verifier })
    }

    /// The public half, as a line of the note format.
    pub(super) fn verifier(&self) -> String {
        self.verifier.clone()
    }

    /// A signed checkpoint, as text. `about` is a line that the signature covers as well.
    pub(super) fn sign(&self, origin: &str, size: u64, root: Hash, about: &str) -> Result<String, KeyError> {
        let checkpoint =
            Checkpoint::new(origin, size, root, &format!("{about}\n")).map_err(|_| KeyError::Malformed)?;
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(|_| KeyError::Malformed)?;
        note.add_sigs(&[&self.signer]).map_err(|_| KeyError::Malformed)?;
        String::from_utf8(note.to_bytes()).map_err(|_| KeyError::Malformed)
    }
}

impl VerifyingKeys {
    /// Keys from text: one verifier key a line; empty lines and lines that begin with `#` are
    /// passed over.
    ///
    /// # Errors
    /// When a line is not a key, or there is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let keys: Vec<String> = text
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .map(str::to_owned)
            .collect();
        if keys.is_empty() || keys.iter().any(|k| StandardVerifier::new(k).is_err()) {
            return Err(KeyError::Malformed);
        }
        Ok(Self { keys })
    }

    /// One key, which was parsed before; without one nothing passes.
    pub(super) fn one(key: &str) -> Self {
        Self { keys: vec![key.to_owned()] }
    }

    /// The keys, as lines of the note format, in the order in which they were given.
    pub fn lines(&self) -> &[String] {
        &self.keys
    }

    /// Checks that `note` is a checkpoint of this origin, of this size, with this root, and `about`
    /// the same thing.
    pub(super) fn check(
        &self,
        note: &str,
        origin: &str,
        size: u64,
        root: Hash,
        about: &str,
    ) -> Result<(), KeyError> {
        let claim = self.open(note)?;
        if claim.origin != origin {
            return Err(KeyError::Other("journal"));
        }
        if claim.size != size {
            return Err(KeyError::Other("number of records"));
        }
        if claim.root != root {
            return Err(KeyError::Other("content"));
        }
        if claim.about.strip_suffix('\n') != Some(about) {
            return Err(KeyError::Other("envelope"));
        }
        Ok(())
    }

    /// What a note says, once its signature is checked.
    pub(super) fn open(&self, note: &str) -> Result<Claim, KeyError> {
        let verifiers: Vec<Box<dyn Verifier>> = self
            .keys
            .iter()
            .filter_map(|k| StandardVerifier::new(k).ok())
            .map(|v| Box::new(v) as Box<dyn Verifier>)
            .collect();
        // One signature and no more: every byte of the line is then vouched for.
        let signatures = note.rsplit_once("\n\n").map_or(0, |(_, lines)| lines.lines().count());
        if signatures != 1 {
            return Err(KeyError::Signature);
        }
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| KeyError::Signature)?;
        note.verify(&VerifierList::new(verifiers)).map_err(|_| KeyError::Signature)?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| KeyError::Other("thing"))?;
        Ok(Claim {
            origin: checkpoint.origin().to_owned(),
            size: checkpoint.size(),
            root: *checkpoint.hash(),
            about: checkpoint.extension().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_good_for_one_run_one_size_and_one_root() {
        let key = SigningKey::parse(&SigningKey::generate()).expect("own key");
        let keys = VerifyingKeys::parse(&key.verifier()).expect("own key");
        let root = Hash([7; 32]);
        let note = key.sign("run-a", 5, root, "x").expect("sign");
        assert_eq!(keys.check(&note, "run-a", 5, root, "x"), Ok(()));
        assert_eq!(keys.check(&note, "run-b", 5, root, "x"), Err(KeyError::Other("journal")));
        assert_eq!(keys.check(&note, "run-a", 6, root, "x"), Err(KeyError::Other("number of records")));
        assert_eq!(keys.check(&note, "run-a", 5, Hash([8; 32]), "x"), Err(KeyError::Other("content")));
        assert_eq!(keys.check(&note, "run-a", 5, root, "y"), Err(KeyError::Other("envelope")));
        let other = SigningKey::parse(&SigningKey::generate()).expect("another key");
        let other = VerifyingKeys::parse(&other.verifier()).expect("key");
        assert_eq!(other.check(&note, "run-a", 5, root, "x"), Err(KeyError::Signature));
        let doubled = format!("{note}{}\n", note.lines().last().expect("a signature"));
        assert_eq!(keys.check(&doubled, "run-a", 5, root, "x"), Err(KeyError::Signature));
        let forged = note.replace("\n5\n", "\n4\n");
        assert_eq!(keys.check(&forged, "run-a", 4, root, "x"), Err(KeyError::Signature));
    }
}
