//! All files of authorized keys that a key is in.
//!
//! They cannot be changed as one. Each change goes through them in their order, and the last one that knows the key says
//! what became of it: so a change that was cut short is not taken for done, whichever it was.

use std::fmt;
use std::sync::Arc;

use super::lines::AuthorizedKeys;
use crate::domain::{ErrorKind, Life};
use crate::provider::CallError;
use crate::provider::document::Document;

/// The files.
#[derive(Clone)]
pub(super) struct Places(pub(super) Vec<Arc<dyn Document>>);

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.shown()).finish()
    }
}

/// What a change does to one file. Returns whether it changed anything.
type Edit = Arc<dyn Fn(&mut AuthorizedKeys) -> Result<bool, CallError> + Send + Sync>;

fn about(shown: &str, error: CallError) -> CallError {
    CallError { message: format!("{shown}: {}", error.message), ..error }
}

async fn edit(place: &Arc<dyn Document>, edit: &Edit) -> Result<(), CallError> {
    let (shown, edit) = (place.shown(), Arc::clone(edit));
    let change = move |text: &str| {
        let mut keys = AuthorizedKeys::read(text);
        let changed = edit(&mut keys).map_err(|error| about(&shown, error))?;
        Ok(changed.then(|| keys.text()))
    };
    place.change(Box::new(change)).await
}

impl Places {
    pub(super) fn shown(&self) -> Vec<String> {
        self.0.iter().map(|place| place.shown()).collect()
    }

    /// Each file's name and keys.
    pub(super) async fn read(&self) -> Result<Vec<(String, AuthorizedKeys)>, CallError> {
        let mut all = Vec::new();
        for place in &self.0 {
            all.push((place.shown(), AuthorizedKeys::read(&place.read().await?)));
        }
        Ok(all)
    }

    /// What the last file says that knows the key.
    pub(super) async fn life(&self, name: &str) -> Result<Life, CallError> {
        let all = self.read().await?;
        let known = all.iter().rev().map(|(_, keys)| keys.life(name)).find(|life| *life != Life::Gone);
        Ok(known.unwrap_or(Life::Gone))
    }

    /// Changes each file, and believes it when it reads so.
    pub(super) async fn change(
        &self,
        change: impl Fn(&mut AuthorizedKeys) -> Result<bool, CallError> + Send + Sync + 'static,
        wanted: impl Fn(&AuthorizedKeys) -> bool + Send + Sync,
    ) -> Result<(), CallError> {
        let change: Edit = Arc::new(change);
        let done = self.each(&change).await;
        done.map_err(|(at, error)| if at > 0 { error.doubtful() } else { error })?;
        self.reads(wanted).await
    }

    /// Adds a key to each file, or to none of them where one certainly does not take it.
    pub(super) async fn add(
        &self,
        name: &str,
        publish: impl Fn(&mut AuthorizedKeys) -> Result<bool, CallError> + Send + Sync + 'static,
    ) -> Result<(), CallError> {
        let publish: Edit = Arc::new(publish);
        if let Err((at, error)) = self.each(&publish).await {
            if error.in_doubt {
                return Err(error);
            }
            let of = name.to_owned();
            let undo: Edit = Arc::new(move |keys: &mut AuthorizedKeys| Ok(keys.remove(&of)));
            let undone = Self(self.0[..at].to_vec()).each(&undo).await;
            return Err(if undone.is_err() { error.doubtful() } else { error });
        }
        self.reads(|keys| keys.life(name) == Life::Active).await
    }

    /// Changes each file, up to the first that cannot be changed: which one that is, and why.
    async fn each(&self, change: &Edit) -> Result<(), (usize, CallError)> {
        for (at, place) in self.0.iter().enumerate() {
            edit(place, change).await.map_err(|error| (at, error))?;
        }
        Ok(())
    }

    async fn reads(&self, wanted: impl Fn(&AuthorizedKeys) -> bool + Send + Sync) -> Result<(), CallError> {
        for (shown, keys) in self.read().await.map_err(CallError::doubtful)? {
            if !wanted(&keys) {
                let message = format!("{shown} was written, but does not hold what stanch wrote");
                return Err(CallError::unknown(message));
            }
        }
        Ok(())
    }

    /// As [`Places::change`], for a key in some of the files: the others stay as they are.
    pub(super) async fn turn(
        &self,
        name: &str,
        turn: fn(&mut AuthorizedKeys, &str) -> Result<bool, CallError>,
        wanted: Life,
    ) -> Result<(), CallError> {
        if self.life(name).await? == Life::Gone {
            let message = format!("there is no line of the key {name} in {}", self.shown().join(" or "));
            return Err(CallError::rejected(ErrorKind::NotFound, message));
        }
        let (of, name) = (name.to_owned(), name);
        let change = move |keys: &mut AuthorizedKeys| {
            if keys.life(&of) == Life::Gone { Ok(false) } else { turn(keys, &of) }
        };
        self.change(change, |keys| [wanted, Life::Gone].contains(&keys.life(name))).await
    }
}
