//! Asks, as the operator, about tokens.

use vaultrs::api::token::requests::{LookupTokenAccessorRequest, LookupTokenRequest};

use super::client::{Effect, VaultClient, data, garbled, unsendable};
use super::token_info::TokenInfo;
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;
use crate::secret::Secret;
use crate::text::is_name;

pub(super) const LOOKUP: &str = "auth/token/lookup-accessor";
pub(super) const LOOKUP_TOKEN: &str = "auth/token/lookup";

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
        Err(garbled(what).read_only())
    }
}

/// What Vault knows under an accessor; `None` when it knows nothing.
pub(super) async fn lookup(client: &VaultClient, accessor: &str) -> Result<Option<TokenInfo>, CallError> {
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
