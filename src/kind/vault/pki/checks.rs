//! Whether every later step will be permitted, and whether a new certificate can take the old one's place.

use super::certificate::Certificate;
use super::names::{shown, wanted};
use super::server::CertificateIssuer;
use crate::domain::{Check, ErrorKind};
use crate::kind::vault::permissions::{self, Need};
use crate::provider::CallError;
use crate::text::{counted, sanitize_long};

impl CertificateIssuer {
    /// Every check, in the order of what they are about.
    pub(super) async fn checks(&self, outgoing: Option<&str>) -> Vec<Check> {
        let (needs, what) = (self.needs(), format!("the certificates of {}", self.spec.mount));
        let old = async {
            match outgoing {
                Some(handle) => Ok(self.record(handle).await?.map(|record| record.certificate)),
                None => Ok::<_, CallError>(None),
            }
        };
        let (permissions, role, lists, old, list) = tokio::join!(
            permissions::check(&self.client, &what, &needs),
            self.role(),
            self.lists_check(),
            old,
            self.serials()
        );
        let (old, mut checks) = match old {
            Ok(old) => (old, vec![permissions]),
            Err(error) => (None, vec![permissions, error.to_check("old certificate")]),
        };
        checks.push(match role {
            Ok(role) => role.check(&self.spec, old.as_ref()),
            Err(error) => Check {
                hint: Some("correct `mount` and `role` in the runbook".to_owned()),
                ..error.to_check(&format!("role {}", self.spec.role))
            },
        });
        checks.push(lists);
        // Found again by its key, a new certificate must be in the list of all.
        checks.push(match list {
            Ok(all) => Check::pass(
                "certificates",
                format!("the server stores {}", counted(all.len() as u64, "certificate")),
            ),
            Err(error) => error.to_check("certificates"),
        });
        if let Some(old) = &old {
            checks.extend(self.old_checks(old));
        }
        if let Some(handle) = outgoing {
            checks.push(self.own_check(handle));
        }
        checks
    }

    fn needs(&self) -> Vec<Need> {
        let spec = &self.spec;
        let mut needs = vec![
            Need::new(spec.path(&format!("roles/{}", spec.role)), &["read"], "read the role"),
            Need::new(spec.path("config/crl"), &["read"], "read how revocation lists are made"),
            Need::listing(spec.path("certs"), &["list"], "list certificates"),
            Need::new(
                spec.path(&format!("sign/{}", spec.role)),
                &["update", "create"],
                "sign the new certificate",
            )
            .sending(&super::server::SENT),
            Need::new(spec.path("revoke"), &["update", "create"], "revoke certificates")
                .sending(&["serial_number"]),
        ];
        if spec.rotate_crl {
            needs.push(Need::new(spec.path("crl/rotate"), &["read"], "ask for new revocation lists"));
        }
        needs
    }

    /// Whether a new certificate is for all that the old one is for.
    fn old_checks(&self, old: &Certificate) -> Vec<Check> {
        let ends = old.not_after();
        let mut checks = Vec::new();
        if ends <= self.clock.now().wall {
            checks.push(Check::fail(
                "old certificate",
                ErrorKind::Conflict,
                format!("it expired at {ends:.0}: the server revokes no expired certificate, and puts none on its list"),
                "issue a new certificate by other means; there is nothing to revoke",
            ));
        }
        let Ok(names) = wanted(&self.spec) else { return checks };
        let mut new: std::collections::BTreeSet<String> = names.iter().map(shown).collect();
        new.insert(self.spec.common_name.to_ascii_lowercase());
        let old = old.names();
        let missing: Vec<&str> = old.difference(&new).map(String::as_str).collect();
        let more: Vec<&str> = new.difference(&old).map(String::as_str).collect();
        let mut check = if !missing.is_empty() {
            let hint = "add them to `alt_names`, `ip_sans` or `uri_sans` of the issuer, then plan again";
            let detail = format!("the old certificate is also for {}", missing.join(", "));
            Check { detail, ..Check::fail("names", ErrorKind::Conflict, "", hint) }
        } else if !more.is_empty() {
            let detail = format!("the new certificate will also be for {}", more.join(", "));
            Check { detail, ..Check::warn("names", "") }
        } else {
            Check::pass("names", "the new certificate will have the names of the old one")
        };
        check.detail = sanitize_long(&check.detail);
        checks.push(check);
        checks
    }

    /// Whether stanch shows the server the very certificate that it is to revoke.
    pub(super) fn own_check(&self, handle: &str) -> Check {
        const NAME: &str = "own credential";
        let own = match self.client.settings().identity() {
            Ok(own) => own.and_then(|(pem, _)| Certificate::read(pem.expose())),
            Err(error) => return error.to_check(NAME),
        };
        match own {
            Some(own) if own.serial() == handle => Check::fail(
                NAME,
                ErrorKind::Conflict,
                "VAULT_CLIENT_CERT is the certificate that this run is to revoke",
                "give stanch another client certificate",
            ),
            _ => Check::pass(NAME, "stanch works with no certificate that it revokes"),
        }
    }
}
