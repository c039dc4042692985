//! Certificates (X.509, RFC 5280), as far as a rotation looks into them.

use std::collections::BTreeSet;

use der::{Encode as _, EncodePem as _};
use jiff::Timestamp;
use x509_cert::ext::pkix::{ExtendedKeyUsage, SubjectAltName};
use x509_cert::time::Time;

use super::names::shown;
use super::request::COMMON_NAME;

/// A certificate.
#[derive(Debug, Clone)]
pub(super) struct Certificate {
    inner: x509_cert::Certificate,
    /// As it was signed.
    pub(super) der: Vec<u8>,
}

impl Certificate {
    /// The first certificate of a text in PEM: what signed it may follow. `None` where there is none.
    pub(super) fn read(pem: &str) -> Option<Self> {
        let inner = x509_cert::Certificate::load_pem_chain(pem.trim().as_bytes()).ok()?.into_iter().next()?;
        let der = inner.to_der().ok()?;
        Some(Self { inner, der })
    }

    /// In PEM, without a line break at its end.
    pub(super) fn pem(&self) -> Option<String> {
        Some(self.inner.to_pem(der::pem::LineEnding::LF).ok()?.trim_end().to_owned())
    }

    /// The serial number, as the server writes it: `5e:7b:03`.
    pub(super) fn serial(&self) -> String {
        let bytes = self.inner.tbs_certificate.serial_number.as_bytes();
        // A byte of zeros keeps a number positive, and is no part of it.
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        bytes[start..].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
    }

    /// The public key, as [`crate::kind::key_pair::KeyPair::public_info`] writes it.
    pub(super) fn key(&self) -> Option<Vec<u8>> {
        self.inner.tbs_certificate.subject_public_key_info.to_der().ok()
    }

    pub(super) fn not_before(&self) -> Timestamp {
        timestamp(self.inner.tbs_certificate.validity.not_before)
    }

    pub(super) fn not_after(&self) -> Timestamp {
        timestamp(self.inner.tbs_certificate.validity.not_after)
    }

    /// Every name that the certificate is for: the common name, and the alternative names.
    pub(super) fn names(&self) -> BTreeSet<String> {
        let subject = self.inner.tbs_certificate.subject.0.iter().flat_map(|part| part.0.iter());
        let mut names: BTreeSet<String> = subject
            .filter(|part| part.oid == COMMON_NAME)
            .map(|part| String::from_utf8_lossy(part.value.value()).to_ascii_lowercase())
            .collect();
        if let Ok(Some((_, SubjectAltName(more)))) = self.inner.tbs_certificate.get::<SubjectAltName>() {
            names.extend(more.iter().map(shown));
        }
        names
    }

    /// What the certificate may be used for, each as an object identifier; empty where it does not say.
    pub(super) fn purposes(&self) -> Vec<String> {
        match self.inner.tbs_certificate.get::<ExtendedKeyUsage>() {
            Ok(Some((_, ExtendedKeyUsage(all)))) => all.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        }
    }
}

pub(super) fn timestamp(time: Time) -> Timestamp {
    i64::try_from(time.to_unix_duration().as_secs())
        .ok()
        .and_then(|seconds| Timestamp::from_second(seconds).ok())
        .unwrap_or(Timestamp::MAX)
}

/// A serial number in its one spelling; `None` of a text that is none.
pub(super) fn serial(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase().replace('-', ":");
    let pair = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    // `ca` is another thing's name there.
    (text.contains(':') && text.len() <= 62 && text.split(':').all(pair)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_has_one_spelling() {
        assert_eq!(serial("5E-7b-03").as_deref(), Some("5e:7b:03"));
        for bad in ["", "5", "5e:", "5e7b", "ca", "zz:00", "../x", &"00:".repeat(40)] {
            assert_eq!(serial(bad), None, "{bad}");
        }
    }
}
