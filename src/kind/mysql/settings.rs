//! How a server is reached: the runbook's words first, then the environment.

use std::path::PathBuf;

use super::fault::local;
use super::spec::Mysql;
use crate::provider::http::transport::is_loopback;
use crate::provider::outcome::CallError;
use crate::provider::tls::{self, Pem};
use crate::secret::Secret;

const PORT: u16 = 3306;

/// Everything that is needed to talk to a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user to connect as.
    pub user: String,
    /// Its password; without one only a server that asks for none can be used.
    pub password: Option<Secret>,
    /// Whether TLS is used.
    pub tls: bool,
    /// The only CA certificates to trust; else the machine's.
    pub ca_cert: Option<PathBuf>,
}

impl Settings {
    /// Completes the runbook's words from `MYSQL_HOST`, `MYSQL_TCP_PORT`, `MYSQL_USER`, `MYSQL_PWD`, `MYSQL_SSL_MODE` and
    /// `MYSQL_SSL_CA`. There is no default host and no default user: a rotation must not find its way to whatever listens
    /// on this machine.
    ///
    /// # Errors
    /// When there is no host or no user, or the port is none.
    pub fn resolve(spec: &Mysql, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let or = |own: &Option<String>, name: &str| own.clone().or_else(|| env(name));
        let host = or(&spec.host, "MYSQL_HOST").ok_or_else(|| {
            local("no MariaDB server is set")
                .hint("set MYSQL_HOST, or `host` of the connection in the runbook")
        })?;
        if host.contains(|c: char| c.is_whitespace() || c.is_control() || "/@,[]".contains(c)) {
            return Err(local(
                "`host` of the connection to MariaDB is not the name or the address of a server",
            )
            .hint("stanch connects to one host, over TCP: set it to the primary"));
        }
        let port = match (spec.port, env("MYSQL_TCP_PORT")) {
            (Some(port), _) => port,
            (None, None) => PORT,
            (None, Some(text)) => text
                .parse()
                .map_err(|_| local("MYSQL_TCP_PORT is not a port").hint("unset it, or correct it"))?,
        };
        let user = or(&spec.user, "MYSQL_USER").ok_or_else(|| {
            local("the user to connect to MariaDB as is not set")
                .hint("set MYSQL_USER, or `user` of the connection in the runbook")
        })?;
        let plain = env("MYSQL_SSL_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("disabled"));
        Ok(Self {
            host,
            port,
            user,
            password: env("MYSQL_PWD").map(Secret::new),
            tls: spec.tls.unwrap_or(!plain),
            ca_cert: or(&spec.ca_cert, "MYSQL_SSL_CA").map(PathBuf::from),
        })
    }

    /// The server, for messages.
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether what is sent could be read on its way.
    pub fn in_plain_text(&self) -> bool {
        !self.tls && !is_loopback(&self.host)
    }

    /// The only CA certificates to trust, and where they were read; `None` for the machine's.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn roots(&self) -> Result<Option<Pem>, CallError> {
        let path = self.ca_cert.as_ref();
        path.map(|path| tls::read(path, "correct `ca_cert` of the connection, or MYSQL_SSL_CA")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<Settings, CallError> {
        let spec: Mysql = serde_json::from_str(text).expect("a connection");
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(&spec, &env)
    }

    #[test]
    fn the_runbook_comes_before_the_environment() {
        let env =
            [("MYSQL_HOST", "env"), ("MYSQL_TCP_PORT", "1"), ("MYSQL_USER", "env"), ("MYSQL_PWD", "hunter2")];
        let found = resolve("{}", &env).expect("settings");
        assert_eq!((found.place(), found.user.as_str(), found.tls), ("env:1".into(), "env", true));
        let said = resolve(r#"{"host":"::1","port":2,"user":"u","tls":false}"#, &env).expect("settings");
        assert_eq!((said.place(), said.user.as_str()), ("[::1]:2".into(), "u"));
        assert!(!said.in_plain_text() && !format!("{said:?}").contains("hunter2"), "{said:?}");
    }

    #[test]
    fn nothing_is_guessed_and_nothing_is_weakened_in_silence() {
        let both = [("MYSQL_HOST", "db"), ("MYSQL_USER", "u")];
        for missing in 0..2 {
            assert_eq!(resolve("{}", &both[missing..=missing]).expect_err("missing").kind, ErrorKind::Local);
        }
        for (mode, weak) in [("PREFERRED", false), ("REQUIRED", false), ("disabled", true)] {
            let found = resolve("{}", &[both[0], both[1], ("MYSQL_SSL_MODE", mode)]).expect("settings");
            assert_eq!(found.in_plain_text(), weak, "{mode}");
        }
        let strict = resolve(r#"{"tls":true}"#, &[both[0], both[1], ("MYSQL_SSL_MODE", "DISABLED")]);
        assert!(strict.expect("settings").tls);
        for host in ["/run/mysqld/mysqld.sock", "a,b", "u@h"] {
            assert!(resolve("{}", &[("MYSQL_HOST", host), both[1]]).is_err(), "{host}");
        }
        assert!(resolve("{}", &[both[0], both[1], ("MYSQL_TCP_PORT", "x")]).is_err());
    }
}
