//! How the nodes are reached: the runbook's words first, then the environment.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::fault::local;
use super::spec::Redis;
use crate::provider::http::transport::is_loopback;
use crate::provider::outcome::CallError;
use crate::provider::tls::{self, Pem};
use crate::secret::Secret;

const PORT: u16 = 6379;
/// More than anyone lists by hand.
const MOST_NODES: usize = 1000;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Node {
    /// The server, for messages.
    pub fn place(&self) -> String {
        let Self { host, port } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Reads `HOST:PORT`; an address with colons stands in brackets.
    fn read(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let fits = !host.is_empty()
            && (bare.is_some() || !host.contains(':'))
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@[]".contains(c));
        Some(Self { host: host.to_owned(), port: port.parse().ok().filter(|port| *port != 0 && fits)? })
    }
}

/// Everything that is needed to talk to the nodes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Each server with an ACL of its own; the first one is the connection's `host`.
    pub nodes: Vec<Node>,
    /// The user to work as.
    pub user: String,
    /// Its password; without one only a server that asks for none can be used.
    pub password: Option<Secret>,
    /// Whether TLS is used.
    pub tls: bool,
    /// The only CA certificates to trust; else the machine's.
    pub ca_cert: Option<PathBuf>,
    /// A certificate with its key, for servers that ask for one.
    pub client_cert: Option<PathBuf>,
}

/// What `REDIS_URL` says.
#[derive(Default)]
struct Address {
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<Secret>,
    plain: bool,
}

impl Settings {
    /// Completes the runbook's words from `REDIS_URL` and `REDISCLI_AUTH`. There is no default host: a rotation must not
    /// find its way to whatever listens on this machine.
    ///
    /// # Errors
    /// When there is no host, or an address is none.
    pub fn resolve(spec: &Redis, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let url = env("REDIS_URL").map(|text| address(&text)).transpose()?.unwrap_or_default();
        // A user and a password go together, and to the server that they were meant for.
        let elsewhere = spec.host.is_some() && spec.host != url.host;
        let host = spec.host.clone().or(url.host).ok_or_else(|| {
            local("no Redis server is set")
                .hint("set REDIS_URL, for example to rediss://HOST:6379, or `host` of the connection in the runbook")
        })?;
        let first = Node { host, port: spec.port.or(url.port.filter(|_| !elsewhere)).unwrap_or(PORT) };
        if Node::read(&first.place()).as_ref() != Some(&first) {
            return Err(local(
                "`host` of the connection to Redis is not the name or the address of a server",
            ));
        }
        let mut nodes = vec![first];
        for text in &spec.nodes {
            let node = Node::read(text).filter(|_| nodes.len() < MOST_NODES).ok_or_else(|| {
                local(format!("`nodes` of the connection has an entry that is not HOST:PORT: {text}"))
            })?;
            if !nodes.contains(&node) {
                nodes.push(node);
            }
        }
        let own_user = spec.user.is_some() && spec.user != url.user;
        let of_url = url.password.filter(|_| !elsewhere && !own_user);
        Ok(Self {
            nodes,
            user: spec
                .user
                .clone()
                .or(url.user.filter(|_| !elsewhere))
                .unwrap_or_else(|| "default".to_owned()),
            password: env("REDISCLI_AUTH").map(Secret::new).or(of_url),
            tls: spec.tls.unwrap_or(elsewhere || !url.plain),
            ca_cert: spec.ca_cert.clone().map(PathBuf::from),
            client_cert: spec.client_cert.clone().map(PathBuf::from),
        })
    }

    /// Whether passwords could be read on their way.
    pub fn in_plain_text(&self) -> bool {
        !self.tls && self.nodes.iter().any(|node| !is_loopback(&node.host))
    }

    /// The only CA certificates to trust, and the certificate to show.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn certificates(&self) -> Result<(Option<Pem>, Option<Pem>), CallError> {
        let read = |path: &Option<PathBuf>, field: &str| {
            let hint = || format!("correct `{field}` of the connection");
            path.as_deref().map(|path| tls::read(path, hint())).transpose()
        };
        Ok((read(&self.ca_cert, "ca_cert")?, read(&self.client_cert, "client_cert")?))
    }
}

/// Reads `redis://` or `rediss://`, with a user and a password where they are in it. Quotes nothing of it.
fn address(text: &str) -> Result<Address, CallError> {
    let wrong = || {
        local("REDIS_URL is not an address of Redis")
            .hint("write it as rediss://HOST:PORT, or as redis://HOST:PORT for a server without TLS")
    };
    let (scheme, rest) = text.trim().split_once("://").ok_or_else(wrong)?;
    let plain = match scheme {
        "redis" => true,
        "rediss" => false,
        _ => return Err(wrong()),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (login, place) = authority.rsplit_once('@').map_or((None, authority), |(l, p)| (Some(l), p));
    let has_port = place.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()));
    let node = if has_port { Node::read(place) } else { Node::read(&format!("{place}:{PORT}")) };
    let node = node.ok_or_else(wrong)?;
    let decoded = |text: &str| -> Result<String, CallError> {
        Ok(percent_decode_str(text).decode_utf8().map_err(|_| wrong())?.into_owned())
    };
    let (user, password) = login.map_or((None, None), |login| match login.split_once(':') {
        Some((user, password)) => (Some(user), Some(password)),
        None => (Some(login), None),
    });
    Ok(Address {
        host: Some(node.host),
        port: Some(node.port),
        user: user.filter(|user| !user.is_empty()).map(decoded).transpose()?,
        password: password.map(decoded).transpose()?.filter(|word| !word.is_empty()).map(Secret::new),
        plain,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<Settings, CallError> {
        let spec: Redis = serde_json::from_str(text).expect("a connection");
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(&spec, &env)
    }

    fn places(settings: &Settings) -> Vec<String> {
        settings.nodes.iter().map(Node::place).collect()
    }

    #[test]
    fn the_runbook_comes_before_the_environment() {
        let env = [("REDIS_URL", "redis://ops:p%40ss@env.internal:7000/3"), ("REDISCLI_AUTH", "word")];
        let found = resolve("{}", &env).expect("settings");
        assert_eq!(
            (places(&found), found.user.as_str(), found.tls),
            (vec!["env.internal:7000".into()], "ops", false)
        );
        let word = |settings: &Settings| settings.password.as_ref().map(|word| word.expose().to_owned());
        assert_eq!(word(&found).as_deref(), Some("word"), "as redis-cli takes it");
        assert_eq!(word(&resolve("{}", &env[..1]).expect("settings")).as_deref(), Some("p@ss"));
        let said = r#"{"host":"::1","port":2,"user":"u","tls":false,"nodes":["a:1","[::2]:3","a:1"]}"#;
        let said = resolve(said, &env[..1]).expect("settings");
        assert_eq!(
            (places(&said), said.user.as_str()),
            (vec!["[::1]:2".into(), "a:1".into(), "[::2]:3".into()], "u")
        );
        assert!(said.in_plain_text() && !format!("{said:?}").contains("p@ss"), "{said:?}");
    }

    /// What belongs to the server of the address goes to no other.
    #[test]
    fn a_password_in_an_address_goes_to_no_other_server_and_to_no_other_user() {
        let env = [("REDIS_URL", "redis://ops:canary@a:7000")];
        let other = resolve(r#"{"host":"b"}"#, &env).expect("settings");
        assert_eq!(
            (places(&other), other.user.as_str(), other.tls),
            (vec!["b:6379".into()], "default", true)
        );
        assert!(other.password.is_none());
        let user = resolve(r#"{"user":"me"}"#, &env).expect("settings");
        assert!(user.password.is_none() && user.user == "me" && !user.tls);
    }

    #[test]
    fn nothing_is_guessed_and_an_address_that_is_none_is_not_quoted() {
        assert_eq!(resolve("{}", &[]).expect_err("no host").kind, ErrorKind::Local);
        for wrong in [
            "canary",
            "http://canary",
            "redis://u:canary@",
            "rediss://[canary",
            "redis://u:%ff@h",
            "redis://canary:99999",
        ] {
            let error = resolve("{}", &[("REDIS_URL", wrong)]).expect_err(wrong);
            assert!(error.kind == ErrorKind::Local && !format!("{error:?}").contains("canary"), "{error:?}");
        }
        for wrong in [
            r#"{"host":"a/b"}"#,
            r#"{"host":""}"#,
            r#"{"host":"h","nodes":["h"]}"#,
            r#"{"host":"h","nodes":["u@h:1"]}"#,
        ] {
            assert_eq!(resolve(wrong, &[]).expect_err(wrong).kind, ErrorKind::Local);
        }
        assert!(resolve(r#"{"host":"h"}"#, &[]).expect("settings").tls, "TLS unless it is said otherwise");
        assert!(!resolve(r#"{"host":"localhost","tls":false}"#, &[]).expect("settings").in_plain_text());
    }
}
