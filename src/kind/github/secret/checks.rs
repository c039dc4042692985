//! What can be known of a secret of GitHub Actions before a run.

use super::found::Found;
use super::server::ActionsSecret;
use crate::domain::{Check, ErrorKind};

impl ActionsSecret {
    /// Looks, read-only, at all that a run would meet.
    pub(super) async fn checks(&self) -> Vec<Check> {
        let name = format!("secret {}", self.shown());
        let (found, key) = tokio::join!(self.find(), self.key());
        let mut checks = Vec::new();
        match &found {
            Ok(found) => {
                checks.push(match self.rehearse() {
                    Ok(()) => {
                        Check::pass(&name, format!("it exists, and was updated at {}", found.version()))
                    }
                    Err(error) => error.to_check(&name),
                });
                checks.push(self.may_write(found));
                if found.visibility.as_deref() == Some("selected")
                    && let Err(error) = self.selected().await
                {
                    checks.push(error.to_check(&format!("repositories of {name}")));
                }
            }
            Err(error) => checks.push(error.to_check(&name)),
        }
        // What is wrong with both is said once.
        if found.is_ok()
            && let Err(error) = key
        {
            checks.push(error.to_check(&format!("public key for {name}")));
        }
        checks
    }

    /// Whether the token may write. Of a classic one GitHub tells the scopes.
    fn may_write(&self, found: &Found) -> Check {
        let name = format!("permission to write {}", self.shown());
        match found.scopes.as_ref().filter(|scopes| !scopes.trim().is_empty()) {
            None => Check {
                hint: Some(format!("give it {}", self.permission)),
                ..Check::warn(
                    name,
                    format!("GitHub does not tell whether the token may write; it needs {}", self.permission),
                )
            },
            Some(scopes) if scopes.split(',').any(|scope| scope.trim() == self.scope) => {
                Check::pass(name, format!("the token has the scope {}", self.scope))
            }
            Some(_) => Check::fail(
                name,
                ErrorKind::Denied,
                format!("the token lacks the scope {}", self.scope),
                format!("give it {}", self.permission),
            ),
        }
    }
}
