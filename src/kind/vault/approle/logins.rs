//! The secret ids of a role, and their logins. Changes nothing.

use std::sync::Arc;

use rustify::enums::RequestMethod;
use serde::Deserialize;

use super::info::{SecretIdInfo, login, login_name};
use super::look::known;
use super::server::ApproleIssuer;
use super::spec::split;
use crate::kind::vault::client::{Effect, data, malformed_response};
use crate::kind::vault::logins::logins;
use crate::kind::vault::lookup::each;
use crate::kind::vault::shape::is_empty_list;
use crate::kind::vault::token_info::TokenInfo;
use crate::provider::outcome::CallError;
use crate::text::is_name;

impl ApproleIssuer {
    /// What Vault knows under an accessor of this role; `None` when it knows nothing.
    pub(super) async fn known(&self, accessor: &str) -> Result<Option<SecretIdInfo>, CallError> {
        known(&self.client, &self.spec, accessor).await
    }

    /// The accessors of the role's secret ids. Some of these may have expired.
    pub(super) async fn list(&self) -> Result<Vec<String>, CallError> {
        #[derive(Deserialize)]
        struct Keys {
            keys: Vec<String>,
        }
        let path = self.spec.path("/secret-id");
        let reply = self.client.plain_reply(RequestMethod::LIST, &path, None, Effect::Read).await?;
        if reply.status.as_u16() == 404 && is_empty_list(&reply) {
            return Ok(Vec::new());
        }
        if !reply.status.is_success() {
            return Err(self.client.fault(&reply, &format!("LIST {path}"), Effect::Read).await);
        }
        let Keys { keys } = data(&reply, &path)?;
        match keys.iter().all(|accessor| is_name(accessor)) {
            true => Ok(keys),
            false => Err(malformed_response(&path).read_only()),
        }
    }

    /// The living secret ids of the role that are wanted. One request for the list, and one for each that is
    /// wanted or was not looked up before.
    pub(super) async fn living(
        &self,
        wanted: impl Fn(&SecretIdInfo) -> bool,
    ) -> Result<Vec<SecretIdInfo>, CallError> {
        let mut list = self.list().await?;
        list.retain(|accessor| {
            let seen = self.tags.get(accessor);
            seen.is_none_or(|metadata| wanted(&SecretIdInfo::of(accessor, metadata)))
        });
        let mut living = each(list, |accessor| {
            let (client, spec, tags) =
                (Arc::clone(&self.client), Arc::clone(&self.spec), Arc::clone(&self.tags));
            async move {
                let found = known(&client, &spec, &accessor).await?;
                if let Some(info) = &found {
                    tags.set(&accessor, info.metadata.clone().unwrap_or_default());
                }
                Ok(found)
            }
        })
        .await?;
        living.retain(wanted);
        Ok(living)
    }

    /// The handles of the living secret ids whose logins look like those of this one, without itself.
    pub(super) async fn doubles(&self, handle: &str) -> Result<Vec<String>, CallError> {
        let (own, digest) = split(handle);
        let alike = |info: &SecretIdInfo| info.secret_id_accessor != own && split(&info.handle()).1 == digest;
        Ok(self.living(alike).await?.iter().map(SecretIdInfo::handle).collect())
    }

    /// The tokens that look like logins of this secret id.
    pub(super) async fn logins(&self, handle: &str) -> Result<Vec<TokenInfo>, CallError> {
        let wanted = login_name(&self.spec.login(), &self.spec.role, split(handle).1);
        logins(&self.client, |token| login(token).as_ref() == Some(&wanted)).await
    }

    /// The logins that a dead secret id left behind. Those that may be another's, which lives, are not among
    /// them.
    pub(super) async fn left(&self, handle: &str) -> Result<Vec<TokenInfo>, CallError> {
        match self.doubles(handle).await?.is_empty() {
            true => self.logins(handle).await,
            false => Ok(Vec::new()),
        }
    }
}
