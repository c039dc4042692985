//! What AWS knows of a user's keys and policies. Changes nothing.

use aws_sdk_iam::types::{AccessKeyMetadata, StatusType};
use jiff::Timestamp;

use super::server::AccessKeyIssuer;
use crate::domain::{ErrorKind, Life};
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// A list that goes on for longer than this has no end: a user has two keys and a handful of policies.
const MAX_PAGES: usize = 100;

impl AccessKeyIssuer {
    pub(super) async fn keys(&self) -> Result<Vec<AccessKeyMetadata>, CallError> {
        let (mut keys, mut marker) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let page = self
                .client
                .iam
                .list_access_keys()
                .user_name(&self.user)
                .set_marker(marker)
                .send()
                .await
                .map_err(|error| self.client.fault(&error, &self.what("ListAccessKeys")).read_only())?;
            self.answered(&page, "ListAccessKeys").map_err(CallError::read_only)?;
            keys.extend_from_slice(page.access_key_metadata());
            match page.marker {
                Some(next) if page.is_truncated => marker = Some(next),
                _ => return Ok(keys),
            }
        }
        let what = self.what("ListAccessKeys");
        let at = self.client.place(&what);
        Err(CallError::rejected(ErrorKind::Invalid, format!("the response to {what} at {at} has no end"))
            .hint("check `endpoint_url`, and any proxy in front of it"))
    }

    /// Whose a key is, and when it was last used: `None` when never, as far as AWS knows (it lags).
    pub(super) async fn last_used(&self, id: &str) -> Result<(Option<String>, Option<Timestamp>), CallError> {
        let answer = self
            .client
            .iam
            .get_access_key_last_used()
            .access_key_id(id)
            .send()
            .await
            .map_err(|error| self.client.fault(&error, &self.what("GetAccessKeyLastUsed")).read_only())?;
        self.answered(&answer, "GetAccessKeyLastUsed").map_err(CallError::read_only)?;
        let used = answer.access_key_last_used().and_then(|used| used.last_used_date());
        Ok((answer.user_name().map(sanitize), used.and_then(|at| Timestamp::from_second(at.secs()).ok())))
    }

    /// The keys in words, for whoever has to choose one to delete. `held` is the one that the store hands out.
    pub(super) async fn describe_keys(&self, held: Option<&str>) -> String {
        let Ok(keys) = self.keys().await else { return String::new() };
        let own = self.client.own_key_id().await.ok();
        let mut words = Vec::new();
        for key in keys {
            let Some(id) = key.access_key_id() else { continue };
            let used = match self.last_used(id).await {
                Ok((_, Some(at))) => format!("last used {at}"),
                Ok((_, None)) => "never used".to_owned(),
                Err(_) => "last use unknown".to_owned(),
            };
            let status = key.status().map_or("", StatusType::as_str).to_ascii_lowercase();
            let held = if held == Some(id) { ", the one that the store hands out" } else { "" };
            let own = if own.as_deref() == Some(id) { ", the one that this run works with" } else { "" };
            words.push(sanitize(&format!("{id} ({status}, {used}{held}{own})")));
        }
        words.join(" and ")
    }

    pub(super) async fn full(&self, message: String, held: Option<&str>) -> CallError {
        CallError::rejected(ErrorKind::Limit, message).hint(format!(
            "delete the one that is not needed (`aws iam delete-access-key --user-name {} --access-key-id ID`): {}",
            self.user,
            self.describe_keys(held).await
        ))
    }

    /// The names of the user's policies; `None` when the operator may not read them, or they have no end.
    pub(super) async fn policy_names(&self) -> Result<Option<Vec<String>>, CallError> {
        let iam = &self.client.iam;
        let (mut names, mut attached, mut own) = (Vec::new(), Some(None), Some(None));
        for _ in 0..MAX_PAGES {
            if let Some(marker) = attached {
                let request = iam.list_attached_user_policies().user_name(&self.user).set_marker(marker);
                let page = request.send().await;
                let what = self.what("ListAttachedUserPolicies");
                let page = page.map_err(|error| self.client.fault(&error, &what).read_only());
                let Some(page) = unless_denied(page)? else { return Ok(None) };
                names.extend(
                    page.attached_policies().iter().filter_map(|p| p.policy_name()).map(str::to_owned),
                );
                attached = page.marker.filter(|_| page.is_truncated).map(Some);
            } else if let Some(marker) = own {
                let request = iam.list_user_policies().user_name(&self.user).set_marker(marker);
                let page = request.send().await;
                let what = self.what("ListUserPolicies");
                let page = page.map_err(|error| self.client.fault(&error, &what).read_only());
                let Some(page) = unless_denied(page)? else { return Ok(None) };
                names.extend(page.policy_names().iter().cloned());
                own = page.marker.filter(|_| page.is_truncated).map(Some);
            } else {
                names.sort();
                return Ok(Some(names));
            }
        }
        Ok(None)
    }

    /// The user's key of this id.
    pub(super) async fn key(&self, id: &str) -> Result<Option<Life>, CallError> {
        let keys = self.keys().await?;
        let key = keys.iter().find(|key| key.access_key_id() == Some(id));
        Ok(key.map(|key| match key.status() {
            Some(StatusType::Inactive) => Life::Disabled,
            _ => Life::Active,
        }))
    }
}

/// What may not be read is unknown; any other failure is one.
fn unless_denied<T>(result: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind == ErrorKind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}
