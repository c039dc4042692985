//! What the server keeps of a password, computed here: the password itself is in no statement, no log of the server's and
//! no list of processes.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use sha2::{Digest as _, Sha512};

use super::spec::Authentication;
use crate::secret::Secret;

/// The hash, as `IDENTIFIED VIA … USING` takes it.
pub(super) fn hash(authentication: Authentication, password: &Secret) -> String {
    let password = password.expose().as_bytes();
    match authentication {
        // <https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/>
        Authentication::MysqlNativePassword => {
            let once = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
            let twice = digest(&SHA1_FOR_LEGACY_USE_ONLY, once.as_ref());
            format!("*{}", hex::encode_upper(twice.as_ref()))
        }
        // The public key of which the password is the seed, of any length:
        // <https://mariadb.com/kb/en/authentication-plugin-ed25519/>
        Authentication::Ed25519 => {
            let key = ExpandedSecretKey::from_bytes(&Sha512::digest(password).into());
            STANDARD_NO_PAD.encode(VerifyingKey::from(&key).to_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the server's own `PASSWORD('secret')` has them.
    #[test]
    fn the_hashes_are_the_servers() {
        let secret = Secret::new("secret");
        assert_eq!(
            hash(Authentication::MysqlNativePassword, &secret),
            "*14E65567ABDB5135D0CFD9A70B3032C179A49EE7"
        );
        assert_eq!(hash(Authentication::Ed25519, &secret), "ZIgUREUg5PVgQ6LskhXmO+eZLS0nC8be6HPjYWR4YJY");
    }
}
