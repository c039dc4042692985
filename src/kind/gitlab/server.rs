//! How a connection to GitLab is made: it is a service with a JSON API, whose addresses and header are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::spec::{Gitlab, TOKEN};
use crate::domain::{Check, ErrorKind};
use crate::kind::api::{Api, ApiClient, Ask, Settings};
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

/// The scope that a token needs to write. `read_api` reads variables, and does not write them.
const SCOPE: &str = "api";

impl Gitlab {
    fn settings(&self, env: &Environment) -> Result<Settings, CallError> {
        let host = env("GITLAB_HOST").map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
        let address = self.address.clone().or(host).ok_or_else(|| {
            CallError::rejected(ErrorKind::Local, "no address of GitLab is set").hint(
                "set `address` of the connection in the runbook, or GITLAB_HOST, for example to https://gitlab.example.com",
            )
        })?;
        // `glab` takes a host's name alone as well.
        let scheme = if address.contains("://") { "" } else { "https://" };
        let api = Api {
            address: Some(format!("{scheme}{}/api/v4", address.trim_end_matches('/'))),
            variable: self.variable.clone(),
            header: "PRIVATE-TOKEN".to_owned(),
            prefix: None,
            headers: BTreeMap::new(),
            ca_cert: self.ca_cert.clone(),
        };
        Settings::resolve_with(Some(TOKEN), &api, env.as_ref())
    }
}

#[async_trait]
impl FamilyServer for Gitlab {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(ApiClient::new(self.settings(&at.env)?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<ApiClient, Self>(&name.into()).await?;
        let mut checks = client.preflight(at.clock.as_ref()).await;
        if client.own().is_ok() {
            checks.push(token(&client).await);
        }
        Ok(checks)
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        self.settings(env).ok().and_then(|settings| settings.token).into_iter().collect()
    }
}

/// Whether the operator's token may write.
async fn token(client: &ApiClient) -> Check {
    const NAME: &str = "token";
    let ask = Ask::get("/personal_access_tokens/self".to_owned());
    let reply = match client.reply_to(&ask).await {
        Ok(reply) => reply,
        Err(error) => return error.to_check(NAME),
    };
    let found: Option<Value> = serde_json::from_slice(&reply.body).ok();
    let scopes = found.as_ref().and_then(|found| found["scopes"].as_array());
    match scopes {
        Some(scopes) if reply.status.is_success() => match scopes.iter().any(|scope| scope == SCOPE) {
            true => {
                Check::pass(NAME, format!("{} accepts it, and it has the scope `{SCOPE}`", client.place()))
            }
            false => Check::fail(
                NAME,
                ErrorKind::Denied,
                format!("the operator's token does not have the scope `{SCOPE}`"),
                format!(
                    "make a token with the scope `{SCOPE}`: `read_api` is not enough to write a variable"
                ),
            ),
        },
        // A deploy or job token has no such page, and neither has GitLab before 15.5.
        _ if reply.status == 404 => {
            Check::warn(NAME, format!("{} does not say which scopes the token has", client.place()))
        }
        _ if reply.status.is_success() => Check::fail(
            NAME,
            ErrorKind::NoAnswer,
            format!("the response to {} at {} did not come from GitLab", ask.what(), client.place()),
            "check `address` of the connection, and which proxy is in front of GitLab",
        ),
        _ => client.fault(&reply, &ask, None).to_check(NAME),
    }
}
