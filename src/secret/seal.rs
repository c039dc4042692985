//! Sealing: secrets at rest, encrypted with age to an identity that stands outside the run.

use std::io::{self, Read, Write};
use std::str::FromStr;

use age::x25519;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Secret;

/// Encrypts to, and decrypts with, one age identity.
pub struct Sealer {
    identity: x25519::Identity,
    recipient: x25519::Recipient,
    /// A simulation seals millions of values that are not secret.
    #[cfg(feature = "simulation")]
    transparent: bool,
}

/// Somebody that a file is encrypted for: an age X25519 recipient, `age1…`.
#[derive(Debug, Clone)]
pub struct Recipient(x25519::Recipient);

impl FromStr for Recipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let recipient = text.trim().parse();
        recipient.map(Self).map_err(|_| "it is not an age X25519 recipient, such as age1…")
    }
}

/// Sealing or unsealing failed. The message never contains plaintext.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The identity file's content is not an age identity.
    #[error("the sealing identity is not an age X25519 identity: {0}")]
    Identity(&'static str),
    /// Encryption failed.
    #[error("cannot seal")]
    Seal(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The sealed text is damaged, or was sealed to another identity.
    #[error("cannot open a sealed secret: it is damaged, or it was sealed to another identity")]
    Open(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Sealer {
    /// A sealer with a new identity, and the identity's text, which is a secret.
    pub fn generate() -> (Self, Secret) {
        use age::secrecy::ExposeSecret as _;
        let identity = x25519::Identity::generate();
        let text = Secret::new(identity.to_string().expose_secret());
        (Self::new(identity), text)
    }

    /// A sealer from an identity's text.
    ///
    /// # Errors
    /// When the text is not an age identity.
    pub fn from_identity(text: &Secret) -> Result<Self, SealError> {
        let identity = x25519::Identity::from_str(text.expose().trim()).map_err(SealError::Identity)?;
        Ok(Self::new(identity))
    }

    fn new(identity: x25519::Identity) -> Self {
        let recipient = identity.to_public();
        Self {
            identity,
            recipient,
            #[cfg(feature = "simulation")]
            transparent: false,
        }
    }

    /// A sealer that does not encrypt.
    #[cfg(feature = "simulation")]
    pub fn transparent() -> Self {
        Self { transparent: true, ..Self::new(x25519::Identity::generate()) }
    }

    /// Encrypts what is read, for this identity and for others: an age file, which `age --decrypt` opens.
    ///
    /// # Errors
    /// When reading, writing or age fails.
    pub fn encrypt(&self, others: &[Recipient], from: &mut dyn Read, to: &mut dyn Write) -> io::Result<()> {
        let own = std::iter::once(&self.recipient as &dyn age::Recipient);
        let all = own.chain(others.iter().map(|other| &other.0 as &dyn age::Recipient));
        let encryptor = age::Encryptor::with_recipients(all).map_err(io::Error::other)?;
        let mut writer = encryptor.wrap_output(to)?;
        io::copy(from, &mut writer)?;
        writer.finish().map(drop)
    }

    /// Decrypts what [`Sealer::encrypt`] made.
    ///
    /// # Errors
    /// When it is damaged or was encrypted for others, or when reading or writing fails.
    pub fn decrypt(&self, from: impl Read, to: &mut dyn Write) -> io::Result<()> {
        let decryptor = age::Decryptor::new(from).map_err(io::Error::other)?;
        let identity = std::iter::once(&self.identity as &dyn age::Identity);
        let mut reader = decryptor.decrypt(identity).map_err(io::Error::other)?;
        io::copy(&mut reader, to).map(drop)
    }

    /// Encrypts a secret; the result is base64 text.
    ///
    /// # Errors
    /// When age fails.
    pub fn seal(&self, secret: &Secret) -> Result<String, SealError> {
        #[cfg(feature = "simulation")]
        if self.transparent {
            return Ok(BASE64.encode(secret.expose()));
        }
        let bytes = age::encrypt(&self.recipient, secret.expose().as_bytes())
            .map_err(|e| SealError::Seal(Box::new(e)))?;
        Ok(BASE64.encode(bytes))
    }

    /// Decrypts what [`Sealer::seal`] made.
    ///
    /// # Errors
    /// When the text is damaged or was sealed to another identity.
    pub fn open(&self, sealed: &str) -> Result<Secret, SealError> {
        let fail = |e: Box<dyn std::error::Error + Send + Sync>| SealError::Open(e);
        let bytes = BASE64.decode(sealed).map_err(|e| fail(Box::new(e)))?;
        #[cfg(feature = "simulation")]
        if self.transparent {
            return String::from_utf8(bytes).map(Secret::new).map_err(|e| fail(Box::new(e)));
        }
        let decryptor = age::Decryptor::new(&bytes[..]).map_err(|e| fail(Box::new(e)))?;
        let mut reader = decryptor
            .decrypt(std::iter::once(&self.identity as &dyn age::Identity))
            .map_err(|e| fail(Box::new(e)))?;
        let mut text = String::new();
        reader.read_to_string(&mut text).map_err(|e| fail(Box::new(e)))?;
        Ok(Secret::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let (sealer, identity) = Sealer::generate();
        let sealed = sealer.seal(&Secret::new("canary-value")).expect("seal");
        assert!(!sealed.contains("canary"));
        let again = Sealer::from_identity(&identity).expect("identity");
        assert_eq!(again.open(&sealed).expect("open").expose(), "canary-value");
        let (other, _) = Sealer::generate();
        assert!(matches!(other.open(&sealed), Err(SealError::Open(_))));
        assert!(matches!(sealer.open(&sealed[..sealed.len() - 8]), Err(SealError::Open(_))));
    }
}
