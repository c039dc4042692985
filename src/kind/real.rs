//! The provider of production: makes the parts of a plan callable.
//!
//! Each kind says in its `server.rs` how it is made callable, by one of the traits below. The lists of `kind` are
//! matched here once more, so that a kind without that does not compile.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;

use super::consumer::OwnConsumer;
use super::spec::{Family, FamilySpec, On};
use super::{attestations, families, gates, issuers, probes, stores};
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind};
use crate::provider::exec::Program;
use crate::provider::http::HttpCaller;
use crate::provider::http::transport::Transport;
use crate::provider::tls::Pem;
use crate::provider::{Call, CallError, Consumer, Gate, Issuer, Probe, Provider, Question, Store};
use crate::runbook::model;
use crate::secret::Secret;

/// A family's client, as its kinds know it again.
pub type Client = Arc<dyn Any + Send + Sync>;

/// How a connection is made.
#[async_trait]
pub trait FamilyServer: FamilySpec {
    /// Its client.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError>;

    /// Who are we there, is the server fit for a run, do the clocks agree.
    ///
    /// # Errors
    /// When the client of the connection with this name cannot be set up.
    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError>;

    /// What is less safe than it should be, of the connection with this name.
    fn warnings(&self, _name: &str, _env: &Environment) -> Vec<String> {
        Vec::new()
    }

    /// The operator's own secrets, where they are not in the environment alone.
    fn secrets(&self, _env: &Environment) -> Vec<Secret> {
        Vec::new()
    }

    /// Certificates (PEM, and where they are from) that the runbook's own requests trust, too.
    ///
    /// # Errors
    /// When they cannot be read.
    fn roots(&self, _env: &Environment) -> Result<Option<Pem>, CallError> {
        Ok(None)
    }
}

/// How an issuer is made callable.
#[async_trait]
pub trait IssuerServer: Send + Sync {
    /// The issuer of the credential with this name.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    async fn connect(
        &self,
        name: &str,
        credential: &model::Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Issuer>, CallError>;

    /// A check as it is given a credential of this issuer: by default the credential itself.
    fn presented_to(&self, probe: Arc<dyn Probe>, _at: &RealProvider) -> Arc<dyn Probe> {
        probe
    }
}

/// How a store is made callable.
#[async_trait]
pub trait StoreServer: Send + Sync {
    /// A store of this credential.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    async fn connect(
        &self,
        credential: &model::Credential,
        at: &RealProvider,
    ) -> Result<Arc<dyn Store>, CallError>;
}

/// How a consumer is asked.
pub trait AttestServer: Send + Sync {
    /// What asks it.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Question>, CallError>;
}

/// How a check is made callable.
pub trait ProbeServer: Send + Sync {
    /// The check.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Probe>, CallError>;
}

/// How a gate is made callable.
pub trait GateServer: Send + Sync {
    /// The gate.
    ///
    /// # Errors
    /// When it cannot be set up, with a sentence that says why.
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Gate>, CallError>;
}

/// Every kind of a list by how it is made callable.
macro_rules! servers {
    (
        $(#[$meta:meta])*
        $name:ident as $spec:ident + $server:ident, $table:ident of $kind:ident:
        $($variant:ident => $($path:ident)::+),+ $(,)?
        $(; outside of runbooks, $outside:ident: $($extra:ident => $($extra_path:ident)::+),+ $(,)?)?
    ) => {
        impl super::$name {
            /// How it is made callable.
            pub(crate) fn server(&self) -> &dyn $server {
                match self {
                    $(Self::$variant(spec) => spec,)+
                    $($(Self::$extra(spec) => spec,)+)?
                }
            }
        }
    };
}

families!(servers);
issuers!(servers);
stores!(servers);
attestations!(servers);
probes!(servers);
gates!(servers);

/// Reads the environment. A closure, so that tests need not change the process's own.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The operator's own secrets, where the environment holds them.
const SECRET_VARIABLES: [&str; 3] = ["VAULT_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// Where clients, and the programs that a run starts, find a proxy. Its address may hold a password.
const PROXY_VARIABLES: [&str; 8] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "VAULT_PROXY_ADDR",
    "VAULT_HTTP_PROXY",
];

/// Real servers, files and programs. One client for each connection, made when first needed.
pub struct RealProvider {
    connections: BTreeMap<String, model::Connection>,
    pub(super) clock: Arc<dyn Clock>,
    /// How long one call may take.
    pub(super) deadline: Duration,
    pub(super) env: Environment,
    /// For the runbook's own requests.
    transport: OnceLock<Arc<Transport>>,
    clients: Mutex<BTreeMap<String, Client>>,
}

impl fmt::Debug for RealProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealProvider").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl RealProvider {
    /// `deadline` is how long one call may take (`limits.deadline`).
    pub fn new(
        connections: BTreeMap<String, model::Connection>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
    ) -> Self {
        Self::with_environment(connections, clock, deadline, Arc::new(|name| std::env::var(name).ok()))
    }

    /// The same, with another environment for what is read here; the AWS default chain still reads
    /// the process's own.
    pub fn with_environment(
        connections: BTreeMap<String, model::Connection>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        env: Environment,
    ) -> Self {
        let (transport, clients) = (OnceLock::new(), Mutex::default());
        Self { connections, clock, deadline, env, transport, clients }
    }

    pub(super) fn connection(&self, name: &str) -> Result<&model::Connection, CallError> {
        self.connections.get(name).ok_or_else(|| invalid(format!("there is no connection `{name}`")))
    }

    /// A connection's client, made when it is first needed.
    async fn any_client(&self, name: &str) -> Result<Client, CallError> {
        let connection = self.connection(name)?;
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(name) {
            return Ok(Arc::clone(client));
        }
        let client = connection.server().client(self).await?;
        clients.insert(name.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// The same, as its kinds know it.
    pub(super) async fn client<C: Any + Send + Sync, F: Family>(
        &self,
        on: &On<F>,
    ) -> Result<Arc<C>, CallError> {
        let (name, family) = (on.name(), F::KIND.name);
        let wrong = || invalid(format!("the connection `{name}` is not of the type `{family}`"));
        if self.connection(name)?.kind().name != family {
            return Err(wrong());
        }
        self.any_client(name).await?.downcast().map_err(|_| wrong())
    }

    /// Checks, gates and consumers are of the same house as the Vault: what it is trusted by, besides the
    /// machine's own roots, they are trusted by.
    pub(super) fn transport(&self) -> Result<Arc<Transport>, CallError> {
        if let Some(transport) = self.transport.get() {
            return Ok(Arc::clone(transport));
        }
        let mut transport = Transport::new(self.deadline);
        for (pem, source) in self.more_roots()? {
            transport = transport.with_more_roots(&pem, &source)?;
        }
        Ok(Arc::clone(self.transport.get_or_init(|| Arc::new(transport))))
    }

    /// What checks, gates and consumers are trusted by, besides the machine's own roots.
    pub(super) fn more_roots(&self) -> Result<Vec<Pem>, CallError> {
        let connections = self.connections.values();
        let roots = connections.map(|connection| connection.server().roots(&self.env).transpose());
        roots.flatten().collect()
    }

    /// A call of the runbook's own.
    pub(super) fn own_call(&self, call: &model::Call) -> Result<Arc<dyn Call>, CallError> {
        Ok(match call {
            model::Call::Exec(exec) => Arc::new(Program::new(exec, self.deadline)),
            model::Call::Http(spec) => Arc::new(HttpCaller::new(self.transport()?, spec.clone())),
            model::Call::Sandbox {} => return Err(sandbox("call")),
        })
    }
}

#[async_trait]
impl Provider for RealProvider {
    fn warnings(&self) -> Vec<String> {
        self.connections.iter().flat_map(|(name, c)| c.server().warnings(name, &self.env)).collect()
    }

    fn secrets(&self) -> Vec<Secret> {
        let env = |name: &&str| (self.env)(name).map(Secret::new);
        let own = self.connections.values().flat_map(|connection| connection.server().secrets(&self.env));
        let proxies = PROXY_VARIABLES.iter().filter_map(env).flat_map(|address| passwords(&address));
        SECRET_VARIABLES.iter().filter_map(env).chain(own).chain(proxies).collect()
    }

    async fn reach(&self, runbook: &model::Runbook) -> Vec<Check> {
        crate::provider::reach::reach(runbook).await
    }

    async fn preflight(&self, name: &str) -> Vec<Check> {
        let look = async { self.connection(name)?.server().preflight(name, self).await };
        look.await.unwrap_or_else(|error: CallError| {
            vec![Check { hint: error.hint.clone(), ..error.to_check("connection") }]
        })
    }

    async fn issuer(&self, name: &str, credential: &model::Credential) -> Result<Arc<dyn Issuer>, CallError> {
        credential.issuer.server().connect(name, credential, self).await
    }

    async fn store(
        &self,
        _: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Store>, CallError> {
        let store = credential.stores.get(index).ok_or_else(|| invalid("there is no such store"))?;
        store.server().connect(credential, self).await
    }

    async fn consumer(
        &self,
        _: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Consumer>, CallError> {
        let consumer = credential.consumers.get(index).ok_or_else(|| invalid("there is no such consumer"))?;
        let reload = consumer.reload.as_ref().map(|call| self.own_call(call)).transpose()?;
        let question = consumer.attest.as_ref().map(|attest| attest.server().connect(self)).transpose()?;
        Ok(Arc::new(OwnConsumer::new(reload, question)))
    }

    async fn probe(
        &self,
        _: &str,
        credential: &model::Credential,
        probe: &model::Probe,
    ) -> Result<Arc<dyn Probe>, CallError> {
        Ok(credential.issuer.server().presented_to(probe.server().connect(self)?, self))
    }

    async fn call(&self, call: &model::Call) -> Result<Arc<dyn Call>, CallError> {
        self.own_call(call)
    }

    async fn gate(&self, gate: &model::Gate) -> Result<Arc<dyn Gate>, CallError> {
        gate.server().connect(self)
    }
}

/// The password in the address of a proxy, as it is written there and as it is sent. Not the address as a
/// whole: messages may name the host.
fn passwords(address: &Secret) -> Vec<Secret> {
    let address = address.expose().trim();
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    // The last `@`: there are passwords with one that was not escaped.
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    match user.and_then(|user| user.split_once(':')) {
        Some((_, password)) if !password.is_empty() => {
            let sent = percent_decode_str(password).decode_utf8_lossy();
            vec![Secret::new(password), Secret::new(sent)]
        }
        _ => Vec::new(),
    }
}

pub(super) fn sandbox(what: &str) -> CallError {
    CallError::rejected(ErrorKind::Unsupported, format!("this {what} is one of the sandbox's"))
        .hint("run it with `--env sandbox`, or replace it")
}

pub(super) fn invalid(message: impl Into<String>) -> CallError {
    CallError::rejected(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn secrets(variable: &'static str, value: &'static str) -> Vec<String> {
        let env = Arc::new(move |name: &str| (name == variable).then(|| value.to_owned()));
        let clock = Arc::new(SystemClock::new());
        let provider = RealProvider::with_environment(BTreeMap::new(), clock, Duration::from_secs(1), env);
        provider.secrets().iter().map(|secret| secret.expose().to_owned()).collect()
    }

    /// Programs inherit the address of the proxy, and clients may quote it when they fail.
    #[test]
    fn the_password_of_a_proxy_is_a_secret() {
        for variable in PROXY_VARIABLES {
            let found = secrets(variable, "http://user:s3cr%65t-pw@proxy.internal:3128/");
            assert_eq!(found, ["s3cr%65t-pw", "s3cret-pw"], "{variable}");
        }
        assert_eq!(secrets("https_proxy", "user:a@b%4@proxy:3128")[0], "a@b%4", "written without a scheme");
        for plain in ["http://proxy.internal:3128", "proxy:3128", "http://user@proxy", "http://user:@proxy"] {
            assert_eq!(secrets("ALL_PROXY", plain), Vec::<String>::new(), "{plain}");
        }
    }
}
