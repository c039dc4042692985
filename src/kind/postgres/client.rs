//! Sessions with one server, as the operator and as others.
//!
//! A session is kept for `IDLE` and no longer: a firewall may drop an idle one without a word, and a statement that is
//! sent on it just then is in doubt though nothing happened. Names and functions are looked up in `pg_catalog` alone: the
//! operator may be a superuser, and whoever may create objects in a database could else give it functions to call.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_postgres::config::{ChannelBinding, Config, SslMode as Ssl};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::fault;
use super::settings::Settings;
use super::spec::SslMode;
use super::tls::connector;
use crate::clock::{Clock as _, SystemClock};
use crate::domain::ErrorKind;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::secret::Secret;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_MS: u64 = 2000;

/// A server, as the operator uses it.
pub struct PgClient {
    settings: Settings,
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
    clock: SystemClock,
    /// By database.
    sessions: Mutex<BTreeMap<String, Session>>,
}

struct Session {
    client: Arc<Client>,
    used_ms: u64,
}

impl fmt::Debug for PgClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl PgClient {
    /// For the server of these settings. `timeout` is how long one call may take.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let tls = match settings.sslmode {
            SslMode::VerifyFull => Some(connector(&settings)?),
            SslMode::Disable => None,
        };
        Ok(Self { settings, tls, timeout, clock: SystemClock::new(), sessions: Mutex::default() })
    }

    /// How it is reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The server, for messages.
    pub(super) fn place(&self) -> String {
        self.settings.place()
    }

    /// Milliseconds of a clock that only goes forward.
    pub(super) fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }

    fn config(&self, user: &str, password: Option<&Secret>, database: &str) -> Config {
        let mut config = Config::new();
        config
            .host(&self.settings.host)
            .port(self.settings.port)
            .user(user)
            .dbname(database)
            .application_name("stanch")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(self.timeout)
            .channel_binding(ChannelBinding::Prefer)
            .ssl_mode(if self.tls.is_some() { Ssl::Require } else { Ssl::Disable });
        if let Some(password) = password {
            config.password(password.expose());
        }
        config
    }

    /// A session. It ends when the client is dropped.
    async fn open(&self, config: &Config) -> Result<Result<Client, Error>, CallError> {
        let open = async {
            match &self.tls {
                Some(tls) => {
                    let (client, connection) = config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        };
        // The name may have several addresses, and a server that accepts a connection may say nothing on it.
        tokio::time::timeout(self.timeout.min(CONNECT_TIMEOUT * 2), open).await.map_err(|_| {
            let message = format!("PostgreSQL at {} did not answer in time", self.place());
            CallError::rejected(ErrorKind::Unreachable, message)
        })
    }

    /// Tries a user name and a password on a database, and does nothing else. `Err` within is what the server, or the
    /// way to it, said.
    pub(super) async fn log_in(
        &self,
        user: &str,
        password: &Secret,
        database: &str,
    ) -> Result<Result<(), Error>, CallError> {
        let mut logged = Logged::start(|| format!("log in to {} as {user}", self.place()));
        let config = self.config(user, Some(password), database);
        let answer = self.open(&config).await?;
        logged.end(match &answer {
            Ok(_) => "accepted",
            Err(error) => error.code().map_or("no answer", |code| code.code()),
        });
        Ok(answer.map(drop))
    }

    /// The operator's session with a database.
    async fn session(&self, database: &str) -> Result<Arc<Client>, CallError> {
        let mut sessions = self.sessions.lock().await;
        let now = self.now_ms();
        if let Some(session) = sessions.get_mut(database)
            && !session.client.is_closed()
            && now.saturating_sub(session.used_ms) < IDLE_MS
        {
            session.used_ms = now;
            return Ok(Arc::clone(&session.client));
        }
        let (user, password) = (&self.settings.user, self.settings.password.as_ref());
        let mut config = self.config(user, password, database);
        // The server gives up before we do, so that what it says of a lock is heard.
        let limit = (self.timeout * 4 / 5).as_millis();
        config.options(format!("-c search_path=pg_catalog -c statement_timeout={limit}"));
        let client = self
            .open(&config)
            .await?
            .map_err(|error| fault::connecting(&error, &self.place(), user, database))?;
        let client = Arc::new(client);
        let used_ms = self.now_ms();
        sessions.insert(database.to_owned(), Session { client: Arc::clone(&client), used_ms });
        Ok(client)
    }

    /// Reads, in the connection's database. Every parameter is a text.
    pub(super) async fn rows(&self, what: &str, sql: &str, params: &[&str]) -> Result<Vec<Row>, CallError> {
        self.rows_in(&self.settings.dbname, what, sql, params).await
    }

    /// The same, in another database.
    pub(super) async fn rows_in(
        &self,
        database: &str,
        what: &str,
        sql: &str,
        params: &[&str],
    ) -> Result<Vec<Row>, CallError> {
        let mut logged = Logged::start(|| format!("{what} at {}", self.place()));
        let client = self.session(database).await.map_err(CallError::read_only)?;
        let params: Vec<(&(dyn ToSql + Sync), Type)> =
            params.iter().map(|text| (text as &(dyn ToSql + Sync), Type::TEXT)).collect();
        let found = client.query_typed(sql, &params).await;
        logged.end(if found.is_ok() { "ok" } else { "failed" });
        found.map_err(|error| fault::failed(&error, &self.place(), what).read_only())
    }

    /// Performs statements, all of them or none.
    pub(super) async fn perform(&self, what: &str, sql: &str) -> Result<(), CallError> {
        self.perform_in(&self.settings.dbname, what, sql).await
    }

    /// The same, in another database.
    pub(super) async fn perform_in(&self, database: &str, what: &str, sql: &str) -> Result<(), CallError> {
        let mut logged = Logged::start(|| format!("{what} at {}", self.place()));
        let client = self.session(database).await?;
        // Sent as one, they are one transaction.
        let done = client.batch_execute(sql).await;
        logged.end(if done.is_ok() { "ok" } else { "failed" });
        done.map_err(|error| fault::failed(&error, &self.place(), what))
    }
}
