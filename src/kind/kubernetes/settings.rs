//! How a cluster is reached: a kubeconfig as `kubectl` finds it, else the service account of the pod.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::kubeconfig::{Cluster, Hidden, Kubeconfig, User, local};
use super::spec::Kubernetes;
use crate::domain::ErrorKind;
use crate::provider::http::{Unfit, credential_address, sensitive};
use crate::provider::outcome::CallError;
use crate::provider::own_file::{self, SMALL};
use crate::provider::tls::Pem;
use crate::secret::Secret;

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Everything that is needed to talk to a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the paths of the API begin, without a slash at its end.
    pub address: reqwest::Url,
    /// Where this was found, for messages.
    pub source: String,
    pub(super) login: Login,
    pub(super) ca: Option<Pem>,
    /// A certificate with its key.
    pub(super) identity: Option<Secret>,
    pub(super) proxy: Option<Secret>,
    /// Whether any certificate of the server is accepted.
    pub skip_verify: bool,
}

/// What requests carry.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Token(Secret),
    /// It is read for each request: a service account gets a new one every hour.
    File(PathBuf),
    /// A certificate, or nothing.
    Nothing,
}

impl Login {
    /// The token, if there is one.
    pub(super) fn token(&self) -> Result<Option<Secret>, CallError> {
        match self {
            Self::Token(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let bytes = read(path)?;
                let text =
                    String::from_utf8(bytes).map_err(|_| local(format!("{} is not text", path.display())))?;
                Ok(Some(Secret::new(text.trim())))
            }
            Self::Nothing => Ok(None),
        }
    }
}

impl Settings {
    /// Finds the cluster: in the files of `KUBECONFIG`, else in `~/.kube/config`, else, in a pod, by its service account.
    ///
    /// # Errors
    /// When there is none, something cannot be read, or the address is another one than the runbook says.
    pub fn resolve(spec: &Kubernetes, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        let set = |name: &str| env(name).filter(|value| !value.trim().is_empty());
        let mut paths: Vec<PathBuf> = set("KUBECONFIG").iter().flat_map(std::env::split_paths).collect();
        paths.retain(|path| !path.as_os_str().is_empty());
        let named = !paths.is_empty();
        if !named {
            paths.extend(set("HOME").map(|home| Path::new(&home).join(".kube/config")));
        }
        let shown = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let kubeconfig = Kubeconfig::read(&paths)?;
        // A name with a typing error in it must not lead to the pod's own account.
        if named && kubeconfig.is_empty() {
            let message = format!("KUBECONFIG names {shown}, where no cluster is");
            return Err(local(message).hint("correct KUBECONFIG, or unset it"));
        }
        let in_pod = set("KUBERNETES_SERVICE_HOST").zip(set("KUBERNETES_SERVICE_PORT"));
        let found = match in_pod {
            Some((host, port)) if kubeconfig.is_empty() && spec.context.is_none() => {
                Self::in_pod(&host, &port)?
            }
            _ if kubeconfig.is_empty() => {
                let message = format!("no kubeconfig has a cluster: stanch looked at {shown}");
                return Err(local(message).hint("set KUBECONFIG to the file that `kubectl` works with"));
            }
            _ => {
                let context = spec.context.as_deref().unwrap_or(&kubeconfig.current);
                // The current context is another one as soon as a person chooses it, also between a run and its resume.
                if spec.context.is_none() && spec.address.is_none() {
                    return Err(local(format!("the connection does not say which cluster it means, and the current context of {shown} may be another one when you resume")).hint(
                        "set `context` or `address` of the connection in the runbook; `kubectl config current-context` prints the context",
                    ));
                }
                if context.is_empty() {
                    return Err(local(format!("the kubeconfig ({shown}) has no current context"))
                        .hint("set `context` of the connection in the runbook, or type `kubectl config use-context NAME`"));
                }
                let (cluster, user) = kubeconfig.context(context)?;
                Self::of(&cluster, &user, format!("the context `{context}` of {shown}"))?
            }
        };
        if let Some(wanted) = &spec.address
            && address(wanted)? != found.address
        {
            let message = format!(
                "{} leads to {}, and the connection's `address` is another one",
                found.source,
                found.address.as_str().trim_end_matches('/')
            );
            return Err(local(message)
                .hint("choose the context of the cluster that the runbook means, or correct `address`"));
        }
        Ok(found)
    }

    fn in_pod(host: &str, port: &str) -> Result<Self, CallError> {
        let folder = Path::new(SERVICE_ACCOUNT);
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let ca = folder.join("ca.crt");
        Ok(Self {
            address: address(&format!("https://{host}:{port}"))?,
            source: "the service account of this pod".to_owned(),
            login: Login::File(folder.join("token")),
            ca: Some((read(&ca)?, ca.display().to_string())),
            identity: None,
            proxy: None,
            skip_verify: false,
        })
    }

    fn of(cluster: &Cluster, user: &User, source: String) -> Result<Self, CallError> {
        if cluster.tls_server_name.as_deref().is_some_and(|name| !name.is_empty()) {
            let message = format!("{source} has a `tls-server-name`, which stanch does not support");
            return Err(CallError::rejected(ErrorKind::Unsupported, message)
                .hint("make a context whose `server` has the name that is in the server's certificate"));
        }
        let token = user.token.as_ref().filter(|Hidden(token)| !token.expose().is_empty());
        // The file comes first, as for `kubectl`.
        let login = match (token, &user.token_file) {
            (_, Some(path)) => Login::File(path.clone()),
            (Some(Hidden(token)), None) => {
                sensitive(token.expose(), &format!("the token of {source}"))?;
                Login::Token(token.clone())
            }
            (None, None) => Login::Nothing,
        };
        let key = user.client_key_data.as_ref().map(|Hidden(key)| key.expose());
        let certificate =
            pem(user.client_certificate_data.as_deref(), user.client_certificate.as_deref(), &source)?;
        let identity = match (certificate, pem(key, user.client_key.as_deref(), &source)?) {
            (Some(certificate), Some(key)) => {
                let both = String::from_utf8([certificate, b"\n".to_vec(), key].concat());
                Some(Secret::new(both.map_err(|_| local(format!("the certificate of {source} is not PEM")))?))
            }
            (None, None) => None,
            _ => {
                return Err(local(format!(
                    "{source} has a client certificate without its key, or a key alone"
                )));
            }
        };
        let ca = pem(
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
            &source,
        )?;
        if cluster.insecure_skip_tls_verify && ca.is_some() {
            return Err(local(format!(
                "{source} has `insecure-skip-tls-verify` beside a certificate authority"
            ))
            .hint("remove `insecure-skip-tls-verify` there"));
        }
        let address = address(&cluster.server)?;
        let proxy = cluster.proxy_url.as_ref().map(|Hidden(url)| url.clone());
        let proxy = proxy.filter(|url| !url.expose().is_empty());
        if let Some(proxy) = &proxy {
            let speaks = ["http://", "https://"].iter().any(|scheme| proxy.expose().starts_with(scheme));
            if !speaks || address.scheme() == "http" {
                return Err(CallError::rejected(
                    ErrorKind::Unsupported,
                    format!("{source} has a `proxy-url` that stanch does not support"),
                )
                .hint("use a proxy whose address begins with http:// or https://, and a `server` that begins with https://"));
            }
        }
        Ok(Self {
            address,
            login,
            ca: ca.map(|pem| (pem, format!("the certificate authority of {source}"))),
            identity,
            proxy,
            skip_verify: cluster.insecure_skip_tls_verify,
            source,
        })
    }
}

/// A text in PEM: as base64 in the file itself, which comes first, or in a file of its own.
fn pem(data: Option<&str>, path: Option<&Path>, source: &str) -> Result<Option<Vec<u8>>, CallError> {
    match (data.filter(|data| !data.is_empty()), path) {
        (Some(data), _) => {
            let decoded = STANDARD.decode(data.trim());
            decoded.map(Some).map_err(|_| local(format!("a certificate or key of {source} is not base64")))
        }
        (None, Some(path)) => read(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CallError> {
    own_file::read(path, SMALL).map_err(|error| local(format!("cannot read {}: {error}", path.display())))
}

/// The address, if requests with a credential may go there.
fn address(text: &str) -> Result<reqwest::Url, CallError> {
    credential_address(text).map_err(|unfit| match unfit {
        Unfit::Invalid => {
            local("the address of the API server is not valid").hint("write it as `https://HOST:PORT`")
        }
        Unfit::Plain => {
            local("the address of the API server begins with http://: secrets would be readable on their way")
                .hint("write `https://`; `http://` is for this machine alone (`kubectl proxy`)")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\npreferences: {}\n\
        contexts:\n- {name: a, context: {cluster: one, user: me, namespace: x}}\n- {name: b, context: {cluster: two, user: other}}\n\
        clusters:\n- {name: one, cluster: {server: 'https://one:6443/', certificate-authority: ca.pem}}\n\
        - {name: two, cluster: {server: 'https://two', insecure-skip-tls-verify: true, extensions: []}}\n\
        users:\n- {name: me, user: {token: canary}}\n- {name: other, user: {exec: {command: aws, args: [x], apiVersion: v1}}}\n";

    const A: &str = r#"{"context":"a"}"#;

    fn resolve(spec: &str, config: &str, more: &[(&str, &str)]) -> Result<Settings, CallError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        for (path, text) in [(&path, config), (&folder.path().join("ca.pem"), "PEM")] {
            let mut file = std::fs::File::create(path).expect("a file");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("written");
        }
        let path = path.display().to_string();
        let env = |name: &str| match name {
            "KUBECONFIG" => Some(path.clone()),
            _ => more.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()),
        };
        Settings::resolve(&serde_json::from_str(spec).expect("a connection"), &env)
    }

    #[test]
    fn a_context_is_found_as_kubectl_finds_it_and_its_token_is_never_shown() {
        let found = resolve(A, CONFIG, &[]).expect("settings");
        assert_eq!(found.address.as_str(), "https://one:6443/");
        assert_eq!(
            found.ca.as_ref().map(|(pem, _)| pem.as_slice()),
            Some(b"PEM".as_slice()),
            "beside the file"
        );
        assert!(!found.skip_verify && !format!("{found:?}").contains("canary"));
        assert_eq!(found.login.token().expect("a token").expect("a token").expose(), "canary");
        let said = resolve(r#"{"address":"https://one:6443"}"#, CONFIG, &[]);
        assert!(said.is_ok(), "{said:?}");
    }

    #[test]
    fn what_would_be_another_cluster_or_another_user_is_refused() {
        let user = |user: &str| CONFIG.replace("{token: canary}", user);
        for (spec, config, words) in [
            (r#"{"address":"https://two"}"#, CONFIG.to_owned(), "another one"),
            (r#"{"context":"c"}"#, CONFIG.to_owned(), "no context `c`"),
            (r#"{"context":"b"}"#, CONFIG.to_owned(), "the program `aws`"),
            (A, user("{token: canary, as: root}"), "acts as another"),
            (A, user("{username: me, password: canary}"), "a password"),
            (A, user("{auth-provider: {name: gcp}}"), "auth-provider"),
            (A, user("{client-certificate-data: Y2FuYXJ5}"), "without its key"),
            (A, CONFIG.replace("https://one", "http://one"), "http://"),
            (A, CONFIG.replace("certificate-authority", "tls-server-name"), "tls-server-name"),
            (
                r#"{"address":"https://one:6443"}"#,
                CONFIG.replace("current-context: a", ""),
                "no current context",
            ),
            ("{}", CONFIG.to_owned(), "does not say which cluster"),
            (A, CONFIG.replace("user: me", "user: you"), "which the kubeconfig does not have"),
            (
                A,
                CONFIG.replace(
                    "certificate-authority: ca.pem",
                    "certificate-authority: ca.pem, insecure-skip-tls-verify: true",
                ),
                "beside a certificate authority",
            ),
            (A, CONFIG.replace("certificate-authority: ca.pem", "proxy-url: 'socks5://proxy'"), "proxy-url"),
            (
                A,
                CONFIG
                    .replace("https://one:6443/", "http://127.0.0.1")
                    .replace("certificate-authority: ca.pem", "proxy-url: 'http://proxy'"),
                "proxy-url",
            ),
            (A, CONFIG.replace("token: canary", "token: [canary"), "not a kubeconfig"),
            (A, String::new(), "where no cluster is"),
        ] {
            let error = resolve(spec, &config, &[]).expect_err(words);
            assert!(error.message.contains(words), "{words}: {error:?}");
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
        // In a pod, a context is not given up for the service account.
        let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
        assert!(resolve(r#"{"context":"b"}"#, "", &pod).is_err());
        assert!(resolve(A, CONFIG, &pod).expect("the kubeconfig").address.as_str().contains("one"));
    }
}
