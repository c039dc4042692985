//! Tokens and leases below a prefix: listed, revoked at once, listed again, and each token looked up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::spec::{LeasePrefix, TRAITS, VaultPrefix};
use crate::domain::{Check, CheckVerdict, ErrorKind, Identity, IssuerTraits, Life, Standing};
use crate::kind::real::{IssuerServer, RealProvider};
use crate::kind::spec::On;
use crate::kind::vault::Vault;
use crate::kind::vault::client::VaultClient;
use crate::kind::vault::leases::{irrevocable, list, lookup_path, revoke, revoke_path};
use crate::kind::vault::lookup::{ACCESSORS, LOOKUP, accessors, each, lookup};
use crate::kind::vault::permissions::{self, Need};
use crate::kind::vault::preflight::known_own_token;
use crate::kind::vault::token_info::{TokenInfo, not_a_descendant};
use crate::provider::{CallContext, CallError, Grant, Issued, Issuer, Use};
use crate::runbook::model::Credential;
use crate::secret::Material;
use crate::text::{counted, sanitize};

/// How many are named where there may be thousands.
const SHOWN: usize = 5;
const OWN: &str = "own token";

/// Revokes what is below a prefix.
struct PrefixIssuer {
    client: Arc<VaultClient>,
    /// Whether they are tokens, which are looked up as well.
    tokens: bool,
    known: Vec<String>,
    keep: Vec<String>,
    /// The tokens of `known` that the server does not know any more: none of them comes back.
    dead: Mutex<BTreeSet<String>>,
}

/// Whether a path is the prefix, or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    let path = path.trim_matches('/');
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    sanitize(&format!("{}{more}", shown.join(", ")))
}

impl PrefixIssuer {
    /// The tokens with these accessors that the server knows.
    async fn look_up(&self, accessors: Vec<String>) -> Result<Vec<TokenInfo>, CallError> {
        each(accessors, |accessor| {
            let client = Arc::clone(&self.client);
            async move { lookup(&client, &accessor).await }
        })
        .await
    }

    /// The tokens of `known` that the server still knows.
    async fn survivors(&self) -> Result<Vec<String>, CallError> {
        if !self.tokens {
            return Ok(Vec::new());
        }
        let dead = || self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        let asked: Vec<String> =
            self.known.iter().filter(|accessor| !dead().contains(*accessor)).cloned().collect();
        let mut alive: Vec<String> =
            self.look_up(asked.clone()).await?.into_iter().map(|info| info.accessor).collect();
        alive.sort();
        dead().extend(asked.into_iter().filter(|accessor| alive.binary_search(accessor).is_err()));
        Ok(alive)
    }

    /// Everything that the revocation and its proof need, in one check.
    async fn permitted(&self, prefix: &str) -> Check {
        let mut needs = vec![
            Need::listing(revoke_path(prefix), &["update", "sudo"], "revoke what is below the prefix"),
            Need::listing(lookup_path(prefix), &["list", "sudo"], "list the leases below it"),
        ];
        let mut policy = format!(
            "path \"{}*\" {{ capabilities = [\"update\", \"sudo\"] }} path \"{}/*\" {{ capabilities = [\"list\", \"sudo\"] }}",
            revoke_path(prefix),
            lookup_path(prefix)
        );
        if self.tokens {
            needs.push(Need::listing(ACCESSORS, &["list", "sudo"], "list tokens"));
            needs.push(Need::new(LOOKUP, &["update"], "look at tokens by accessor"));
            policy += &format!(
                " path \"{ACCESSORS}*\" {{ capabilities = [\"list\", \"sudo\"] }} path \"{LOOKUP}\" {{ capabilities = [\"update\"] }}"
            );
        }
        let check = permissions::check(&self.client, prefix, &needs).await;
        match check.kind {
            Some(ErrorKind::Denied) => Check {
                hint: Some(format!(
                    "what stanch cannot list it cannot prove dead. Add to the policy of its token: {policy}"
                )),
                ..check
            },
            _ => check,
        }
    }

    /// Whether the run's own token, and those to keep, outlive the revocation.
    async fn spared(&self, prefix: &str) -> Result<Check, CallError> {
        let own = known_own_token(&self.client).await?;
        let mut spared = vec![("the token that stanch uses".to_owned(), own)];
        for keep in &self.keep {
            let Some(info) = lookup(&self.client, keep).await? else {
                let message = format!("--keep {}: Vault knows no token by this accessor", sanitize(keep));
                return Ok(Check::fail(OWN, ErrorKind::Invalid, message, "correct it, or leave it out"));
            };
            spared.push((format!("the token to keep, {}", sanitize(keep)), Arc::new(info)));
        }
        let instead = "log in at another path (`vault login`); or revoke the tokens one by one, and spare this one: `stanch revoke vault-token --handles FILE --keep ACCESSOR`";
        let fails = |message: String| Ok(Check::fail(OWN, ErrorKind::Invalid, message, instead));
        for (name, info) in &spared {
            if is_below(&info.path, prefix) {
                let (accessor, path) = (sanitize(&info.accessor), sanitize(&info.path));
                return fails(format!(
                    "{name} (accessor {accessor}) was issued by {path}: it would die with the others"
                ));
            }
        }
        if spared.iter().any(|(_, info)| !info.orphan) {
            let old: Vec<_> = self.look_up(self.known.clone()).await?.iter().map(TokenInfo::birth).collect();
            let may_descend = |info: &TokenInfo| {
                let is_child = |old| not_a_descendant(&info.birth(), info.role.is_some(), old).is_err();
                !info.orphan && old.iter().any(is_child)
            };
            if let Some((name, _)) = spared.iter().find(|(_, info)| may_descend(info)) {
                return fails(format!(
                    "{name} may be a child of a token below {prefix}: it would die with that"
                ));
            }
        }
        Ok(Check::pass(OWN, "it outlives the revocation, and so do those to keep"))
    }

    /// What is left; `None` where nothing is.
    async fn left(&self, prefix: &str) -> Result<Option<Left>, CallError> {
        let left = Left { leases: list(&self.client, prefix).await?, alive: self.survivors().await? };
        Ok(Some(left).filter(|left| !(left.leases.is_empty() && left.alive.is_empty())))
    }

    /// Whether all that was listed is gone, so that what is left came since.
    fn is_new(&self, left: &Left) -> bool {
        let known = |lease: &String| !self.tokens && self.known.contains(lease);
        left.alive.is_empty() && !left.leases.iter().any(known)
    }

    /// Why what was listed is left, and what to do about it.
    async fn why(&self, prefix: &str, left: &Left, said: Option<&str>) -> CallError {
        let Left { leases, alive } = left;
        // Without what was asked: messages are bounded.
        let said = said.map(|said| said.split_once("): ").map_or(said, |(_, said)| said));
        let said = said.map(|said| format!("; the server said: {said}")).unwrap_or_default();
        if !alive.is_empty() {
            let message = format!(
                "{} of {} are still valid: accessor {}{said}",
                counted(alive.len() as u64, "token"),
                self.known.len(),
                some(alive)
            );
            let hint = "tokens without a lease (root's) are not below any prefix: `stanch revoke vault-token ACCESSOR --reason TEXT`; then resume";
            return CallError::unknown(message).hint(hint);
        }
        let given_up = match irrevocable(&self.client, prefix).await {
            Ok(given_up) if given_up.is_empty() => {
                format!("the server calls none of them irrevocable yet{said}")
            }
            Ok(given_up) => format!("the server has given up on {}", some(&given_up)),
            Err(error) => {
                format!("which of them it has given up on is unknown: {}", sanitize(&error.message))
            }
        };
        let message = format!(
            "{} of {} below {prefix} could not be revoked: {}; {given_up}",
            leases.len(),
            counted(self.known.len() as u64, "lease"),
            some(leases)
        );
        let hint = format!(
            "end these credentials by hand in the system behind the secrets engine, or make that answer; then make Vault forget them, `vault lease revoke -force -prefix {prefix}`, and resume"
        );
        CallError::unknown(message).hint(hint)
    }
}

/// What is left below a prefix.
struct Left {
    /// Leases, in order.
    leases: Vec<String>,
    /// The tokens that were listed and are still valid.
    alive: Vec<String>,
}

fn unsupported() -> CallError {
    CallError::rejected(ErrorKind::Unsupported, "a prefix can only be revoked")
}

#[async_trait]
impl Issuer for PrefixIssuer {
    fn traits(&self) -> IssuerTraits {
        TRAITS
    }

    async fn preflight(&self, _: Option<&Identity>) -> Vec<Check> {
        Vec::new()
    }

    async fn before_revoking(&self, outgoing: &Identity) -> Check {
        if !self.tokens {
            let prefix = &outgoing.handle;
            return match self.keep.iter().find(|keep| is_below(keep, prefix)) {
                Some(keep) => Check::fail(
                    "keep",
                    ErrorKind::Invalid,
                    format!("--keep {}: this lease is below {prefix}, and would end with it", sanitize(keep)),
                    "name longer prefixes that it is not below, or leave --keep out",
                ),
                None => Check::pass("keep", "nothing to keep is below it"),
            };
        }
        self.spared(&outgoing.handle).await.unwrap_or_else(|error| error.to_check(OWN))
    }

    async fn below(&self, handle: &str) -> Result<Vec<String>, CallError> {
        let check = self.permitted(handle).await;
        if check.verdict == CheckVerdict::Fail {
            let kind = check.kind.unwrap_or(ErrorKind::Denied);
            let message = format!("{}; nothing was changed", check.detail);
            return Err(CallError { hint: check.hint, ..CallError::rejected(kind, message) });
        }
        if !self.tokens {
            return list(&self.client, handle).await;
        }
        let infos = self.look_up(accessors(&self.client).await?).await?;
        let ours = infos.into_iter().filter(|info| is_below(&info.path, handle));
        let mut found: Vec<String> = ours.map(|info| info.accessor).collect();
        found.sort();
        Ok(found)
    }

    async fn identify(&self, _: &Material) -> Result<Option<Standing>, CallError> {
        Err(unsupported())
    }

    fn candidate(&self, _: &CallContext) -> Option<Material> {
        None
    }

    async fn issue(&self, _: &CallContext, _: Option<&Material>) -> Result<Issued, CallError> {
        Err(unsupported())
    }

    async fn find(&self, _: &CallContext, _: &[String]) -> Result<Vec<String>, CallError> {
        Err(unsupported())
    }

    async fn existing(&self) -> Result<Vec<String>, CallError> {
        Ok(Vec::new())
    }

    async fn inspect(&self, _: &str) -> Result<Grant, CallError> {
        Err(unsupported())
    }

    /// Alive while anything that was listed is below the prefix, or a token that was there is still valid.
    async fn life(&self, handle: &str) -> Result<Life, CallError> {
        let left = self.left(handle).await?;
        Ok(if left.is_none_or(|left| self.is_new(&left)) { Life::Gone } else { Life::Active })
    }

    async fn newcomers(&self, handle: &str) -> Result<(), CallError> {
        let Some(left) = self.left(handle).await? else { return Ok(()) };
        if !self.is_new(&left) {
            return Err(self.why(handle, &left, None).await);
        }
        let message = format!(
            "{} below {handle} came into being after stanch had listed them; those that it had listed are gone",
            counted(left.leases.len() as u64, "lease")
        );
        let hint = "something still gets credentials there: take its login away (destroy its secret ID, delete its role or disable the mount), then give this run up (`stanch abandon`) and revoke the prefix again";
        Err(CallError::rejected(ErrorKind::Conflict, message).hint(hint))
    }

    async fn disable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(unsupported())
    }

    async fn enable(&self, _: &CallContext, _: &str) -> Result<(), CallError> {
        Err(unsupported())
    }

    async fn revoke(&self, _: &CallContext, handle: &str, _: Option<&Material>) -> Result<(), CallError> {
        let said = match revoke(&self.client, handle).await {
            Ok(()) => None,
            Err(error) if error.in_doubt => Some(error),
            Err(error) => return Err(error),
        };
        match self.left(handle).await.map_err(CallError::doubtful)? {
            Some(left) if !self.is_new(&left) => {
                Err(self.why(handle, &left, said.as_ref().map(|error| error.message.as_str())).await)
            }
            // What came since is the proof's to tell: this call did what it was to do.
            _ => Ok(()),
        }
    }

    async fn attempt(&self, _: &Material) -> Result<Use, CallError> {
        Err(unsupported())
    }
}

/// What revokes below a prefix, as the plan remembers it.
async fn connect(
    at: &RealProvider,
    connection: &On<Vault>,
    tokens: bool,
    known: &[String],
    keep: &[String],
) -> Result<Arc<dyn Issuer>, CallError> {
    let (known, keep) = (known.to_vec(), keep.to_vec());
    Ok(Arc::new(PrefixIssuer {
        client: at.client(connection).await?,
        tokens,
        known,
        keep,
        dead: Mutex::default(),
    }))
}

#[async_trait]
impl IssuerServer for VaultPrefix {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        connect(at, &self.connection, true, &self.known, &self.keep).await
    }
}

#[async_trait]
impl IssuerServer for LeasePrefix {
    async fn connect(
        &self,
        _: &str,
        _: &Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError> {
        connect(at, &self.connection, false, &self.known, &self.keep).await
    }
}
