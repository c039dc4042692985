//! Connections to the nodes, as the operator and as others. One for each call: it costs a moment, and no idle connection
//! is there to be dropped without a word just when a change is sent on it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use super::fault;
use super::lasting::Lasting;
use super::resp::{self, LARGEST, Reply};
use super::settings::{Node, Settings};
use crate::domain::ErrorKind;
use crate::provider::logged::Logged;
use crate::provider::outcome::CallError;
use crate::provider::tls;
use crate::secret::Secret;

/// A server that accepts no connection within this is as good as down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A command and its arguments.
pub(super) type Command<'a> = Vec<&'a str>;

/// The servers of a connection, as the operator uses them.
pub struct RedisClient {
    settings: Settings,
    tls: Option<TlsConnector>,
    timeout: Duration,
    /// How changes last, by server.
    pub(super) lasting: Mutex<BTreeMap<String, Lasting>>,
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl RedisClient {
    /// For the servers of these settings. `timeout` is how long one call may take.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(settings: Settings, timeout: Duration) -> Result<Self, CallError> {
        let tls = match settings.tls {
            true => {
                let (roots, identity) = settings.certificates()?;
                let hint = "correct `ca_cert` of the connection";
                Some(TlsConnector::from(Arc::new(tls::config(roots, identity, hint)?)))
            }
            false => None,
        };
        Ok(Self { settings, tls, timeout, lasting: Mutex::default() })
    }

    /// How they are reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The servers, each with an ACL of its own.
    pub(super) fn nodes(&self) -> &[Node] {
        &self.settings.nodes
    }

    /// A connection on which nothing was said yet.
    async fn connect(&self, node: &Node) -> Result<Connection, CallError> {
        let place = node.place();
        let connect = async {
            let stream = TcpStream::connect((node.host.as_str(), node.port))
                .await
                .map_err(|error| fault::unreachable(&place, &error.to_string()))?;
            // What is sent is one small piece. Where the system does not allow this, it is merely slower.
            let _ = stream.set_nodelay(true);
            let Some(tls) = &self.tls else { return Ok(Connection::new(Box::new(stream))) };
            let name = ServerName::try_from(node.host.clone())
                .map_err(|error| fault::no_tls(&place, &error.to_string()))?;
            let stream = tls.connect(name, stream).await;
            Ok(Connection::new(Box::new(stream.map_err(|error| fault::no_tls(&place, &error.to_string()))?)))
        };
        let silent = || fault::unreachable(&place, "it did not answer in time");
        tokio::time::timeout(self.timeout.min(CONNECT_TIMEOUT), connect).await.map_err(|_| silent())?
    }

    /// Nothing was changed if it takes too long here.
    async fn in_time<T>(
        &self,
        node: &Node,
        work: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        let message = || format!("Redis at {} did not answer in time", node.place());
        let late = |_| CallError::rejected(ErrorKind::NoAnswer, message());
        tokio::time::timeout(self.timeout, work).await.map_err(late)?
    }

    /// What the server says to a user name and a password. `lost` says what it means that it says nothing.
    async fn authenticate(
        &self,
        node: &Node,
        connection: &mut Connection,
        (user, password): (&str, &Secret),
        lost: impl FnOnce(io::Error) -> CallError,
    ) -> Result<Option<Reply>, CallError> {
        let words = vec!["AUTH", user, password.expose()];
        let answer = self.in_time(node, async { connection.exchange(&[words]).await.map_err(lost) });
        Ok(answer.await?.pop())
    }

    /// A connection of the operator's.
    async fn session(&self, node: &Node) -> Result<Connection, CallError> {
        let mut connection = self.connect(node).await?;
        let Settings { user, password, .. } = &self.settings;
        let Some(password) = password else { return Ok(connection) };
        let lost = |error: io::Error| fault::unreachable(&node.place(), &error.to_string());
        match self.authenticate(node, &mut connection, (user, password), lost).await? {
            Some(Reply::Text(_)) => Ok(connection),
            Some(Reply::Error(said)) => Err(fault::login(&node.place(), user, &said)),
            _ => Err(strange(node, "the login")),
        }
    }

    /// Asks what changes nothing. Each reply is what was asked for.
    pub(super) async fn ask(
        &self,
        node: &Node,
        what: &str,
        commands: &[Command<'_>],
    ) -> Result<Vec<Reply>, CallError> {
        let replies = self.ask_each(node, what, commands).await?;
        match replies.iter().cloned().find_map(Reply::error) {
            Some(said) => Err(fault::refused(&node.place(), what, &said)),
            None => Ok(replies),
        }
    }

    /// The same, where each answer may be a refusal.
    pub(super) async fn ask_each(
        &self,
        node: &Node,
        what: &str,
        commands: &[Command<'_>],
    ) -> Result<Vec<Reply>, CallError> {
        let mut logged = Logged::start(|| format!("{what} at {}", node.place()));
        let look = async {
            let mut session = self.session(node).await?;
            self.in_time(node, async {
                session.exchange(commands).await.map_err(|error| broken(node, what, &error))
            })
            .await
        };
        let answer = look.await.map_err(CallError::read_only);
        logged.end(if answer.is_ok() { "ok" } else { "failed" });
        answer
    }

    /// Performs commands as one: all of them are accepted, or none is performed. One that is accepted may fail all the same,
    /// and then its reply says so.
    pub(super) async fn perform(
        &self,
        node: &Node,
        what: &str,
        commands: Vec<Command<'_>>,
    ) -> Result<Vec<Reply>, CallError> {
        let mut logged = Logged::start(|| format!("{what} at {}", node.place()));
        let mut session = self.session(node).await?;
        let count = commands.len();
        let all: Vec<Command<'_>> =
            [vec![vec!["MULTI"]], commands, vec![vec!["EXEC"]]].into_iter().flatten().collect();
        let sent = self.in_time(node, async {
            session.exchange(&all).await.map_err(|error| broken(node, what, &error))
        });
        let mut replies = sent.await.map_err(CallError::doubtful)?;
        let done = replies.pop();
        // What is not accepted fails before anything is performed, and says why better than EXEC does.
        let refused = replies.into_iter().chain(done.clone()).find_map(Reply::error);
        logged.end(if refused.is_none() { "ok" } else { "refused" });
        match (refused, done) {
            (Some(said), _) => Err(fault::refused(&node.place(), what, &said)),
            (None, Some(Reply::List(done))) if done.len() == count => Ok(done),
            _ => Err(strange(node, what).doubtful()),
        }
    }

    /// Tries a user name and a password, and does nothing else. `Err` within is what the server said.
    pub(super) async fn log_in(
        &self,
        node: &Node,
        user: &str,
        password: &Secret,
    ) -> Result<Result<(), String>, CallError> {
        let mut logged = Logged::start(|| format!("log in to {} as {user}", node.place()));
        let mut connection = self.connect(node).await?;
        let lost = |error: io::Error| broken(node, "a login", &error).read_only();
        let answer = match self.authenticate(node, &mut connection, (user, password), lost).await? {
            Some(Reply::Text(text)) if text == "OK" => Ok(()),
            Some(Reply::Error(said)) => Err(said),
            _ => return Err(strange(node, "a login")),
        };
        logged.end(if answer.is_ok() { "accepted" } else { "not accepted" });
        Ok(answer)
    }
}

fn broken(node: &Node, what: &str, error: &io::Error) -> CallError {
    CallError::unknown(format!("no answer to {what} from Redis at {}: {error}", node.place()))
}

fn strange(node: &Node, what: &str) -> CallError {
    let message = format!("the response to {what} from {} is not one of Redis", node.place());
    CallError::rejected(ErrorKind::NoAnswer, message)
        .hint("check `host` and `port`, and any proxy in front of it")
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and what was received on it and not read yet.
struct Connection {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Connection {
    fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Sends commands, and waits for a reply to each.
    async fn exchange(&mut self, commands: &[Command<'_>]) -> io::Result<Vec<Reply>> {
        let mut sent = Zeroizing::new(Vec::with_capacity(1024));
        commands.iter().for_each(|command| resp::encode(command, &mut sent));
        // A server that has no room for another client says so, and reads nothing: then that is heard below.
        let written = async {
            self.stream.write_all(&sent).await?;
            self.stream.flush().await
        };
        let written = written.await;
        let mut replies = Vec::with_capacity(commands.len());
        while replies.len() < commands.len() {
            let reply = self.receive().await;
            replies.push(match (reply, &written) {
                (Err(_), Err(error)) => return Err(io::Error::new(error.kind(), error.to_string())),
                (reply, _) => reply?,
            });
        }
        Ok(replies)
    }

    async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            match resp::parse(&self.received) {
                Ok(Some((reply, used))) => {
                    self.received.drain(..used);
                    return Ok(reply);
                }
                Ok(None) if self.received.len() <= LARGEST => {}
                _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a response of Redis")),
            }
            let start = self.received.len();
            let more = start.clamp(4096, 1 << 20);
            self.received.resize(start + more, 0);
            let count = self.stream.read(&mut self.received[start..]).await;
            self.received.truncate(start + *count.as_ref().unwrap_or(&0));
            if count? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
            }
        }
    }
}
