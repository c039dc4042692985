//! The names that a certificate is for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use der::asn1::Ia5String;
use x509_cert::ext::pkix::name::GeneralName;

use super::spec::{VaultPki, is_host, is_mail};

/// The subject alternative names that a certificate of this runbook has.
///
/// # Errors
/// When a name has characters that none has.
pub(super) fn wanted(spec: &VaultPki) -> Result<Vec<GeneralName>, der::Error> {
    let mut names = Vec::new();
    let subject = Some(&spec.common_name).filter(|name| is_host(name) || is_mail(name));
    for name in subject.into_iter().chain(&spec.alt_names) {
        let text = Ia5String::new(name)?;
        names.push(match is_mail(name) {
            true => GeneralName::Rfc822Name(text),
            false => GeneralName::DnsName(text),
        });
    }
    names.extend(spec.ip_sans.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()).map(GeneralName::from));
    for uri in &spec.uri_sans {
        names.push(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?));
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(shown(name)));
    Ok(names)
}

/// A name, for people and to compare: host names are the same in every case.
pub(super) fn shown(name: &GeneralName) -> String {
    match name {
        GeneralName::DnsName(text) => text.as_str().to_ascii_lowercase(),
        GeneralName::Rfc822Name(text) => text.as_str().to_owned(),
        GeneralName::UniformResourceIdentifier(text) => text.as_str().to_owned(),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                .map_or_else(|_| "an address of an odd length".to_owned(), |ip| ip.to_string())
        }
        GeneralName::OtherName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::RegisteredId(_) => "a name of another kind".to_owned(),
    }
}
