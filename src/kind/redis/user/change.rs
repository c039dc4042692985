//! How the passwords of a user change. On each node a change is one transaction, together with what saves it, so that a
//! process that dies leaves all of it or nothing.

use super::acl::{Acl, is_keeper, keeper};
use crate::domain::ErrorKind;
use crate::kind::redis::client::{Command, RedisClient};
use crate::kind::redis::fault;
use crate::kind::redis::resp::Reply;
use crate::kind::redis::settings::Node;
use crate::provider::CallError;
use crate::text::sanitize;

/// A password of a user.
pub(super) struct Target<'a> {
    pub(super) client: &'a RedisClient,
    pub(super) user: &'a str,
    pub(super) hash: &'a str,
}

/// What a node said when it was to save a change that it made.
struct NotSaved(String);

impl Target<'_> {
    /// Makes the password valid on every node, with a marker of this name. A node that cannot save it gets rid of it again,
    /// and so do the nodes before it.
    ///
    /// # Errors
    /// When a node refuses, or its answer is lost.
    pub(super) async fn add(&self, nodes: &[Acl], marker: &str) -> Result<(), CallError> {
        let what = "a second password for the user (ACL SETUSER)";
        let hash = format!("#{}", self.hash);
        for (done, acl) in nodes.iter().enumerate() {
            let commands = vec![
                vec!["ACL", "SETUSER", marker, "reset", "off", &hash],
                vec!["ACL", "SETUSER", self.user, &hash],
            ];
            let error = match self.change(&acl.node, what, commands).await {
                Ok(Ok(())) => continue,
                Ok(Err(NotSaved(said))) => match self.take_back(&acl.node, marker, false).await {
                    Ok(()) => not_saved(&acl.node, &said, "the new password was removed again"),
                    Err(error) => return Err(error.doubtful()),
                },
                Err(error) => error,
            };
            for earlier in &nodes[..done] {
                self.take_back(&earlier.node, marker, true).await.map_err(CallError::doubtful)?;
            }
            return Err(error);
        }
        Ok(())
    }

    /// Undoes `add` on a node.
    async fn take_back(&self, node: &Node, marker: &str, save: bool) -> Result<(), CallError> {
        let what = "the removal of the new password (ACL SETUSER)";
        let hash = format!("!{}", self.hash);
        let commands = vec![vec!["ACL", "SETUSER", self.user, &hash], vec!["ACL", "DELUSER", marker]];
        if save {
            return self.saved(node, what, commands).await;
        }
        performed(node, what, self.client.perform(node, what, commands).await?)
    }

    /// Makes the password refused wherever it is valid, and keeps its hash with a user that may do nothing. `end` says
    /// whether the user's connections end in the same moment; `again`, whether they do so as well where it is refused already.
    ///
    /// # Errors
    /// When a node refuses, cannot save it, or its answer is lost.
    pub(super) async fn park(&self, nodes: &[Acl], end: bool, again: bool) -> Result<(), CallError> {
        let what = "the removal of the password (ACL SETUSER)";
        let (keeper, add, remove) =
            (keeper(self.user, self.hash), format!("#{}", self.hash), format!("!{}", self.hash));
        for acl in nodes {
            let Some(password) = acl.password(self.user, self.hash) else { continue };
            let mut commands = Vec::new();
            if password.markers.is_empty() {
                commands.push(vec!["ACL", "SETUSER", &keeper, "reset", "off", &add]);
            }
            if password.active {
                commands.push(vec!["ACL", "SETUSER", self.user, &remove]);
            }
            if end && (password.active || again) && acl.user(self.user).is_some() {
                commands.push(vec!["CLIENT", "KILL", "USER", self.user, "SKIPME", "yes"]);
            }
            if !commands.is_empty() {
                self.saved(&acl.node, what, commands).await?;
            }
        }
        Ok(())
    }

    /// Takes `park` back, wherever the password is kept and refused.
    ///
    /// # Errors
    /// As for `park`; [`ErrorKind::NotFound`] when no node has it any more.
    pub(super) async fn unpark(&self, nodes: &[Acl]) -> Result<(), CallError> {
        let what = "the old password for the user (ACL SETUSER)";
        let hash = format!("#{}", self.hash);
        for acl in nodes {
            let Some(password) = acl.password(self.user, self.hash).filter(|found| !found.active) else {
                continue;
            };
            if acl.user(self.user).is_none() {
                let message =
                    format!("Redis at {} has no user {} any more", acl.node.place(), sanitize(self.user));
                return Err(CallError::rejected(ErrorKind::NotFound, message));
            }
            let mut commands = vec![vec!["ACL", "SETUSER", self.user, &hash]];
            let keepers = password.markers.iter().filter(|marker| is_keeper(self.user, marker));
            commands.extend(keepers.map(|marker| vec!["ACL", "DELUSER", *marker]));
            self.saved(&acl.node, what, commands).await?;
        }
        Ok(())
    }

    /// Removes what marks and keeps the password: the last trace of it.
    ///
    /// # Errors
    /// As for `park`.
    pub(super) async fn forget(&self, nodes: &[Acl]) -> Result<(), CallError> {
        for acl in nodes {
            let Some(password) = acl.password(self.user, self.hash) else { continue };
            let mut command = vec!["ACL", "DELUSER"];
            command.extend(password.markers);
            if command.len() > 2 {
                self.saved(&acl.node, "the removal of the password's hash (ACL DELUSER)", vec![command])
                    .await?;
            }
        }
        Ok(())
    }

    /// One transaction, which must be saved.
    async fn saved(&self, node: &Node, what: &str, commands: Vec<Command<'_>>) -> Result<(), CallError> {
        match self.change(node, what, commands).await? {
            Ok(()) => Ok(()),
            Err(NotSaved(said)) => {
                Err(not_saved(node, &said, &format!("{what} took effect until it restarts")).doubtful())
            }
        }
    }

    async fn change(
        &self,
        node: &Node,
        what: &str,
        mut commands: Vec<Command<'_>>,
    ) -> Result<Result<(), NotSaved>, CallError> {
        let save = self.client.lasting(node).await.map_err(CallError::read_only)?.command();
        let saves = save.is_some();
        commands.extend(save);
        let mut replies = self.client.perform(node, what, commands).await?;
        let last = if saves { replies.pop() } else { None };
        performed(node, what, replies)?;
        Ok(last.and_then(Reply::error).map_or(Ok(()), |said| Err(NotSaved(said))))
    }
}

/// Whether each command of a transaction took effect.
fn performed(node: &Node, what: &str, replies: Vec<Reply>) -> Result<(), CallError> {
    match replies.into_iter().find_map(Reply::error) {
        // The others did.
        Some(said) => Err(fault::refused(&node.place(), what, &said).doubtful()),
        None => Ok(()),
    }
}

fn not_saved(node: &Node, said: &str, state: &str) -> CallError {
    let place = node.place();
    let message = format!("Redis at {place} cannot save its users, so that {state}: {}", fault::words(said));
    CallError::rejected(ErrorKind::NotReady, message)
        .hint("let the server write its file of users, or its configuration file (its log says what is wrong), then resume")
}
