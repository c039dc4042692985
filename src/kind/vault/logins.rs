//! Logins: tokens that an auth method gave out for a credential. They outlive the credential, and are revoked with it.

use std::sync::Arc;

use super::client::{VaultClient, auth};
use super::lookup::{ACCESSORS, LOOKUP, REVOKE, accessors, each, lookup, revoke};
use super::permissions::Need;
use super::token_info::{Login, OPERATOR_USES, TokenInfo, not_a_descendant};
use crate::domain::{Check, ErrorKind};
use crate::provider::Use;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::text::is_name;

/// The tokens that are wanted logins.
///
/// # Errors
/// When the tokens cannot be listed, or one of them cannot be looked up: what is not known of one is never taken for
/// none.
pub(super) async fn logins(
    client: &Arc<VaultClient>,
    is_wanted: impl Fn(&Login) -> bool,
) -> Result<Vec<TokenInfo>, CallError> {
    let wanted = |login: &Option<Arc<Login>>| login.as_ref().is_some_and(|login| is_wanted(login));
    let mut list = accessors(client).await?;
    list.retain(|accessor| client.facts.logins.get(accessor).is_none_or(|login| wanted(&login)));
    let tokens = each(list, |accessor| {
        let client = Arc::clone(client);
        async move { lookup(&client, &accessor).await }
    });
    let mut found = Vec::new();
    for token in tokens.await? {
        let login = Login::of(&token).map(Arc::new);
        client.facts.logins.set(&token.accessor, login.clone());
        if wanted(&login) {
            found.push(token);
        }
    }
    Ok(found)
}

/// What the operator needs for that, and for revoking them.
pub(super) fn needs() -> [Need; 3] {
    const UPDATE: &[&str] = &["update", "create"];
    [
        Need::listing(ACCESSORS, &["list", "sudo"], "list tokens, to find the logins of the old credential"),
        Need::new(LOOKUP, UPDATE, "look at logins by accessor").sending(&["accessor"]),
        Need::new(REVOKE, UPDATE, "revoke logins by accessor").sending(&["accessor"]),
    ]
}

/// Ends the login that a credential was tried with, as the operator: the login itself may lack the policy for it, or
/// be bound to other networks. `what` names the credential.
///
/// # Errors
/// When the login cannot be revoked, or was not: then it lives on, and the sentence names it.
pub(super) async fn end(
    client: &VaultClient,
    reply: &Reply,
    path: &str,
    what: &str,
) -> Result<Use, CallError> {
    let made = auth(reply, path).map_err(CallError::read_only)?;
    if !is_name(&made.accessor) {
        return Err(CallError::rejected(
            ErrorKind::Denied,
            format!(
                "{what} was accepted, but its login is a batch token or waits for a second factor: stanch cannot revoke \
                 such a login"
            ),
        ));
    }
    revoke(client, &made.accessor).await.map_err(|error| CallError {
        message: format!(
            "{what} was accepted, but the login that stanch tried it with (accessor {}) was not revoked: {}",
            made.accessor, error.message
        ),
        ..error
    })?;
    Ok(Use::Accepted)
}

/// Whether this run outlives the logins that it revokes. `is_theirs` says whether the operator's own token is one of
/// them, and `old` names the credential.
pub(super) fn own_check(own: &TokenInfo, is_theirs: bool, logins: &[TokenInfo], old: &str) -> Check {
    const NAME: &str = "own token";
    let fail = |why: String, hint: &str| Check::fail(NAME, ErrorKind::Invalid, why, hint);
    if own.num_uses != 0 && own.num_uses < OPERATOR_USES {
        return fail(
            format!(
                "the token that stanch uses may be used {} more times; a run that runs out of them stops half way",
                own.num_uses.max(0)
            ),
            "log in with a token without such a limit (`vault login`)",
        );
    }
    if is_theirs {
        return fail(
            format!("the token that stanch uses is a login of the {old}, and is revoked with it"),
            "log in by other means (`vault login`), then plan again",
        );
    }
    let child =
        |login: &TokenInfo| not_a_descendant(&own.birth(), own.role.is_some(), &login.birth()).is_err();
    if !own.orphan && logins.iter().any(child) {
        return fail(
            format!(
                "the token that stanch uses may be a child of a login of the {old}: revoking that would revoke it, too, \
                 in the middle of this run"
            ),
            "log in (`vault login`), or have an orphan made: `vault token create -orphan -policy=…`; then plan again",
        );
    }
    Check::pass(NAME, format!("it outlives the {old} and its logins"))
}
