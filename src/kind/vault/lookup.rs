//! Lists, looks up and revokes tokens, as the operator.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use vaultrs::api::token::requests::{
    ListAccessorRequest, LookupTokenAccessorRequest, LookupTokenRequest, RevokeTokenAccessorRequest,
};
use vaultrs::api::token::responses::ListAccessorResponse;

use super::client::{Effect, VaultClient, data, malformed_response, unsendable};
use super::token_info::TokenInfo;
use crate::domain::ErrorKind;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::is_name;

pub(super) const LOOKUP: &str = "auth/token/lookup-accessor";
pub(super) const LOOKUP_TOKEN: &str = "auth/token/lookup";
pub(super) const REVOKE: &str = "auth/token/revoke-accessor";
pub(super) const ACCESSORS: &str = "auth/token/accessors";

/// Looking up every token of a busy Vault takes a request each: enough at once to be quick, few
/// enough not to be noticed.
const LOOKUPS: usize = 16;

/// The accessors of all tokens.
pub(super) async fn accessors(client: &VaultClient) -> Result<Vec<String>, CallError> {
    let endpoint = ListAccessorRequest::builder().build().map_err(|_| unsendable(ACCESSORS))?;
    let list: ListAccessorResponse = data(&client.send(endpoint, Effect::Read).await?, ACCESSORS)?;
    match list.keys.iter().all(|accessor| is_name(accessor)) {
        true => Ok(list.keys),
        false => Err(malformed_response(ACCESSORS).read_only()),
    }
}

/// Looks each of a list up, some at once. What is not known any more is left out.
pub(super) async fn each<T, A>(names: Vec<String>, ask: impl Fn(String) -> A) -> Result<Vec<T>, CallError>
where
    T: Send + 'static,
    A: Future<Output = Result<Option<T>, CallError>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(LOOKUPS));
    let mut tasks = JoinSet::new();
    for name in names {
        let (places, answer) = (Arc::clone(&places), ask(name));
        tasks.spawn(async move {
            let _place = places.acquire_owned().await;
            answer.await
        });
    }
    let mut found = Vec::new();
    while let Some(done) = tasks.join_next().await {
        found.extend(
            done.map_err(|_| CallError::rejected(ErrorKind::Local, "a lookup in a list was cut short"))??,
        );
    }
    Ok(found)
}

/// Asks, as the operator, about the token in the request's body; `None` when Vault does not know it.
pub(super) async fn look_up(client: &VaultClient, token: &Secret) -> Result<Option<TokenInfo>, CallError> {
    let endpoint =
        LookupTokenRequest::builder().token(token.expose()).build().map_err(|_| unsendable(LOOKUP_TOKEN))?;
    let reply = client.reply_to(endpoint, Effect::Read).await?;
    if reply.status.is_success() {
        return known(&reply, LOOKUP_TOKEN).map(Some);
    }
    // These words alone are said by the look-up itself, and so to a token that is valid: of one that is
    // not, servers say *invalid token* or *permission denied* before they look anything up.
    if reply.status.as_u16() == 403 && client.said(&reply) == "bad token" {
        return Ok(None);
    }
    Err(client.fault(&reply, &format!("POST {LOOKUP_TOKEN}"), Effect::Read).await)
}

/// What an answer says of a token. A batch token has no accessor.
pub(super) fn known(reply: &Reply, what: &str) -> Result<TokenInfo, CallError> {
    let info: TokenInfo = data(reply, what)?;
    if info.accessor.is_empty() || is_name(&info.accessor) {
        Ok(info)
    } else {
        Err(malformed_response(what).read_only())
    }
}

/// What Vault knows under an accessor; `None` when it knows nothing.
///
/// A token that is revoked at this very moment may be gone where its accessor still is: Vault then answers as if
/// a policy forbade the look. So such an answer is asked for once more.
pub(super) async fn lookup(client: &VaultClient, accessor: &str) -> Result<Option<TokenInfo>, CallError> {
    match look_once(client, accessor).await {
        Err(error) if error.kind == ErrorKind::Denied => look_once(client, accessor).await,
        found => found,
    }
}

async fn look_once(client: &VaultClient, accessor: &str) -> Result<Option<TokenInfo>, CallError> {
    let endpoint =
        LookupTokenAccessorRequest::builder().accessor(accessor).build().map_err(|_| unsendable(LOOKUP))?;
    match client.send(endpoint, Effect::Read).await {
        Ok(reply) => known(&reply, LOOKUP).map(Some),
        // Vault 1.21 answers 400, others 403; the words are the same. A plain 403 or 404 (of
        // something in front of Vault) is no word on the accessor and stays an error.
        Err(error) if error.message.contains("invalid accessor") => Ok(None),
        Err(error) => Err(error),
    }
}

/// Revokes the token with this accessor and everything that was made with it. Succeeds when Vault does not
/// know it.
pub(super) async fn revoke(client: &VaultClient, accessor: &str) -> Result<(), CallError> {
    let endpoint =
        RevokeTokenAccessorRequest::builder().accessor(accessor).build().map_err(|_| unsendable(REVOKE))?;
    match client.send(endpoint, Effect::Write).await {
        Ok(reply) if reply.status.as_u16() == 204 => return Ok(()),
        Ok(_) => {}
        Err(error) if error.message.contains("invalid accessor") => return Ok(()),
        Err(error) => return Err(error),
    }
    // Any other answer is none that a server gives to a revocation: only a lookup tells.
    match lookup(client, accessor).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(CallError::unknown(format!(
            "{} took the revocation, and still knows the token",
            client.place()
        ))),
        Err(error) => Err(error.doubtful()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kind::vault::Settings;

    fn reply(status: u16, body: &str) -> Reply {
        let status = http::StatusCode::from_u16(status).expect("a status");
        Reply { status, headers: http::HeaderMap::new(), body: body.as_bytes().to_vec() }
    }

    async fn look(last: Reply) -> Result<Option<TokenInfo>, CallError> {
        let token = |name: &str| (name == "VAULT_TOKEN").then(|| "operator".to_owned());
        let settings = Settings::resolve(Some("http://vault:8200"), None, None, &token).expect("settings");
        let client = VaultClient::new(settings, Duration::from_secs(1)).expect("client");
        // A refusal is followed by the question whether the operator's own token is still good.
        let denied = || reply(403, r#"{"errors":["1 error occurred: permission denied"]}"#);
        lookup(&client.answering(vec![denied(), reply(200, "{}"), last]), "a").await
    }

    #[tokio::test]
    async fn a_token_that_is_revoked_while_it_is_looked_up_is_gone_and_no_permission_is_missing() {
        let gone = look(reply(400, r#"{"errors":["invalid accessor"]}"#)).await;
        assert!(matches!(gone, Ok(None)), "{gone:?}");
        let error = look(reply(403, r#"{"errors":["1 error occurred: permission denied"]}"#)).await;
        assert_eq!(error.expect_err("it stays forbidden").kind, ErrorKind::Denied);
    }
}
