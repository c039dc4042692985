//! SSH signatures (`PROTOCOL.sshsig` of OpenSSH): read, and verified offline.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256, Sha512};
use ssh_key::public::{EcdsaPublicKey, KeyData};
use ssh_key::{Certificate, HashAlg};

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

/// What the key itself made.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    algorithm: String,
    bytes: Vec<u8>,
    /// A security key's flags and counter.
    hardware: Option<(u8, u32)>,
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

impl Blob {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let algorithm = String::from_utf8(rest.string()?.to_vec()).ok()?;
        let bytes = rest.string()?.to_vec();
        let hardware = match algorithm.starts_with("sk-") {
            true => Some((rest.byte()?, rest.number()?)),
            false => None,
        };
        rest.0.is_empty().then_some(Self { algorithm, bytes, hardware })
    }
}

/// Whether a key made a signature of these bytes.
pub(super) fn verify(key: &KeyData, blob: &Blob, message: &[u8]) -> Result<(), String> {
    let bad = || "the signature does not fit what was signed".to_owned();
    let expected = key.algorithm();
    let named = blob.algorithm.as_str();
    let with = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], bytes: &[u8]| {
        let key = ParsedPublicKey::new(algorithm, key).map_err(|_| "the key is not valid".to_owned())?;
        key.verify_sig(message, bytes).map_err(|_| bad())
    };
    if let KeyData::Rsa(rsa) = key {
        let algorithm = match named {
            "rsa-sha2-512" => &RSA_PKCS1_2048_8192_SHA512,
            "rsa-sha2-256" => &RSA_PKCS1_2048_8192_SHA256,
            other => return Err(format!("it uses {}, which is too weak", crate::text::sanitize(other))),
        };
        let (Some(n), Some(e)) = (rsa.n.as_positive_bytes(), rsa.e.as_positive_bytes()) else {
            return Err("the key is not valid".into());
        };
        if n.len() < 256 {
            return Err(format!("the RSA key has {} bits; stanch takes 2048 and more", n.len() * 8));
        }
        return PublicKeyComponents { n, e }.verify(algorithm, message, &blob.bytes).map_err(|_| bad());
    }
    if named != expected.as_str() {
        return Err(format!(
            "the signature is of {}, and the key of {expected}",
            crate::text::sanitize(named)
        ));
    }
    match key {
        KeyData::Ed25519(key) => with(&ED25519, key.as_ref(), message, &blob.bytes),
        KeyData::Ecdsa(key) => {
            let (algorithm, size): (&'static dyn VerificationAlgorithm, _) = match key {
                EcdsaPublicKey::NistP256(_) => (&ECDSA_P256_SHA256_FIXED, 32),
                EcdsaPublicKey::NistP384(_) => (&ECDSA_P384_SHA384_FIXED, 48),
                EcdsaPublicKey::NistP521(_) => (&ECDSA_P521_SHA512_FIXED, 66),
            };
            with(algorithm, key.as_sec1_bytes(), message, &fixed(&blob.bytes, size).ok_or_else(bad)?)
        }
        KeyData::SkEd25519(key) => {
            let message = by_hardware(key.application(), blob, message).ok_or_else(bad)?;
            with(&ED25519, key.public_key().as_ref(), &message, &blob.bytes)
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            let message = by_hardware(key.application(), blob, message).ok_or_else(bad)?;
            let bytes = fixed(&blob.bytes, 32).ok_or_else(bad)?;
            with(&ECDSA_P256_SHA256_FIXED, key.ec_point().as_bytes(), &message, &bytes)
        }
        _ => Err(format!("stanch does not take keys of {expected}")),
    }
}

/// What a security key signs (`PROTOCOL.u2f`).
fn by_hardware(application: &str, blob: &Blob, message: &[u8]) -> Option<Vec<u8>> {
    let (flags, counter) = blob.hardware?;
    let mut signed = Sha256::digest(application).to_vec();
    signed.push(flags);
    signed.extend(counter.to_be_bytes());
    signed.extend(Sha256::digest(message));
    Some(signed)
}

/// The two numbers of an ECDSA signature, in one length.
fn fixed(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let mut rest = Reader(bytes);
    let mut out = Vec::with_capacity(2 * size);
    for _ in 0..2 {
        let number = rest.string()?;
        // A sign that a positive number needs.
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        out.extend(std::iter::repeat_n(0, size.checked_sub(number.len())?));
        out.extend(number);
    }
    rest.0.is_empty().then_some(out)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Bytes in the encoding of SSH (RFC 4251, section 5).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (string, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(string)
    }
}
