//! The identity entity of a user: it may carry policies that the user does not show.

use rustify::enums::RequestMethod;
use serde::Deserialize;
use serde_json::json;

use super::server::UserIssuer;
use crate::domain::{Check, ErrorKind};
use crate::kind::vault::client::{Effect, data};
use crate::provider::outcome::CallError;
use crate::text::{counted, sanitize};

const LOOKUP: &str = "identity/lookup/entity";
const NAME: &str = "identity";

/// What an entity gives to the logins of its users.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entity {
    policies: Option<Vec<String>>,
    group_ids: Option<Vec<String>>,
}

/// What Vault says of an auth method.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Method {
    accessor: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    config: Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    token_type: String,
}

impl Method {
    /// Whether its users' logins are batch tokens, whatever the users say, or unless they say otherwise.
    pub(super) fn makes_batch_tokens(&self) -> bool {
        self.config.token_type.contains("batch")
    }
}

impl UserIssuer {
    /// The auth method of the runbook.
    pub(super) async fn method(&self) -> Result<Method, CallError> {
        let path = format!("sys/internal/ui/mounts/auth/{}", self.spec.mount);
        data(&self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?, &path)
    }

    async fn entity(&self, user: &str, method: &Method) -> Result<Entity, CallError> {
        let body = json!({ "alias_name": user, "alias_mount_accessor": method.accessor }).to_string();
        let reply =
            self.client.plain(RequestMethod::POST, LOOKUP, Some(body.into_bytes()), Effect::Read).await?;
        // No login was ever made, so that there is no entity.
        if reply.status.as_u16() == 204 {
            return Ok(Entity::default());
        }
        data(&reply, LOOKUP)
    }

    /// Whether the old user has more by its entity than a new user gets.
    pub(super) async fn entity_check(&self, user: &str, method: &Method) -> Check {
        let entity = match self.entity(user, method).await {
            Ok(entity) => entity,
            Err(error) if error.kind == ErrorKind::Denied => {
                return Check {
                    hint: Some(format!(
                        "add to the policy of stanch's token: path \"{LOOKUP}\" {{ capabilities = [\"update\"] }}"
                    )),
                    ..Check::warn(
                        NAME,
                        "stanch may not look at the old user's identity entity: a new user would lack policies and groups that come from there",
                    )
                };
            }
            Err(error) => return error.to_check(NAME),
        };
        let policies: Vec<String> = entity.policies.into_iter().flatten().map(|p| sanitize(&p)).collect();
        let groups = entity.group_ids.into_iter().flatten().count();
        let mut has = Vec::new();
        if !policies.is_empty() {
            has.push(format!("the policies {}", policies.join(", ")));
        }
        if groups > 0 {
            has.push(format!("a place in {}", counted(groups as u64, "group")));
        }
        if has.is_empty() {
            return Check::pass(NAME, "the old user has nothing by its identity entity");
        }
        Check::fail(
            NAME,
            ErrorKind::Conflict,
            format!(
                "the old user has {} by its identity entity, and a new user would not",
                has.join(" and ")
            ),
            "give these policies to the user itself, and name them in `policies`; then plan again",
        )
    }
}
