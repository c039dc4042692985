//! Key pairs of SSH: made, read, named by their fingerprint, and used.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use num_bigint::BigUint;
use rand::RngCore as _;
use rand::rngs::OsRng;
use ssh_key::private::{EcdsaKeypair, Ed25519Keypair, Ed25519PrivateKey, KeypairData, RsaKeypair};
use ssh_key::{HashAlg, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::domain::ErrorKind;
use crate::provider::CallError;
use crate::secret::Secret;

/// What an agent is asked for with a key of RSA (draft-ietf-sshm-ssh-agent, section 3.6.1).
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A private key, with the public one.
pub(super) struct Pair(PrivateKey);

impl Pair {
    /// A new private key of Ed25519 in OpenSSH's format; `None` when this machine gives no randomness.
    pub(super) fn generate(comment: &str) -> Option<Secret> {
        let mut seed = Zeroizing::new([0; Ed25519PrivateKey::BYTE_SIZE]);
        OsRng.try_fill_bytes(&mut *seed).ok()?;
        let private = Ed25519KeyPair::from_seed_unchecked(&*seed).ok()?;
        let public = aws_lc_rs::signature::KeyPair::public_key(&private).as_ref().try_into().ok()?;
        let pair = Ed25519Keypair {
            public: ssh_key::public::Ed25519PublicKey(public),
            private: Ed25519PrivateKey::from_bytes(&seed),
        };
        let key = PrivateKey::new(KeypairData::Ed25519(pair), comment).ok()?;
        // With the newline at its end, without which OpenSSH does not read a file.
        Some(Secret::new(key.to_openssh(LineEnding::LF).ok()?.as_str()))
    }

    /// Reads a private key, whatever its algorithm.
    ///
    /// # Errors
    /// When it is not one that can log in by itself. The error quotes nothing.
    pub(super) fn read(pem: &Secret) -> Result<Self, CallError> {
        let invalid = |message: &str, hint: &str| CallError::rejected(ErrorKind::Invalid, message).hint(hint);
        let pem = pem.expose().trim();
        let key = PrivateKey::from_openssh(pem).ok().or_else(|| padded(pem)).ok_or_else(|| {
            invalid(
                "the value is not a private key in OpenSSH's format",
                "`ssh-keygen -p -f KEY` writes a key of another format in OpenSSH's",
            )
        })?;
        if key.is_encrypted() {
            let hint = "`ssh-keygen -p -f KEY` removes it from a copy; or name the old key: --outgoing NAME=FINGERPRINT";
            return Err(invalid("the private key has a passphrase", hint));
        }
        match key.key_data() {
            KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) | KeypairData::Rsa(_) => Ok(Self(key)),
            _ => Err(invalid(
                "the private key is neither of Ed25519, nor of ECDSA, nor of RSA",
                "a key in a security key cannot be used without the person who holds it; name it: --outgoing NAME=FINGERPRINT",
            )),
        }
    }

    /// The public key as the protocol sends it (RFC 4253, section 6.6).
    pub(super) fn blob(&self) -> Vec<u8> {
        self.0.public_key().to_bytes().expect("a public key that was just read has a form")
    }

    /// The public key in one line: type and base64.
    pub(super) fn line(&self) -> String {
        let mut public = self.0.public_key().clone();
        public.set_comment("");
        public.to_openssh().expect("a public key that was just read has a form")
    }

    /// The name of the key, as `ssh-keygen -l` and the server's log write it.
    pub(super) fn fingerprint(&self) -> String {
        self.0.fingerprint(HashAlg::Sha256).to_string()
    }

    /// A signature as an agent returns it: its algorithm and its bytes. `None` for what this key does not sign with.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (algorithm, bytes) = match self.0.key_data() {
            KeypairData::Ed25519(pair) => {
                let signer =
                    Ed25519KeyPair::from_seed_and_public_key(pair.private.as_ref(), &pair.public.0).ok()?;
                ("ssh-ed25519", signer.sign(data).as_ref().to_vec())
            }
            KeypairData::Ecdsa(pair) => {
                let (name, algorithm, private) = curve(pair);
                let signer = EcdsaKeyPair::from_private_key_and_public_key(
                    algorithm,
                    private,
                    pair.public_key_bytes(),
                );
                let signature = signer.ok()?.sign(&random, data).ok()?;
                // Both numbers (RFC 5656, section 3.1.2).
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                let mut both = Vec::new();
                [r, s].iter().for_each(|number| string(&mut both, &positive(number)));
                (name, both)
            }
            KeypairData::Rsa(pair) => {
                let (name, padding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    // SHA-1: no server of this decade asks for it.
                    _ => return None,
                };
                let signer = rsa(pair)?;
                let mut signature = vec![0; signer.public_modulus_len()];
                signer.sign(padding, &random, data, &mut signature).ok()?;
                (name, signature)
            }
            _ => return None,
        };
        let mut signature = Vec::new();
        string(&mut signature, algorithm.as_bytes());
        string(&mut signature, &bytes);
        Some(signature)
    }
}

fn curve(pair: &EcdsaKeypair) -> (&'static str, &'static EcdsaSigningAlgorithm, &[u8]) {
    match pair {
        EcdsaKeypair::NistP256 { private, .. } => {
            ("ecdsa-sha2-nistp256", &ECDSA_P256_SHA256_FIXED_SIGNING, private.as_slice())
        }
        EcdsaKeypair::NistP384 { private, .. } => {
            ("ecdsa-sha2-nistp384", &ECDSA_P384_SHA384_FIXED_SIGNING, private.as_slice())
        }
        EcdsaKeypair::NistP521 { private, .. } => {
            ("ecdsa-sha2-nistp521", &ECDSA_P521_SHA512_FIXED_SIGNING, private.as_slice())
        }
    }
}

/// OpenSSH's file lacks two numbers that everything else keeps (RFC 8017, section 3.2).
fn rsa(pair: &RsaKeypair) -> Option<RsaKeyPair> {
    let number =
        |number: &ssh_key::Mpint| number.as_positive_bytes().map(|bytes| Zeroizing::new(bytes.to_vec()));
    let (d, p, q) = (number(&pair.private.d)?, number(&pair.private.p)?, number(&pair.private.q)?);
    let modulo = |prime: &[u8]| {
        let prime = BigUint::from_bytes_be(prime);
        if prime <= BigUint::from(1_u8) {
            return None;
        }
        Some(Zeroizing::new((BigUint::from_bytes_be(&d) % (prime - 1_u8)).to_bytes_be()))
    };
    let (dp, dq, inverse) = (modulo(&p)?, modulo(&q)?, number(&pair.private.iqmp)?);
    let (n, e) = (number(&pair.public.n)?, number(&pair.public.e)?);
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n: n.as_slice(), e: e.as_slice() },
        d: d.as_slice(),
        p: p.as_slice(),
        q: q.as_slice(),
        dP: dp.as_slice(),
        dQ: dq.as_slice(),
        qInv: inverse.as_slice(),
    };
    RsaKeyPair::from_components(&components).ok()
}

/// A key of ECDSA whose number begins with zeros. OpenSSH writes it without them (PROTOCOL.key, RFC 4251), and `ssh-key`
/// reads it with all of them alone.
fn padded(pem: &str) -> Option<PrivateKey> {
    let body = pem.strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?;
    let body = Zeroizing::new(
        body.strip_suffix("-----END OPENSSH PRIVATE KEY-----")?.split_whitespace().collect::<String>(),
    );
    let bytes = Zeroizing::new(STANDARD.decode(body.as_bytes()).ok()?);
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    // Cipher, key derivation and its options; then one key: its public half, and the part that would be encrypted.
    let mut skipped = 0;
    for _ in 0..3 {
        let (field, after) = take(rest)?;
        (skipped, rest) = (skipped + 4 + field.len(), after);
    }
    let (public, after) = take(rest.strip_prefix(&[0, 0, 0, 1])?)?;
    let (section, _) = take(after)?;
    let (check, fields) = section.split_at_checked(8)?;
    let (kind, after) = take(fields)?;
    let (curve, after) = take(after)?;
    let (point, after) = take(after)?;
    let (number, after) = take(after)?;
    let (comment, _) = take(after)?;
    let size = match curve {
        b"nistp256" => 32,
        b"nistp384" => 48,
        b"nistp521" => 66,
        _ => return None,
    };
    let mut whole = Zeroizing::new(vec![0; size - Some(number.len()).filter(|length| *length < size)?]);
    whole.extend_from_slice(number);
    let mut section = Zeroizing::new(check.to_vec());
    [kind, curve, point, &whole, comment].iter().for_each(|field| string(&mut section, field));
    let end = section.len().next_multiple_of(8) - section.len();
    section.extend((1..).take(end));
    let mut key = Zeroizing::new(bytes[..15 + skipped + 4].to_vec());
    string(&mut key, public);
    string(&mut key, &section);
    PrivateKey::from_bytes(&key).ok()
}

/// A string, and what follows it.
pub(super) fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

/// Adds a string (RFC 4251, section 5).
pub(super) fn string(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend(u32::try_from(bytes.len()).expect("it is far shorter").to_be_bytes());
    to.extend(bytes);
}

/// A number that is not negative, as an `mpint` (RFC 4251, section 5) has it.
fn positive(bytes: &[u8]) -> Vec<u8> {
    let digits = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign = digits.first().filter(|first| **first >= 0x80).map(|_| 0);
    sign.into_iter().chain(digits.iter().copied()).collect()
}
