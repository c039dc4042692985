//! What can be known of a KV v2 secret before it is written.

use std::sync::Arc;

use jiff::Timestamp;
use rustify::enums::RequestMethod;

use super::server::Kv2Store;
use crate::domain::{Check, CheckVerdict, ErrorKind};
use crate::kind::vault::client::{Effect, data};
use crate::kind::vault::kv2_secret::{Metadata, Mount, MountConfig};
use crate::kind::vault::permissions::{self, Need, capabilities, holds};
use crate::provider::outcome::CallError;

impl Kv2Store {
    /// Everything that can be looked at, all at once.
    pub(in crate::kind::vault) async fn checks(&self) -> Vec<Check> {
        let name = format!("secret {}", self.place.shown());
        let needs = self.needs();
        let (mount, permissions, version, metadata, config) = tokio::join!(
            self.mount_check(),
            permissions::check(&self.client, &name, &needs),
            self.look_early(),
            self.set_up(),
            self.config(),
        );
        // What a server says of a secret means nothing on another sort of mount.
        if mount.verdict == CheckVerdict::Fail {
            return vec![mount];
        }
        let mut checks = vec![mount, permissions];
        // Of the look itself: what it left behind may have been read by another call since.
        let deletes = version.as_ref().ok().and_then(|(_, deletes)| *deletes);
        checks.push(match version {
            Ok((version, _)) => Check::pass(name.clone(), format!("version {version} is current")),
            // The permission that is missing is named already.
            Err(error) if error.kind == ErrorKind::Denied => Check::warn(name.clone(), "it may not be read"),
            Err(error) => error.to_check(&name),
        });
        // A server that does not answer may answer later; what may not be read is named above.
        if let Err(error) = &metadata
            && error.kind.is_transient()
        {
            checks.push(error.to_check(&name));
        }
        checks.extend(self.cautions(&name, metadata.ok().as_deref(), config.as_deref(), deletes));
        checks
    }

    fn needs(&self) -> Vec<Need> {
        let (data, metadata, destroy) =
            (self.place.api("data"), self.place.api("metadata"), self.place.api("destroy"));
        let mut needs = vec![
            Need::new(&data, &["read"], "read the secret"),
            Need::new(&data, &["update"], "update the secret").sending(&["data", "options"]),
            Need::new(metadata, &["read"], "read the secret's versions"),
        ];
        if self.destroys {
            needs.push(Need::new(destroy, &["update"], "destroy versions").sending(&["versions"]));
        }
        needs
    }

    /// How the secret is set up, as it was when this run first asked.
    async fn set_up(&self) -> Result<Arc<Metadata>, CallError> {
        self.client.facts.secrets.get(&self.place.shown(), self.metadata()).await
    }

    /// The mount's own settings, where they may be read: few tokens may.
    async fn config(&self) -> Option<Arc<MountConfig>> {
        let path = format!("{}/config", self.place.mount());
        let held = capabilities(&self.client, &[&path]).await.ok()?;
        if !holds(&held[0], "read") {
            return None;
        }
        let ask =
            async { data(&self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?, &path) };
        self.client.facts.configs.get(self.place.mount(), ask).await.ok()
    }

    /// Settings of the secret's or the mount's that change what a rotation leaves.
    fn cautions(
        &self,
        name: &str,
        secret: Option<&Metadata>,
        mount: Option<&MountConfig>,
        deletes: Option<Timestamp>,
    ) -> Vec<Check> {
        let set = |period: &&str| !matches!(*period, "" | "0" | "0s");
        let after = secret.map(|s| s.delete_version_after.as_str()).filter(set);
        let after = after.or_else(|| mount.map(|m| m.delete_version_after.as_str()).filter(set));
        let after = after.map(|period| format!("{} after it was written", self.client.quoted(period)));
        let mut checks = Vec::new();
        if let Some(when) = after.or_else(|| deletes.map(|at| format!("the present one at {at}"))) {
            let (mount, path) = (self.place.mount(), self.place.path());
            checks.push(Check {
                hint: Some(format!(
                    "stop that: `vault kv metadata put -mount={mount} -delete-version-after=0s {path}`, and \
                     `vault write {mount}/config delete_version_after=0s` where the mount sets it"
                )),
                ..Check::warn(
                    name,
                    format!(
                        "every version of it deletes itself ({when}): the new one will, too, and consumers \
                             then find nothing"
                    ),
                )
            });
        }
        let kept =
            secret.map(|s| s.max_versions).filter(|n| *n > 0).or_else(|| mount.map(|m| m.max_versions));
        if kept == Some(1) {
            checks.push(Check::warn(
                name,
                "only one version of it is kept: once the new one is written, the old value is in stanch's sealed copy alone",
            ));
        }
        checks
    }

    /// A KV v1 mount answers to v2-looking paths in its own way, so its version is asked first.
    async fn mount_check(&self) -> Check {
        let mount = self.place.mount();
        let name = format!("mount {mount}");
        let path = format!("sys/internal/ui/mounts/{mount}");
        let ask =
            async { data(&self.client.plain(RequestMethod::GET, &path, None, Effect::Read).await?, &path) };
        let found: Result<Arc<Mount>, CallError> = self.client.facts.mounts.get(mount, ask).await;
        let found = match found {
            Ok(found) => found,
            // Vault gives the same answer for a mount that is not there and one that is not ours to see.
            Err(error)
                if matches!(error.kind, ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Invalid) =>
            {
                return Check::fail(
                    name,
                    error.kind,
                    format!("there is no mount `{mount}`, or this token may do nothing below it"),
                    "`vault secrets list` shows the mounts; check `mount` in the runbook, then the policies",
                );
            }
            Err(error) => return error.to_check(&name),
        };
        let version = found.options.as_ref().and_then(|o| o.get("version")).map(String::as_str);
        if found.path.trim_matches('/') != mount {
            return Check::fail(
                name,
                ErrorKind::Invalid,
                format!(
                    "`{mount}` lies inside the mount `{}`",
                    self.client.quoted(found.path.trim_matches('/'))
                ),
                "put the rest into `path`",
            );
        }
        match (found.engine.as_str(), version) {
            ("kv", Some("2")) => Check::pass(name, "it is KV version 2"),
            ("kv" | "generic", _) => Check::fail(
                name,
                ErrorKind::Unsupported,
                "it is KV version 1, which keeps no versions: stanch could not roll back",
                format!("upgrade it: `vault kv enable-versioning {mount}`"),
            ),
            (other, _) => Check::fail(
                name,
                ErrorKind::Unsupported,
                format!("it is of type {}", self.client.quoted(other)),
                "check `mount` in the runbook: it has to be a KV version 2 mount",
            ),
        }
    }
}
