//! Connections to a server, as the operator and as others. One for each call: it costs a moment, and no idle connection is
//! there to be dropped without a word just when a change is sent on it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::fault::{self, DATABASE, REFUSED};
use super::settings::Settings;
use super::wire::{Greeting, Row, Said, Wire};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::ErrorKind;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::provider::tls;
use crate::secret::Secret;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A server, as the operator uses it.
pub struct MysqlClient {
    settings: Settings,
    tls: Option<TlsConnector>,
    timeout: Duration,
    clock: SystemClock,
}

impl fmt::Debug for MysqlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MysqlClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl MysqlClient {
    /// For the server of these settings. `timeout` is how long one call may take.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let hint = "correct `ca_cert` of the connection, or MYSQL_SSL_CA";
        let tls = match settings.tls {
            true => Some(TlsConnector::from(Arc::new(tls::config(settings.roots()?, None, hint)?))),
            false => None,
        };
        Ok(Self { settings, tls, timeout, clock: SystemClock::new() })
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

    /// A connection on which nothing was asked yet.
    async fn connect(&self) -> Result<Result<(Wire, Greeting), Said>, CallError> {
        let place = self.place();
        let unreachable = |error: io::Error| fault::unreachable(&place, &error.to_string());
        let no_tls = |why: String| fault::no_tls(&place, &why);
        let stream = TcpStream::connect((self.settings.host.as_str(), self.settings.port))
            .await
            .map_err(unreachable)?;
        // What is sent is one small piece. Where the system does not allow this, it is merely slower.
        let _ = stream.set_nodelay(true);
        let mut wire = Wire::new(Box::new(stream));
        let greeting = match wire.greeting().await.map_err(unreachable)? {
            Ok(greeting) => greeting,
            // Nothing was asked yet, and who answers was not shown: this is no word on a password.
            Err(said) if REFUSED.contains(&said.code) || DATABASE.contains(&said.code) => {
                let message = format!("{place} refused before a login was tried: {}", fault::words(&said));
                return Err(CallError::rejected(ErrorKind::NoAnswer, message)
                    .hint("find out what answers there: a server says this after a login, and not before"));
            }
            Err(said) => return Ok(Err(said)),
        };
        let Some(tls) = &self.tls else { return Ok(Ok((wire, greeting))) };
        if !greeting.speaks_tls {
            wire.quit().await;
            return Err(no_tls("the server does not speak it".to_owned()));
        }
        let name =
            ServerName::try_from(self.settings.host.clone()).map_err(|error| no_tls(error.to_string()))?;
        let (stream, codec) = wire.ask_for_tls().await.map_err(unreachable)?;
        let stream = tls.connect(name, stream).await.map_err(|error| no_tls(error.to_string()))?;
        Ok(Ok((Wire::over(Box::new(stream), codec), greeting)))
    }

    /// A connection that is logged in; `Err` within is what the server said instead.
    async fn open(
        &self,
        login: (&str, Option<&Secret>),
        database: Option<&str>,
    ) -> Result<Result<Wire, Said>, CallError> {
        let place = self.place();
        let open = async {
            let (mut wire, greeting) = match self.connect().await? {
                Ok(connected) => connected,
                Err(said) => return Ok(Err(said)),
            };
            let answer = wire.log_in(&greeting, login, database, self.tls.is_some()).await;
            match answer {
                Ok(Ok(())) => Ok(Ok(wire)),
                Ok(Err(said)) => Ok(Err(said)),
                Err(error) => {
                    let message = format!("no answer to a login from MariaDB at {place}: {error}");
                    Err(CallError::rejected(ErrorKind::NoAnswer, message))
                }
            }
        };
        let late = |_| fault::unreachable(&place, "it did not answer in time");
        tokio::time::timeout(self.timeout.min(CONNECT_TIMEOUT), open).await.map_err(late)?
    }

    /// Tries a user name and a password, on a database where one is named, and does nothing else. `Err` within is what the
    /// server said.
    pub(super) async fn log_in(
        &self,
        user: &str,
        password: &Secret,
        database: Option<&str>,
    ) -> Result<Result<(), Said>, CallError> {
        let mut logged = Logged::start(|| format!("log in to {} as {user}", self.place()));
        let answer = match self.open((user, Some(password)), database).await? {
            Ok(wire) => {
                wire.quit().await;
                Ok(())
            }
            Err(said) => Err(said),
        };
        logged.end(if answer.is_ok() { "accepted" } else { "not accepted" });
        Ok(answer)
    }

    /// A session of the operator's, in which quotes mean what the statements here take them for, whatever the server's
    /// `sql_mode` is. The server gives up on a lock before we do, so that what it says of it is heard.
    async fn session(&self) -> Result<Wire, CallError> {
        let Settings { user, password, .. } = &self.settings;
        let place = self.place();
        let mut wire = self
            .open((user, password.as_ref()), None)
            .await?
            .map_err(|said| fault::not_in(&said, &place, user))?;
        let limit = (self.timeout * 4 / 5).as_secs().max(1);
        let begin = format!(
            "SET NAMES utf8mb4, SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES', SESSION lock_wait_timeout = {limit}"
        );
        match self.answer(&mut wire, "the beginning of a session", &begin).await {
            Ok(_) => Ok(wire),
            // Nothing of what is wanted was sent yet.
            Err(error) => Err(error.read_only()),
        }
    }

    async fn answer(&self, wire: &mut Wire, what: &str, sql: &str) -> Result<Vec<Row>, CallError> {
        let place = self.place();
        let lost =
            |why: &str| CallError::unknown(format!("no answer to {what} from MariaDB at {place}: {why}"));
        match tokio::time::timeout(self.timeout, wire.query(sql)).await {
            Ok(Ok(Ok(rows))) => Ok(rows),
            Ok(Ok(Err(said))) => Err(fault::failed(&said, &place, what)),
            Ok(Err(error)) => Err(lost(&error.to_string())),
            Err(_) => Err(lost("it did not come in time")),
        }
    }

    /// Reads.
    pub(super) async fn rows(&self, what: &str, sql: &str) -> Result<Vec<Row>, CallError> {
        self.perform(what, sql).await.map_err(CallError::read_only)
    }

    /// Performs one statement.
    pub(super) async fn perform(&self, what: &str, sql: &str) -> Result<Vec<Row>, CallError> {
        let mut logged = Logged::start(|| format!("{what} at {}", self.place()));
        let mut session = self.session().await?;
        let found = self.answer(&mut session, what, sql).await;
        logged.end(if found.is_ok() { "ok" } else { "failed" });
        if found.is_ok() {
            session.quit().await;
        }
        found
    }
}
