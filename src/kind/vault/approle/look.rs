//! What Vault says of one secret id.

use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::json;

use super::info::{AppRole, SecretIdInfo, SecretIdSpec};
use crate::kind::vault::client::{Effect, VaultClient, data, malformed_response};
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;

/// What Vault knows under an accessor of this role; `None` when it knows nothing.
pub(super) async fn known(
    client: &VaultClient,
    spec: &SecretIdSpec,
    accessor: &str,
) -> Result<Option<SecretIdInfo>, CallError> {
    let path = spec.path("/secret-id-accessor/lookup");
    let body = json!({ "secret_id_accessor": accessor }).to_string().into_bytes();
    let reply = client.plain_reply(RequestMethod::POST, &path, Some(body), Effect::Read).await?;
    match reply.status.as_u16() {
        200 => {
            let info: SecretIdInfo = data(&reply, &path)?;
            if info.secret_id_accessor == accessor {
                Ok(Some(info))
            } else {
                Err(malformed_response(&path).read_only())
            }
        }
        // Of one that has expired (OpenBao), or is another role's.
        204 => is_unknown(client, spec).await,
        404 if is_not_found(&reply) => Ok(None),
        _ => Err(client.fault(&reply, &format!("POST {path}"), Effect::Read).await),
    }
}

/// That a secret id is not known, by an answer without a body: believed of a server that shows the role.
pub(super) async fn is_unknown<T>(client: &VaultClient, spec: &SecretIdSpec) -> Result<Option<T>, CallError> {
    let path = spec.path("");
    let _: AppRole = data(&client.plain(RequestMethod::GET, &path, None, Effect::Read).await?, &path)?;
    Ok(None)
}

/// Whether Vault itself says that there is no such accessor: its words stand in `data`, others' do not.
fn is_not_found(reply: &Reply) -> bool {
    #[derive(Deserialize)]
    struct Told {
        error: String,
    }
    data::<Told>(reply, "").is_ok_and(|told| told.error.starts_with(NO_ACCESSOR))
}

pub(super) const NO_ACCESSOR: &str = "failed to find accessor entry";
