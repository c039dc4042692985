//! What can be known of a variable before a run. Whoever may read a variable may write it, so that the read is the check
//! of the role; the scope of the token is checked with the connection.

use super::found::Found;
use super::server::VariableStore;
use crate::domain::{Check, ErrorKind};
use crate::provider::outcome::CallError;
use crate::provider::text::{Object, refuse_unclear};
use crate::secret::{Material, Secret};

impl VariableStore {
    /// Looks, read-only, at all that a run would meet.
    pub(super) async fn checks(&self) -> Vec<Check> {
        let name = format!("variable {}", self.shown());
        let found = match self.find().await {
            Ok(found) => found,
            Err(error) => return vec![error.to_check(&name)],
        };
        let mut checks = match self.rehearse(&found) {
            Ok(()) => vec![Check::pass(&*name, "it can be read, and GitLab can hold a new value there")],
            Err(error) => vec![error.to_check(&name)],
        };
        if found.is("protected") {
            checks.push(Check::warn(
                "protected variable",
                format!("{}: only pipelines of protected branches and tags get it; others have another value, or none", self.shown()),
            ));
        }
        if !found.is("masked") {
            checks.push(Check::warn(
                "visible variable",
                format!(
                    "{}: it is not masked: a job that prints the new value leaves it in its log",
                    self.shown()
                ),
            ));
        }
        checks
    }

    /// Makes the edit in memory: with the old value, and with one as the issuer makes them.
    fn rehearse(&self, found: &Found) -> Result<(), CallError> {
        let held = self.decode(found)?;
        refuse_unclear(&held).map_err(|error| self.about(error))?;
        if self.layout.is_whole() && held.parts().count() == 1 && Object::parse(found.text.expose()).is_ok() {
            let message = format!(
                "{}: the value is a JSON object, and the runbook names no `field` of it",
                self.shown()
            );
            return Err(CallError::rejected(ErrorKind::Invalid, message).hint(
                "name the `field` that holds the credential: without one the whole object would be replaced",
            ));
        }
        self.refuse_unfit(found, &found.text, &held)?;
        let likely = held.parts().fold(Material::default(), |all, (part, old)| {
            all.with(part, self.characters.as_ref().map_or_else(|| old.clone(), Secret::new))
        });
        self.refuse_unfit(found, &self.encode(found, &likely)?, &likely)
    }
}
