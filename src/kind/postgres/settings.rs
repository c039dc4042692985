//! How a server is reached: the runbook's words first, then what PostgreSQL's own tools read.

use std::path::PathBuf;

use super::fault::local;
use super::password_file;
use super::spec::{Postgres, SslMode};
use crate::provider::http::transport::is_loopback;
use crate::provider::outcome::CallError;
use crate::provider::tls::{self, Pem};
use crate::secret::Secret;

/// What PostgreSQL's tools read and stanch does not, though it may change which server is asked, or as whom.
const NOT_HEEDED: [&str; 5] = ["PGSERVICE", "PGHOSTADDR", "PGOPTIONS", "PGSSLCERT", "PGREQUIREAUTH"];
const PORT: u16 = 5432;

/// Everything that is needed to talk to a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database to connect to.
    pub dbname: String,
    /// The role to connect as.
    pub user: String,
    /// Its password; without one only a server that asks for none can be used.
    pub password: Option<Secret>,
    /// How the connection is protected.
    pub sslmode: SslMode,
    /// The only CA certificates to trust; else the machine's.
    pub ca_cert: Option<PathBuf>,
    /// Variables that are set, and not heeded.
    pub not_heeded: Vec<&'static str>,
}

impl Settings {
    /// Completes the runbook's words from `PGHOST`, `PGPORT`, `PGDATABASE`, `PGUSER`, `PGPASSWORD`, `PGPASSFILE` with
    /// `~/.pgpass`, `PGSSLMODE` and `PGSSLROOTCERT`. There is no default host and no default user: a rotation must not
    /// find its way to whatever listens on this machine.
    ///
    /// # Errors
    /// When there is no host or no user, or the file of passwords may not be used.
    pub fn resolve(spec: &Postgres, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CallError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let or = |own: &Option<String>, name: &str| own.clone().or_else(|| env(name));
        let host = or(&spec.host, "PGHOST").ok_or_else(|| {
            local("no PostgreSQL server is set")
                .hint("set PGHOST, or `host` of the connection in the runbook")
        })?;
        if host.starts_with('/') || host.starts_with('@') || host.contains(',') {
            return Err(local("stanch connects to one host, over TCP")
                .hint("set PGHOST, or `host` of the connection, to the name or the address of the primary"));
        }
        let port = match (spec.port, env("PGPORT")) {
            (Some(port), _) => port,
            (None, None) => PORT,
            (None, Some(text)) => {
                text.parse().map_err(|_| local("PGPORT is not a port").hint("unset it, or correct it"))?
            }
        };
        let user = or(&spec.user, "PGUSER").ok_or_else(|| {
            local("the role to connect to PostgreSQL as is not set")
                .hint("set PGUSER, or `user` of the connection in the runbook")
        })?;
        let dbname = or(&spec.dbname, "PGDATABASE").unwrap_or_else(|| "postgres".to_owned());
        let password = match env("PGPASSWORD") {
            Some(password) => Some(Secret::new(password)),
            None => password_file::look_up(&[&host, &port.to_string(), &dbname, &user], &env)?,
        };
        let declared = env("PGSSLMODE").filter(|mode| mode == "disable").map(|_| SslMode::Disable);
        Ok(Self {
            host,
            port,
            dbname,
            user,
            password,
            sslmode: spec.sslmode.or(declared).unwrap_or(SslMode::VerifyFull),
            ca_cert: or(&spec.ca_cert, "PGSSLROOTCERT").map(PathBuf::from),
            not_heeded: NOT_HEEDED.into_iter().filter(|name| env(name).is_some()).collect(),
        })
    }

    /// The server, for messages.
    pub fn place(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether passwords could be read on their way: their proofs, with SCRAM, and what is asked.
    pub fn in_plain_text(&self) -> bool {
        self.sslmode == SslMode::Disable && !is_loopback(&self.host)
    }

    /// The only CA certificates to trust, and where they were read; `None` for the machine's.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn roots(&self) -> Result<Option<Pem>, CallError> {
        let path = self.ca_cert.as_ref().filter(|path| path.as_os_str() != "system");
        path.map(|path| tls::read(path, "correct `ca_cert` of the connection, or PGSSLROOTCERT")).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ErrorKind;

    fn spec(text: &str) -> Postgres {
        serde_json::from_str(text).expect("a connection")
    }

    fn resolve(text: &str, env: &[(&str, &str)]) -> Result<Settings, CallError> {
        let env =
            |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::resolve(&spec(text), &env)
    }

    #[test]
    fn the_runbook_comes_before_the_environment() {
        let env =
            [("PGHOST", "env"), ("PGPORT", "1"), ("PGUSER", "env"), ("PGPASSWORD", "p"), ("PGOPTIONS", "x")];
        let found = resolve("{}", &env).expect("settings");
        assert_eq!(
            (found.place(), found.user.as_str(), found.dbname.as_str()),
            ("env:1".into(), "env", "postgres")
        );
        assert_eq!((found.sslmode, found.not_heeded), (SslMode::VerifyFull, vec!["PGOPTIONS"]));
        let said = resolve(r#"{"host":"::1","port":2,"user":"u","dbname":"d","sslmode":"disable"}"#, &env);
        let said = said.expect("settings");
        assert_eq!((said.place(), said.user.as_str(), said.dbname.as_str()), ("[::1]:2".into(), "u", "d"));
        assert!(!said.in_plain_text() && !format!("{said:?}").contains("\"p\""), "{said:?}");
    }

    #[test]
    fn nothing_is_guessed_and_nothing_is_weakened_in_silence() {
        let both = [("PGHOST", "db"), ("PGUSER", "u")];
        for missing in 0..2 {
            assert_eq!(resolve("{}", &both[missing..=missing]).expect_err("missing").kind, ErrorKind::Local);
        }
        for (mode, weak) in [("prefer", false), ("require", false), ("allow", false), ("disable", true)] {
            let found = resolve("{}", &[both[0], both[1], ("PGSSLMODE", mode)]).expect("settings");
            assert_eq!(found.in_plain_text(), weak, "{mode}");
        }
        let strict = resolve(r#"{"sslmode":"verify-full"}"#, &[both[0], both[1], ("PGSSLMODE", "disable")]);
        assert_eq!(strict.expect("settings").sslmode, SslMode::VerifyFull);
        for host in ["/var/run/postgresql", "a,b"] {
            assert!(resolve("{}", &[("PGHOST", host), both[1]]).is_err(), "{host}");
        }
    }
}
