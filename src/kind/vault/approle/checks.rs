//! What can be known of a secret id before it is made, and before the old one dies.

use super::info::{AppRole, login_name};
use super::server::ApproleIssuer;
use super::spec::split;
use crate::domain::{Check, ErrorKind, Identity, Period};
use crate::kind::vault::logins::{needs, own_check};
use crate::kind::vault::network;
use crate::kind::vault::permissions::{self, Need};
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::token_info::{Login, TokenInfo};
use crate::provider::outcome::CallError;
use crate::text::counted;

/// stanch logs in itself: some times in a row at every check, again before what cannot be undone, and beside
/// every refusal of the old secret id. With fewer uses than this there is none left for the application.
const OWN_USES: u32 = 30;
/// How many names are shown where there may be hundreds.
const SHOWN: usize = 5;

impl ApproleIssuer {
    /// Everything that can be looked at: what is missing or does not fit is named at once.
    pub(super) async fn checks(&self, outgoing: Option<&Identity>) -> Vec<Check> {
        let (needs, what) = (self.needs(), format!("the secret ids of {}", self.spec.role));
        let look = async {
            match outgoing {
                Some(outgoing) => Some(self.look(&outgoing.handle).await),
                None => None,
            }
        };
        let (permissions, role, own, logins) = tokio::join!(
            permissions::check(&self.client, &what, &needs),
            self.role(),
            known_own_token(&self.client),
            look
        );
        let mut checks = vec![permissions, self.role_check(role)];
        checks.extend(self.uses());
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                checks.push(error.to_check("own token"));
                return checks;
            }
        };
        match logins {
            None => checks.push(self.own_check(&own, None, &[])),
            Some(Ok((logins, doubles))) => {
                let handle = outgoing.map(|outgoing| outgoing.handle.as_str());
                checks.push(self.own_check(&own, handle, &logins));
                checks.push(logins_check(handle.unwrap_or_default(), &logins, &doubles));
            }
            Some(Err(error)) => checks.push(error.to_check("logins")),
        }
        checks
    }

    async fn look(&self, handle: &str) -> Result<(Vec<TokenInfo>, Vec<String>), CallError> {
        tokio::try_join!(self.logins(handle), self.doubles(handle))
    }

    fn needs(&self) -> Vec<Need> {
        const UPDATE: &[&str] = &["update", "create"];
        const ACCESSOR: &[&str] = &["secret_id_accessor"];
        let spec = &self.spec;
        let mut sends = vec!["metadata"];
        sends.extend(spec.ttl.map(|_| "ttl"));
        sends.extend((spec.num_uses > 0).then_some("num_uses"));
        sends.extend((!spec.cidr_list.is_empty()).then_some("cidr_list"));
        let need = |rest: &str, why| Need::new(spec.path(rest), UPDATE, why);
        let own = [
            Need::new(spec.path(""), &["read"], "read the role"),
            Need::new(spec.path("/role-id"), &["read"], "read the role's id, to log in"),
            need("/secret-id", "create the secret id").sending(&sends),
            Need::listing(spec.path("/secret-id"), &["list"], "list the role's secret ids"),
            need("/secret-id/lookup", "look at the old secret id").sending(&["secret_id"]),
            need("/secret-id-accessor/lookup", "look at secret ids by accessor").sending(ACCESSOR),
            need("/secret-id-accessor/destroy", "destroy secret ids by accessor").sending(ACCESSOR),
        ];
        own.into_iter().chain(needs()).collect()
    }

    fn role_check(&self, role: Result<AppRole, CallError>) -> Check {
        let (path, name) = (self.spec.path(""), format!("role {}", self.spec.role));
        let role = match role {
            Ok(role) => role,
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Check::fail(
                    name,
                    ErrorKind::NotFound,
                    format!("there is no AppRole at {path}"),
                    "correct `mount` or `role` in the runbook",
                );
            }
            Err(error) => return error.to_check(&name),
        };
        let wrong = self.role_mismatches(&role);
        if !wrong.is_empty() {
            let (why, set): (Vec<_>, Vec<_>) = wrong.into_iter().unzip();
            let set: Vec<String> = set.into_iter().flatten().collect();
            let hint = match set.is_empty() {
                true => "correct `cidr_list` in the runbook, or the role".to_owned(),
                false => format!("`vault write {path} {}`", set.join(" ")),
            };
            return Check::fail(
                name,
                ErrorKind::Invalid,
                format!("the role does not fit: {}", why.join("; ")),
                hint,
            );
        }
        if role.local_secret_ids {
            return Check::warn(
                name,
                "the role's secret ids are local: they exist on this cluster only, and stanch looks at no other one",
            );
        }
        Check::pass(name, "the role takes secret ids as the runbook asks for them")
    }

    /// Why secret ids of this role could not take the old one's place, each with the setting that mends it.
    fn role_mismatches(&self, role: &AppRole) -> Vec<(String, Option<String>)> {
        let spec = &self.spec;
        let mut wrong = Vec::new();
        if !role.bind_secret_id {
            let why = "its logins need the role's id alone, and no secret id";
            wrong.push((why.to_owned(), Some("bind_secret_id=true".to_owned())));
        }
        if role.token_type.contains("batch") {
            let why = format!(
                "its logins are batch tokens, which cannot be revoked: those that exist stay valid until they expire{}",
                match role.token_ttl {
                    0 => String::new(),
                    ttl => format!(", at most {}", Period::seconds(ttl)),
                }
            );
            wrong.push((why, Some("token_type=service".to_owned())));
        }
        let (has, asked) = (role.secret_id_num_uses, u64::from(spec.num_uses));
        if has > 0 && (asked == 0 || asked > has) {
            let said = if asked == 0 { "sets no limit".to_owned() } else { format!("says {asked}") };
            wrong.push((
                format!("its secret ids may be used {has} times at most, and the runbook {said}"),
                Some(format!("secret_id_num_uses={asked}")),
            ));
        }
        if let Some(ttl) = spec.ttl.map(|ttl| ttl.as_secs())
            && (1..ttl).contains(&role.secret_id_ttl)
        {
            let (has, asked) = (Period::seconds(role.secret_id_ttl), Period::seconds(ttl));
            wrong.push((
                format!("its secret ids live for {has} at most, and the runbook asks for {asked}"),
                Some(format!("secret_id_ttl={asked}")),
            ));
        }
        let bound: Vec<&str> = role.secret_id_bound_cidrs.iter().flatten().map(String::as_str).collect();
        let within = |cidr: &str| {
            let address = cidr.split('/').next().and_then(|address| address.parse().ok());
            address.is_some_and(|address| bound.iter().any(|bound| network::contains(bound, address)))
        };
        let outside: Vec<&str> = spec.cidr_list.iter().map(String::as_str).filter(|c| !within(c)).collect();
        if !bound.is_empty() && !outside.is_empty() {
            wrong.push((
                format!(
                    "its secret ids are bound to {}, and `cidr_list` names {}",
                    bound.join(", "),
                    outside.join(", ")
                ),
                None,
            ));
        }
        // Only of a server on this machine is it known which address it sees us under.
        let asked: Vec<&str> = spec.cidr_list.iter().map(String::as_str).collect();
        if let Some(here) =
            network::seen_from(&self.client.settings().address).filter(|here| here.is_loopback())
        {
            for list in [bound, asked].iter().filter(|list| !list.is_empty()) {
                if !list.iter().any(|cidr| network::contains(cidr, here)) {
                    wrong.push((
                        format!(
                            "its secret ids would be bound to {}, and this machine uses {here}: stanch could never see \
                             the new one accepted",
                            list.join(", ")
                        ),
                        None,
                    ));
                }
            }
        }
        wrong
    }

    fn uses(&self) -> Option<Check> {
        let uses = self.spec.num_uses;
        let about =
            format!("the new secret id may be used {uses} times; stanch's own checks take up to {OWN_USES}");
        match uses {
            0 => None,
            1..OWN_USES => {
                let hint = "raise `num_uses` in the runbook, or leave it out";
                Some(Check::fail("uses", ErrorKind::Invalid, about, hint))
            }
            _ => Some(Check::warn("uses", format!("{about} of them"))),
        }
    }

    /// Whether this run outlives the logins that it revokes.
    pub(super) fn own_check(&self, own: &TokenInfo, outgoing: Option<&str>, logins: &[TokenInfo]) -> Check {
        let digest = outgoing.map(|handle| split(handle).1);
        let theirs = digest.map(|digest| login_name(&self.spec.login(), &self.spec.role, digest));
        let is_theirs = theirs.is_some() && Login::of(own).as_ref().and_then(super::info::login) == theirs;
        own_check(own, is_theirs, logins, "old secret id")
    }
}

/// What becomes of the logins that were made with the old secret id.
fn logins_check(handle: &str, logins: &[TokenInfo], doubles: &[String]) -> Check {
    const NAME: &str = "logins";
    let count = counted(logins.len() as u64, "login");
    if !doubles.is_empty() {
        let mut names: Vec<&str> = doubles.iter().take(SHOWN).map(|handle| split(handle).0).collect();
        if doubles.len() > SHOWN {
            names.push("…");
        }
        return Check {
            hint: Some(
                "destroy these secret ids before, or revoke the logins by hand (`vault token revoke -accessor …`); give \
                 each secret id metadata of its own"
                    .to_owned(),
            ),
            ..Check::warn(
                NAME,
                format!(
                    "{count} of the role cannot be told from those of {} with the same metadata ({}): stanch leaves them \
                     valid",
                    counted(doubles.len() as u64, "other secret id"),
                    names.join(", ")
                ),
            )
        };
    }
    if split(handle).1.is_empty() && !logins.is_empty() {
        return Check::warn(
            NAME,
            format!(
                "{count} without metadata will be revoked with the old secret id; some may be of secret ids that expired \
                 or were used up"
            ),
        );
    }
    Check::pass(NAME, format!("{count} of the old secret id now; all are revoked with it"))
}
