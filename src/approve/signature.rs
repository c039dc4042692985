//! SSH signatures (`PROTOCOL.sshsig` of OpenSSH): read, and verified offline.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256, Sha512};
use ssh_key::public::KeyData;
use ssh_key::{Certificate, HashAlg};

use super::blob::{Blob, Reader, put, verify};
use super::certificate;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
/// A signature with a certificate has some 2 KiB.
const MAX: usize = 32 * 1024;

/// A security key's flag: somebody touched it.
const PRESENT: u8 = 0x01;
/// A security key's flag: it knows who, by a PIN or a finger.
const VERIFIED: u8 = 0x04;

/// A signature, read and not verified yet.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Who signed.
    pub signer: Signer,
    /// What it is for.
    pub namespace: String,
    hash: String,
    blob: Blob,
}

/// Who made a signature.
#[derive(Debug, Clone)]
pub struct Signer {
    /// The key.
    pub key: KeyData,
    /// The certificate that came with it, signed by its authority.
    pub certificate: Option<Certificate>,
}

impl Signature {
    /// Reads an armored signature, as `ssh-keygen -Y sign` writes it.
    ///
    /// # Errors
    /// A sentence, when it is not one.
    pub fn read(armor: &str) -> Result<Self, String> {
        let not = || "this is not an SSH signature, as `ssh-keygen -Y sign` writes it".to_owned();
        if armor.len() > MAX {
            return Err(not());
        }
        let body =
            armor.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or_else(not)?;
        let body: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let bytes = BASE64_STANDARD.decode(body).map_err(|_| not())?;
        let mut rest = Reader(bytes.strip_prefix(MAGIC).ok_or_else(not)?);
        let version = rest.number().ok_or_else(not)?;
        if version != 1 {
            return Err(format!("the signature has version {version}; stanch reads version 1"));
        }
        let mut next = || rest.string().ok_or_else(not);
        let (key, namespace, _reserved, hash, blob) = (next()?, next()?, next()?, next()?, next()?);
        if !rest.0.is_empty() {
            return Err(not());
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| not());
        Ok(Self {
            signer: Signer::read(key)?,
            namespace: text(namespace)?,
            hash: text(hash)?,
            blob: Blob::read(blob).ok_or_else(not)?,
        })
    }

    /// Whether the signature is the signer's, of these bytes.
    ///
    /// # Errors
    /// A sentence, when it is not.
    pub fn verify(&self, message: &[u8]) -> Result<(), String> {
        let hash = match self.hash.as_str() {
            "sha256" => Sha256::digest(message).to_vec(),
            "sha512" => Sha512::digest(message).to_vec(),
            other => return Err(format!("it uses the hash {}", crate::text::sanitize(other))),
        };
        let mut signed = MAGIC.to_vec();
        for part in [self.namespace.as_bytes(), b"", self.hash.as_bytes(), &hash] {
            put(&mut signed, part);
        }
        verify(&self.signer.key, &self.blob, &signed)
    }

    /// Whether the signature says that somebody touched a security key. `ssh-keygen -Y verify` does not look.
    pub fn is_present(&self) -> bool {
        self.blob.hardware.is_some_and(|(flags, _)| flags & PRESENT != 0)
    }

    /// Whether the signature says that a security key took a PIN or a finger. `ssh-keygen -Y verify` does not look.
    pub fn is_verified(&self) -> bool {
        self.blob.hardware.is_some_and(|(flags, _)| flags & VERIFIED != 0)
    }

    /// Whether a security key made it.
    pub fn is_hardware(&self) -> bool {
        self.blob.hardware.is_some()
    }
}

impl Signer {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let kind = Reader(bytes).string().unwrap_or_default();
        if kind.ends_with(b"-cert-v01@openssh.com") {
            let certificate = certificate::read(bytes)?;
            return Ok(Self { key: certificate.public_key().clone(), certificate: Some(certificate) });
        }
        let key = ssh_key::PublicKey::from_bytes(bytes)
            .map_err(|_| "the key of the signature is not of a kind that stanch knows".to_owned())?;
        Ok(Self { key: key.key_data().clone(), certificate: None })
    }

    /// A key from the text of a public key file, or of a certificate.
    ///
    /// # Errors
    /// A sentence, when it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let (_, blob) = (words.next(), words.next().unwrap_or_default());
        let bytes = BASE64_STANDARD.decode(blob).map_err(|_| "this is not a public key".to_owned())?;
        Self::read(&bytes)
    }

    /// The key's fingerprint, as `ssh-keygen -l` shows it.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }
}

/// A key's fingerprint, as `ssh-keygen -l` shows it.
pub(super) fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
