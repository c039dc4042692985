//! What `kubectl` calls a kubeconfig, as far as stanch reads it
//! (<https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>).
//!
//! Not by a crate for Kubernetes: those read the process's own environment, quote the lines of a file that is not valid,
//! and bring every type of the API with them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::provider::own_file;
use crate::secret::Secret;
use crate::text::sanitize;

/// Far above any kubeconfig.
const MAX_SIZE: u64 = 4 << 20;

/// The files of `KUBECONFIG` as one. Of two entries with one name, the first counts, as for `kubectl`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Kubeconfig {
    #[serde(default, rename = "current-context", deserialize_with = "or_default")]
    pub(super) current: String,
    #[serde(default, deserialize_with = "or_default")]
    contexts: Vec<NamedContext>,
    #[serde(default, deserialize_with = "or_default")]
    clusters: Vec<NamedCluster>,
    #[serde(default, deserialize_with = "or_default")]
    users: Vec<NamedUser>,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    context: Context,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    user: User,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

/// Where the API server is, and what it is trusted by.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Cluster {
    pub(super) server: String,
    pub(super) certificate_authority: Option<PathBuf>,
    pub(super) certificate_authority_data: Option<String>,
    pub(super) insecure_skip_tls_verify: bool,
    pub(super) tls_server_name: Option<String>,
    pub(super) proxy_url: Option<Hidden>,
}

/// Who one is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct User {
    pub(super) token: Option<Hidden>,
    #[serde(rename = "tokenFile")]
    pub(super) token_file: Option<PathBuf>,
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_certificate_data: Option<String>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) client_key_data: Option<Hidden>,
    username: Option<String>,
    password: Option<Hidden>,
    exec: Option<Exec>,
    auth_provider: Option<serde::de::IgnoredAny>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<String>>,
    as_user_extra: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
struct Exec {
    #[serde(default)]
    command: String,
}

/// A secret of a kubeconfig.
#[derive(Debug, Clone)]
pub(super) struct Hidden(pub(super) Secret);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Secret::new(text)))
    }
}

/// `kubectl config` writes `null` for an empty list.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Kubeconfig {
    /// Reads these files; one that is not there counts as empty, as for `kubectl`.
    ///
    /// # Errors
    /// When one cannot be read, or is not a kubeconfig. The error quotes nothing of it.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Self, CallError> {
        let mut all = Self::default();
        for path in paths {
            let bytes = match own_file::read(path, MAX_SIZE) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                read => read.map_err(|error| local(format!("cannot read {}: {error}", path.display())))?,
            };
            let folder = path.parent().unwrap_or(Path::new(""));
            all.add(Self::parse(&bytes, folder).ok_or_else(|| {
                local(format!("{} is not a kubeconfig", path.display()))
                    .hint(format!("check it: `kubectl --kubeconfig {} config view`", path.display()))
            })?);
        }
        Ok(all)
    }

    fn parse(bytes: &[u8], folder: &Path) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let mut found: Self = serde_saphyr::from_str(text).ok()?;
        // Paths count from the file that they are in.
        let absolute = |path: &mut Option<PathBuf>| {
            *path = path.take().filter(|p| !p.as_os_str().is_empty()).map(|p| folder.join(p));
        };
        found.clusters.iter_mut().for_each(|named| absolute(&mut named.cluster.certificate_authority));
        for NamedUser { user, .. } in &mut found.users {
            [&mut user.token_file, &mut user.client_certificate, &mut user.client_key]
                .into_iter()
                .for_each(absolute);
        }
        Some(found)
    }

    fn add(&mut self, other: Self) {
        if self.current.is_empty() {
            self.current = other.current;
        }
        // The first of two is what is found.
        self.contexts.extend(other.contexts);
        self.clusters.extend(other.clusters);
        self.users.extend(other.users);
    }

    /// Whether it has nothing that one could go by.
    pub(super) fn is_empty(&self) -> bool {
        self.contexts.is_empty() && self.clusters.is_empty() && self.current.is_empty()
    }

    /// The cluster and the user of a context.
    ///
    /// # Errors
    /// When the context or its cluster is not there, or its user logs in by other means than stanch has.
    pub(super) fn context(&self, name: &str) -> Result<(Cluster, User), CallError> {
        let shown = sanitize(name);
        let context = self.contexts.iter().find(|named| named.name == name).ok_or_else(|| {
            local(format!("the kubeconfig has no context `{shown}`")).hint(
                "`kubectl config get-contexts` lists the contexts: correct `context` of the connection, or KUBECONFIG",
            )
        })?;
        let wanted = &context.context;
        let cluster = self.clusters.iter().find(|named| named.name == wanted.cluster).ok_or_else(|| {
            let cluster = sanitize(&wanted.cluster);
            local(format!(
                "the context `{shown}` names the cluster `{cluster}`, which the kubeconfig does not have"
            ))
        })?;
        let user = self.users.iter().find(|named| named.name == wanted.user).ok_or_else(|| {
            let user = sanitize(&wanted.user);
            local(format!(
                "the context `{shown}` names the user `{user}`, which the kubeconfig does not have"
            ))
        })?;
        let user = user.user.clone();
        user.refuse_unsupported(&shown)?;
        Ok((cluster.cluster.clone(), user))
    }
}

impl User {
    /// Refuses what would make stanch another user than `kubectl` is.
    fn refuse_unsupported(&self, context: &str) -> Result<(), CallError> {
        let own = "make a kubeconfig whose user has a `token`: \
                   `kubectl create token SERVICEACCOUNT -n NAMESPACE --duration 1h`, and name it in KUBECONFIG";
        let said = |what: String| {
            let error = CallError::rejected(
                ErrorKind::Unsupported,
                format!("the user of the context `{context}` {what}"),
            );
            Err(error.hint(own))
        };
        if let Some(exec) = &self.exec {
            let program = sanitize(&exec.command);
            return said(format!(
                "logs in by the program `{program}`, and stanch starts no program to log in"
            ));
        }
        if self.auth_provider.is_some() {
            return said("logs in by an `auth-provider`, which Kubernetes has removed".to_owned());
        }
        let said_by = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if said_by(&self.username) || self.password.is_some() {
            return said("logs in by a password, which Kubernetes has removed".to_owned());
        }
        let acts = said_by(&self.impersonate) || said_by(&self.as_uid);
        if acts || self.as_groups.is_some() || self.as_user_extra.is_some() {
            return said("acts as another user (`as`), and stanch does not".to_owned());
        }
        Ok(())
    }
}

pub(super) fn local(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Local, message)
}
