//! Whether every later step will be permitted, and whether a new user can take the old one's place.

use super::entity::Method;
use super::server::UserIssuer;
use super::user::{User, settings};
use crate::domain::{Check, ErrorKind};
use crate::kind::vault::logins;
use crate::kind::vault::network;
use crate::kind::vault::permissions::{self, Need};
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::token_info::{Login, TokenInfo};
use crate::provider::CallError;
use crate::text::{counted, sanitize, sanitize_long};

impl UserIssuer {
    /// Every check, in the order of what they are about.
    pub(super) async fn checks(&self, outgoing: Option<&str>) -> Vec<Check> {
        let (needs, what) = (self.needs(outgoing), format!("the users of auth/{}", self.spec.mount));
        let (permissions, method, own) = tokio::join!(
            permissions::check(&self.client, &what, &needs),
            self.method(),
            known_own_token(&self.client)
        );
        let mut checks = vec![permissions, self.method_check(method.as_ref())];
        let own = match own {
            Ok(own) => own,
            Err(error) => {
                checks.push(error.to_check("own token"));
                return checks;
            }
        };
        let Some(handle) = outgoing else {
            checks.push(self.own_check(&own, None, &[]));
            return checks;
        };
        let look = async {
            let (user, logins) = tokio::try_join!(self.user(handle), self.logins(handle))?;
            checks.push(self.own_check(&own, Some(handle), &logins));
            let Some(user) = user else { return Ok(()) };
            checks.push(self.same(handle, &user));
            if let Ok(method) = &method {
                checks.push(self.entity_check(handle, method).await);
            }
            let count = counted(logins.len() as u64, "login");
            checks.push(match logins.is_empty() {
                true => Check::pass("logins", "the old user has no login now"),
                false => {
                    Check::pass("logins", format!("the old user has {count} now; all are revoked with it"))
                }
            });
            Ok::<_, CallError>(())
        };
        if let Err(error) = look.await {
            checks.push(error.to_check("logins"));
        }
        checks
    }

    fn needs(&self, outgoing: Option<&str>) -> Vec<Need> {
        let spec = &self.spec;
        // The names differ at their ends alone, and rules for them end in a `*`.
        let new = spec.path(&format!("{}0", spec.names_of("")));
        let any = spec.path(&format!("{}-*", spec.name.to_ascii_lowercase()));
        let all = settings(spec);
        let known = [
            "token_ttl",
            "token_max_ttl",
            "token_explicit_max_ttl",
            "token_period",
            "token_num_uses",
            "token_no_default_policy",
            "token_bound_cidrs",
            "token_policies",
        ];
        let mut sends = vec!["password"];
        sends.extend(known.into_iter().filter(|name| all.contains_key(*name)));
        let mut needs = vec![
            Need::listing(spec.path(""), &["list"], "list users"),
            Need::new(new.clone(), &["read"], "read the new user").of_all(&any),
            Need::new(new.clone(), &["create"], "create the new user").sending(&sends).of_all(&any),
            Need::new(new, &["delete"], "delete the new user in a rollback").of_all(&any),
        ];
        if let Some(old) = outgoing {
            let old = spec.path(old);
            needs.extend([
                Need::new(old.clone(), &["read"], "read the old user"),
                Need::new(old.clone(), &["update"], "disable the old user").sending(&["token_bound_cidrs"]),
                Need::new(old, &["delete"], "delete the old user"),
            ]);
        }
        needs.into_iter().chain(logins::needs()).collect()
    }

    fn method_check(&self, method: Result<&Method, &CallError>) -> Check {
        let path = format!("auth/{}", self.spec.mount);
        let method = match method {
            Ok(method) => method,
            // The answer to a path where nothing is mounted is the same as to one that no policy allows.
            Err(error) => {
                return Check {
                    hint: Some("correct `mount` in the runbook, or enable the auth method there".to_owned()),
                    ..error.clone().to_check(&path)
                };
            }
        };
        if method.kind != "userpass" {
            return Check::fail(
                path,
                ErrorKind::Invalid,
                format!("this auth method is of the type {}, and not userpass", sanitize(&method.kind)),
                "correct `mount` in the runbook",
            );
        }
        if method.makes_batch_tokens() {
            return Check::fail(
                path.clone(),
                ErrorKind::Unsupported,
                "the logins of this auth method are batch tokens, which cannot be revoked: those that exist stay valid until they expire",
                format!("`vault auth tune -token-type=default-service {}/`", self.spec.mount),
            );
        }
        // Only of a server on this machine is it known which address it sees us under.
        let here =
            network::seen_from(&self.client.settings().address).filter(|address| address.is_loopback());
        let cidrs = &self.spec.bound_cidrs;
        if let Some(here) = here
            && !cidrs.is_empty()
            && !cidrs.iter().any(|cidr| network::contains(cidr, here))
        {
            return Check::fail(
                path,
                ErrorKind::Invalid,
                format!(
                    "`bound_cidrs` leaves out {here}, which this machine uses: stanch could never see the new user accepted"
                ),
                "correct `bound_cidrs`",
            );
        }
        Check::pass(path, "it takes users as the runbook asks for them")
    }

    /// Whether a new user has all that the old one has, and no more.
    fn same(&self, name: &str, user: &User) -> Check {
        const NAME: &str = "settings";
        let name = sanitize(name);
        let mut found = user.differences(&self.spec);
        if user.is_batch() {
            found.push("its logins are batch tokens, which cannot be revoked (`token_type`)".to_owned());
        }
        if found.is_empty() {
            return Check::pass(NAME, format!("a new user has the same policies and settings as {name}"));
        }
        let mut check = Check::fail(
            NAME,
            ErrorKind::Conflict,
            "",
            "correct the fields of the issuer in the runbook, or the user; then plan again",
        );
        check.detail = sanitize_long(&format!("a new user would not be as {name} is: {}", found.join("; ")));
        check
    }

    /// Whether this run outlives the logins that it revokes.
    pub(super) fn own_check(&self, own: &TokenInfo, outgoing: Option<&str>, logins: &[TokenInfo]) -> Check {
        let is_theirs =
            outgoing.is_some_and(|user| Login::of(own).is_some_and(|login| self.is_login_of(&login, user)));
        logins::own_check(own, is_theirs, logins, "old user")
    }
}
