//! One try to make a value current in a secret that others write, too.

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;

use super::checks::{CURRENT, PENDING, PREVIOUS, labelled, own_labels};
use super::server::SecretsManagerStore;
use super::version::{derived, is_ours, is_sibling};
use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::provider::{CallContext, Promoted};
use crate::secret::{Material, Secret};
use crate::text::sanitize;

/// Whether a promotion is the way back: to the version that the plan saw as current.
fn is_back(context: &CallContext, staged: Option<&str>) -> bool {
    staged.is_some() && staged == context.before.current.as_deref()
}

impl SecretsManagerStore {
    /// Moves the labels of others from one version to another. Before `AWSCURRENT` moves, so that a
    /// promotion that is cut off is seen as not done, and done again.
    pub(in crate::kind::aws) async fn move_labels(
        &self,
        seen: &DescribeSecretOutput,
        from: &str,
        to: &str,
    ) -> Result<(), CallError> {
        for label in own_labels(seen, from) {
            self.label(label, Some(to), Some(from)).await.map_err(CallError::doubtful)?;
        }
        Ok(())
    }

    /// The versions beside the current one whose labels of others follow the value: what the plan saw as
    /// current, where somebody wrote the secret since; what an earlier try had moved them to; and on the way
    /// back whatever holds the new value.
    async fn followers<'a>(
        &self,
        seen: &'a DescribeSecretOutput,
        context: &CallContext,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Vec<&'a str>, CallError> {
        let (current, before) = (self.current(seen)?, context.before.current.as_deref());
        let token = context.token.to_string();
        let pending = labelled(seen, PENDING);
        let mut found = Vec::new();
        let all = seen.version_ids_to_stages().into_iter().flatten().map(|(id, _)| id.as_str());
        for id in all.filter(|id| *id != current && !own_labels(seen, id).is_empty()) {
            let ours = pending.contains(&id) && is_ours(seen, id, staged.unwrap_or(&token));
            let may = Some(id) == before || is_back(context, staged);
            if ours || may && self.decode(&self.text(id).await?).is_ok_and(|held| held.same_as(from)) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// The version to make current: the staged one where it holds just the text that is wanted, else a new
    /// one, which is pending until then.
    async fn target(
        &self,
        context: &CallContext,
        seen: &DescribeSecretOutput,
        (value, wanted): (&Material, &Secret),
        staged: Option<&str>,
    ) -> Result<String, CallError> {
        let current = self.current(seen)?;
        // A version whose labels are all gone may be gone itself.
        let listed = |id: &&str| seen.version_ids_to_stages().is_some_and(|all| all.contains_key(*id));
        if let Some(id) = staged.filter(listed)
            && self.is_wanted(&self.text(id).await?, value, wanted)
        {
            return Ok(id.to_owned());
        }
        let token = context.token.to_string();
        let seed = staged.unwrap_or(&token);
        let own = |version: &str| is_ours(seen, version, seed) || is_sibling(context, version);
        let mut pending = labelled(seen, PENDING);
        pending.retain(|id| *id != current);
        if let Some(other) = pending.iter().find(|id| !own(id)) {
            return Err(self.named().pending_elsewhere(other));
        }
        let id = derived(seed, current);
        self.put(&id, wanted, value, &pending).await?;
        Ok(id)
    }

    /// Whether a version holds the value that is wanted, and beside it the very bytes that are. The value itself
    /// may be written with other escapes (`\/`): made current as it is, such a text gets its own bytes back.
    fn is_wanted(&self, text: &Secret, value: &Material, wanted: &Secret) -> bool {
        self.decode(text).is_ok_and(|held| held.same_as(value))
            && self.encode(text, value).is_ok_and(|respelt| respelt.same_as(wanted))
    }

    /// One try to make a value current; `None` when somebody wrote the secret between the read and the move.
    pub(in crate::kind::aws) async fn try_promote(
        &self,
        context: &CallContext,
        value: &Material,
        from: &Material,
        staged: Option<&str>,
    ) -> Result<Option<Promoted>, CallError> {
        let seen = self.describe().await?;
        self.refuse_deleted(&seen)?;
        let current = self.current(&seen)?;
        let text = self.text(current).await?;
        let now = self.decode(&text)?;
        let back = is_back(context, staged);
        if now.same_as(value) {
            if labelled(&seen, PENDING).contains(&current) {
                self.label(PENDING, None, Some(current)).await.map_err(CallError::doubtful)?;
            }
            if back {
                self.restore_previous(&seen, context, from).await.map_err(CallError::doubtful)?;
            }
            return Ok(Some(Promoted { version: current.to_owned(), was: None }));
        }
        if !now.same_as(from) {
            let version = sanitize(current);
            let error =
                self.conflict(format!("the current version {version} holds another value than this run's"));
            return Err(error.hint("find out who changed it and which value is right, then plan again"));
        }
        let wanted = self.encode(&text, value)?;
        let followers = self.followers(&seen, context, from, staged).await?;
        let target = self.target(context, &seen, (value, &wanted), staged).await?;
        self.move_labels(&seen, current, &target).await?;
        for version in followers.into_iter().filter(|id| *id != target) {
            self.move_labels(&seen, version, &target).await?;
        }
        if let Err(error) = self.label(CURRENT, Some(&target), Some(current)).await {
            // The server says in one word that a parameter is wrong, and that the label has moved.
            let moved = error.kind == ErrorKind::Invalid && self.current(&self.describe().await?)? != current;
            return if moved { Ok(None) } else { Err(error) };
        }
        let after = self.describe().await.map_err(CallError::doubtful)?;
        if labelled(&after, CURRENT) != [target.as_str()] {
            let error =
                self.conflict(format!("after the move, {CURRENT} is not on the version {target} alone"));
            return Err(CallError { kind: ErrorKind::NoAnswer, ..error.doubtful() });
        }
        for version in labelled(&after, PENDING) {
            if version == target || staged == Some(version) {
                self.label(PENDING, None, Some(version)).await.map_err(CallError::doubtful)?;
            }
        }
        if back {
            self.restore_previous(&after, context, from).await.map_err(CallError::doubtful)?;
        }
        Ok(Some(Promoted { version: target, was: Some(current.to_owned()) }))
    }

    /// On the way back AWS puts `AWSPREVIOUS` on the new value, which is about to be revoked. It goes back to
    /// where the plan saw it, while that version is still kept; else it goes, for a dead value under it is worse
    /// than none.
    async fn restore_previous(
        &self,
        seen: &DescribeSecretOutput,
        context: &CallContext,
        dead: &Material,
    ) -> Result<(), CallError> {
        let before = context.before.previous.as_deref();
        let [holder] = labelled(seen, PREVIOUS)[..] else { return Ok(()) };
        if Some(holder) == before
            || !self.decode(&self.text(holder).await?).is_ok_and(|held| held.same_as(dead))
        {
            return Ok(());
        }
        let kept = match before {
            Some(version) => self.text(version).await.is_ok(),
            None => false,
        };
        match self.label(PREVIOUS, before.filter(|_| kept), Some(holder)).await {
            Err(error) if error.kind.is_transient() => Err(error),
            // A server that keeps this label to itself must not stop the way back.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::kind::aws::AwsClient;
    use crate::provider::http::transport::Reply;
    use crate::provider::layout::Layout;

    fn reply(body: &serde_json::Value) -> Reply {
        let headers = [("x-amzn-requestid", "r"), ("content-type", "application/x-amz-json-1.1")];
        let headers = headers.map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        Reply {
            status: http::StatusCode::OK,
            headers: headers.into_iter().collect(),
            body: body.to_string().into(),
        }
    }

    fn described(current: &str, previous: &str) -> Reply {
        let stages = serde_json::json!({ current: ["AWSCURRENT"], previous: ["AWSPREVIOUS"] });
        reply(&serde_json::json!({ "ARN": "arn:x", "Name": "t", "VersionIdsToStages": stages }))
    }

    fn version(id: &str, text: &str) -> Reply {
        reply(&serde_json::json!({ "ARN": "arn:x", "VersionId": id, "SecretString": text }))
    }

    /// Goes back from `current` to the version before, whose text is `before`. What is current then.
    async fn back(current: &str, before: &str) -> String {
        let client = AwsClient::answering(
            ("AKIAOPERATOR", &Secret::new("key")),
            vec![
                described("v-new", "v-old"),
                version("v-new", current),
                version("v-old", before),
                reply(&serde_json::json!({ "ARN": "arn:x", "VersionId": "v-old" })),
                described("v-old", "v-new"),
            ],
        );
        let layout = Layout::new(&["token"], Some("a"), &BTreeMap::new()).expect("layout");
        let store = SecretsManagerStore::new(Arc::new(client), "t".to_owned(), layout);
        let context = CallContext {
            run: "run".to_owned(),
            step: "cutover/a/promote".to_owned(),
            token: uuid::Uuid::nil(),
            since: jiff::Timestamp::UNIX_EPOCH,
            last: jiff::Timestamp::UNIX_EPOCH,
            siblings: Vec::new(),
            before: Default::default(),
            expected: None,
            ahead: crate::provider::Ahead::default(),
            held: None,
            outgoing: None,
        };
        let [new, old] = ["new", "caf\u{e9}/old"].map(|text| Material::single("token", Secret::new(text)));
        let done = store.try_promote(&context, &old, &new, Some("v-old")).await;
        match done {
            Ok(done) => done.expect("it was not written meanwhile").version,
            Err(error) => error.to_string(),
        }
    }

    /// The old version is made current again, byte by byte, also where its value is written with escapes that it
    /// does not need, as some programs write `/` and whatever is not ASCII.
    #[tokio::test]
    async fn the_way_back_restores_the_old_bytes_whatever_their_escapes() {
        let current = r#"{"a":"new","b":1}"#;
        for before in [r#"{"a":"caf\u00e9\/old","b":1}"#, "{\"a\":\"caf\u{e9}/old\",\"b\":1}"] {
            assert_eq!(back(current, before).await, "v-old", "{before}");
        }
        // What another wrote beside it meanwhile is not undone: then a new version is made.
        let changed = back(r#"{"a":"new","b":2}"#, r#"{"a":"caf\u00e9\/old","b":1}"#).await;
        assert_ne!(changed, "v-old");
    }
}
