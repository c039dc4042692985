//! One try to make a value current in a parameter that others write, too.
//!
//! A put has no condition. So the parameter is read right before it, and the number of the new version tells what
//! came between: versions are numbered without a gap. What another wrote there is found as the version before ours.

use super::api::{Described, Version};
use super::server::ParameterStore;
use crate::domain::ErrorKind;
use crate::provider::Promoted;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

impl ParameterStore {
    /// One try; `None` when another version was written between the read and the write.
    pub(super) async fn try_promote(
        &self,
        value: &Material,
        from: &Material,
    ) -> Result<Option<Promoted>, CallError> {
        let now = self.get(None).await?;
        let held = self.decode(&now.text)?;
        if held.same_as(value) {
            self.labels_follow(now.number, from).await?;
            return Ok(Some(Promoted { version: now.number.to_string(), was: None }));
        }
        if !held.same_as(from) {
            let error = self.conflict(format!("version {} holds another value than this run's", now.number));
            return Err(error.hint("find out who changed it and which value is right, then plan again"));
        }
        let text = self.encode(&now.text, value)?;
        let history = self.history().await?;
        // The last look before the write.
        let Some(seen) = history.last().filter(|seen| seen.version == now.number) else { return Ok(None) };
        self.refuse_unfit(&text, seen, "")?;
        let mut written = self.put(&text, seen).await?;
        if written <= now.number {
            let message = format!(
                "{} was deleted right before stanch wrote it, so that the write created it again, as version {written} and without its labels",
                self.name
            );
            return Err(CallError::unknown(message)
                .hint("find out who deleted it; set its labels again if consumers read by one"));
        }
        if written != now.number + 1 {
            written = self.make_good(written, value, from).await?;
        }
        self.is_current(written, value).await?;
        self.labels_follow(written, from).await.map_err(CallError::doubtful)?;
        Ok(Some(Promoted { version: written.to_string(), was: Some(now.number.to_string()) }))
    }

    /// Another version was written between the last look and ours, `written`, which took its place. Other fields of
    /// it are kept; another value in the own fields is written back, and stops the step. Returns the version that is
    /// current then.
    async fn make_good(&self, written: u64, value: &Material, from: &Material) -> Result<u64, CallError> {
        let before = written.saturating_sub(1);
        let theirs = self.get(Some(before)).await.map_err(CallError::doubtful)?;
        let keeps = |held: Material| held.same_as(from) || held.same_as(value);
        let neighbour = self.decode(&theirs.text).is_ok_and(keeps);
        let text: Secret = if neighbour {
            self.encode(&theirs.text, value).map_err(CallError::doubtful)?
        } else {
            theirs.text
        };
        let history = self.history().await.map_err(CallError::doubtful)?;
        let like = history.iter().find(|entry| entry.version == before);
        let like: &Described = like.ok_or_else(|| self.strange("GetParameterHistory").doubtful())?;
        let last = self.put(&text, like).await.map_err(CallError::doubtful)?;
        if last != written + 1 {
            return Err(self.conflict("others write it at this moment, again and again").doubtful());
        }
        if neighbour {
            return Ok(last);
        }
        let message = format!(
            "version {before} with another value was written right before the one of this run; stanch wrote that value back, as version {last}"
        );
        Err(self.conflict(message).hint("find out who changed it and which value is right, then plan again"))
    }

    /// Reads what was written: a server may say yes and do nothing, and others may write right behind it.
    async fn is_current(&self, written: u64, value: &Material) -> Result<(), CallError> {
        let after = self.get(None).await.map_err(CallError::doubtful)?;
        if after.number == written && self.decode(&after.text).is_ok_and(|held| held.same_as(value)) {
            return Ok(());
        }
        let message = format!(
            "{}: right after version {written} was written, version {} is current, or it holds another value",
            self.name, after.number
        );
        Err(CallError::unknown(message))
    }

    /// Moves every label that is on a version with the value `from` to the current version: consumers that read by
    /// a label get the new value too, and on the way back the old one.
    async fn labels_follow(&self, current: u64, from: &Material) -> Result<(), CallError> {
        let history = self.history().await?;
        let labels = self.labels_on(&history, current, from).await?;
        if labels.is_empty() {
            return Ok(());
        }
        self.label(current, &labels).await?;
        let after = self.history().await.map_err(CallError::doubtful)?;
        let there = after.iter().find(|entry| entry.version == current);
        if labels.iter().all(|label| there.is_some_and(|entry| entry.labels.iter().any(|l| l == label))) {
            return Ok(());
        }
        Err(CallError::unknown(format!("{}: the labels {} did not move", self.name, labels.join(", "))))
    }

    /// The labels on versions other than the current one whose own fields hold this value.
    async fn labels_on<'a>(
        &self,
        history: &'a [Described],
        current: u64,
        value: &Material,
    ) -> Result<Vec<&'a str>, CallError> {
        let mut labels = Vec::new();
        for other in history.iter().filter(|other| other.version != current && !other.labels.is_empty()) {
            if self.held(other.version).await?.is_some_and(|held| held.same_as(value)) {
                labels.extend(other.labels.iter().map(String::as_str));
            }
        }
        Ok(labels)
    }

    /// What a version's own fields hold; `None` of one that is gone or cannot be read: the plan names it.
    pub(super) async fn held(&self, version: u64) -> Result<Option<Material>, CallError> {
        match self.get(Some(version)).await {
            Ok(read) => Ok(self.decode(&read.text).ok()),
            Err(error) if error.kind.is_transient() || error.kind == ErrorKind::NoAnswer => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// Whether labels are still on versions with the value that was there before the current one: that of the newest
    /// version whose own fields hold another. Versions that another wrote for its own fields may be in between.
    pub(super) async fn left_labels(&self, now: &Version) -> Result<bool, CallError> {
        let history = self.history().await?;
        if history.iter().all(|other| other.version == now.number || other.labels.is_empty()) {
            return Ok(false);
        }
        // Where the current text is not what the runbook needs, that is said by whoever reads it.
        let Ok(current) = self.decode(&now.text) else { return Ok(false) };
        let mut before = None;
        for other in history.iter().filter(|other| other.version < now.number).rev() {
            before = self.held(other.version).await?.filter(|held| !held.same_as(&current));
            if before.is_some() {
                break;
            }
        }
        let Some(before) = before else { return Ok(false) };
        Ok(!self.labels_on(&history, now.number, &before).await?.is_empty())
    }
}
