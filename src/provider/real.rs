//! The provider of production: makes the parts of a plan callable.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use tokio::sync::Mutex;

use super::aws::{AccessKeyIssuer, AwsClient, SecretsManagerStore};
use super::consumer::{OwnConsumer, Question};
use super::exec::{ExecGate, Program};
use super::file::FileStore;
use super::http::transport::Transport;
use super::http::{HttpAttest, HttpCaller, HttpGate, HttpProbe};
use super::layout::Layout;
use super::outcome::CallError;
use super::random::RandomIssuer;
use super::vault::{Kv2Place, Kv2Store, TokenIssuer, TokenSpec, VaultClient};
use super::{Call, Consumer, Gate, Issuer, Probe, Provider, Store, aws, vault};
use crate::clock::Clock;
use crate::domain::ErrorKind;
use crate::domain::{Check, CheckVerdict};
use crate::kind::aws::Aws;
use crate::kind::aws::access_key::IamAccessKey;
use crate::kind::aws::secretsmanager::Secretsmanager;
use crate::kind::exec::{ExecAttest, ExecProbe};
use crate::kind::file::File;
use crate::kind::random::Random;
use crate::kind::vault::Vault;
use crate::kind::vault::kv2::Kv2;
use crate::kind::vault::token::VaultToken;
use crate::kind::{self, Attest, Connection};
use crate::runbook::model;
use crate::secret::{Recipe, Secret};

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
    connections: BTreeMap<String, Connection>,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    env: Environment,
    /// For the runbook's own requests.
    transport: OnceLock<Arc<Transport>>,
    vaults: Mutex<BTreeMap<String, Arc<VaultClient>>>,
    clouds: Mutex<BTreeMap<String, Arc<AwsClient>>>,
}

impl fmt::Debug for RealProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RealProvider").field("connections", &self.connections).finish_non_exhaustive()
    }
}

impl RealProvider {
    /// `deadline` is how long one call may take (`limits.deadline`).
    pub fn new(connections: BTreeMap<String, Connection>, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self::with_environment(connections, clock, deadline, Arc::new(|name| std::env::var(name).ok()))
    }

    /// The same, with another environment for what is read here; the AWS default chain still reads
    /// the process's own.
    pub fn with_environment(
        connections: BTreeMap<String, Connection>,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        env: Environment,
    ) -> Self {
        Self {
            connections,
            clock,
            deadline,
            env,
            transport: OnceLock::new(),
            vaults: Mutex::default(),
            clouds: Mutex::default(),
        }
    }

    fn connection(&self, name: &str) -> Result<&Connection, CallError> {
        self.connections.get(name).ok_or_else(|| invalid(format!("there is no connection `{name}`")))
    }

    /// Checks, gates and consumers are of the same house as the Vault: what it is trusted by, besides the
    /// machine's own roots, they are trusted by.
    fn transport(&self) -> Result<Arc<Transport>, CallError> {
        if let Some(transport) = self.transport.get() {
            return Ok(Arc::clone(transport));
        }
        let mut transport = Transport::new(self.deadline);
        for connection in self.connections.values() {
            // A connection that cannot be set up says so itself.
            let Some(Ok(settings)) = self.vault_settings(connection) else { continue };
            if let Some((pem, source)) = settings.roots()? {
                transport = transport.with_more_roots(&pem, &source)?;
            }
        }
        Ok(Arc::clone(self.transport.get_or_init(|| Arc::new(transport))))
    }

    /// How a Vault is reached; `None` for other connections.
    fn vault_settings(&self, connection: &Connection) -> Option<Result<vault::Settings, CallError>> {
        let Connection::Vault(Vault { address, namespace, ca_cert }) = connection else { return None };
        let (address, namespace, ca) = (address.as_deref(), namespace.as_deref(), ca_cert.as_deref());
        Some(vault::Settings::resolve(address, namespace, ca, self.env.as_ref()))
    }

    async fn vault(&self, name: &str) -> Result<Arc<VaultClient>, CallError> {
        let settings = self
            .vault_settings(self.connection(name)?)
            .ok_or_else(|| invalid(format!("the connection `{name}` is not of the type `vault`")))?;
        let mut clients = self.vaults.lock().await;
        if let Some(client) = clients.get(name) {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(VaultClient::new(settings?, self.deadline)?);
        clients.insert(name.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    async fn aws(&self, name: &str) -> Result<Arc<AwsClient>, CallError> {
        let Connection::Aws(Aws { region, account, profile, endpoint_url }) = self.connection(name)? else {
            return Err(invalid(format!("the connection `{name}` is not of the type `aws`")));
        };
        let mut clients = self.clouds.lock().await;
        if let Some(client) = clients.get(name) {
            return Ok(Arc::clone(client));
        }
        let settings = aws::Settings {
            region: region.clone(),
            account: account.clone(),
            profile: profile.clone(),
            endpoint_url: endpoint_url.clone(),
            ca_bundle: (self.env)("AWS_CA_BUNDLE").filter(|path| !path.is_empty()),
            keys: None,
        };
        let client = Arc::new(AwsClient::new(settings, self.deadline).await?);
        clients.insert(name.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    fn own_call(&self, call: &model::Call) -> Result<Arc<dyn Call>, CallError> {
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
        let vaults =
            self.connections.iter().filter_map(|(name, c)| Some((name, self.vault_settings(c)?.ok()?)));
        vaults
            .filter(|(_, settings)| settings.skip_verify)
            .map(|(name, _)| {
                format!(
                    "WARNING: connection `{name}`: the server's certificate is not verified (VAULT_SKIP_VERIFY); anybody on the way can read the credentials"
                )
            })
            .collect()
    }

    fn secrets(&self) -> Vec<Secret> {
        let env = |name: &&str| (self.env)(name).map(Secret::new);
        let tokens = self.connections.values().filter_map(|c| match c {
            // It may come from a file.
            Connection::Vault(Vault { address, .. }) => {
                let settings = vault::Settings::resolve(address.as_deref(), None, None, self.env.as_ref());
                settings.ok()?.token
            }
            Connection::Aws(_) | Connection::Sandbox(_) => None,
        });
        let proxies = PROXY_VARIABLES.iter().filter_map(env).flat_map(|address| passwords(&address));
        SECRET_VARIABLES.iter().filter_map(env).chain(tokens).chain(proxies).collect()
    }

    async fn reach(&self, runbook: &model::Runbook) -> Vec<Check> {
        super::reach::reach(runbook).await
    }

    async fn preflight(&self, connection: &str) -> Vec<Check> {
        let checks = match self.connection(connection) {
            Ok(Connection::Vault(_)) => match self.vault(connection).await {
                Ok(client) => Ok(vault::preflight(&client, self.clock.as_ref()).await),
                Err(error) => Err(error),
            },
            Ok(Connection::Aws(_)) => match self.aws(connection).await {
                Ok(client) => Ok(aws::preflight(&client, self.clock.as_ref()).await),
                Err(error) => Err(error),
            },
            Ok(Connection::Sandbox(_)) => Err(sandbox("connection")),
            Err(error) => Err(error),
        };
        checks.unwrap_or_else(|error| {
            vec![Check {
                verdict: CheckVerdict::Fail,
                hint: error.hint,
                kind: Some(error.kind),
                ..Check::pass("connection", error.message)
            }]
        })
    }

    async fn issuer(&self, name: &str, credential: &model::Credential) -> Result<Arc<dyn Issuer>, CallError> {
        Ok(match &credential.issuer {
            kind::Issuer::Sandbox(_) => return Err(sandbox("issuer")),
            kind::Issuer::Random(Random { alphabet, length, apply, revoke }) => {
                let recipe = Recipe::new(*alphabet, *length).map_err(|error| invalid(error.to_string()))?;
                let call = |call: &Option<model::Call>| call.as_ref().map(|c| self.own_call(c)).transpose();
                Arc::new(RandomIssuer::new(recipe, call(apply)?, call(revoke)?))
            }
            kind::Issuer::VaultToken(token) => {
                let VaultToken { connection, role, policies, ttl, num_uses, bound_cidrs } = token;
                let spec = TokenSpec {
                    name: name.to_owned(),
                    role: role.clone(),
                    policies: policies.clone(),
                    ttl: ttl.get(),
                    max_ttl: credential.scope.max_ttl.map(|period| period.get()),
                    num_uses: *num_uses,
                    bound_cidrs: bound_cidrs.clone(),
                    audience: credential.scope.audience.clone(),
                };
                Arc::new(TokenIssuer::new(self.vault(connection).await?, spec))
            }
            kind::Issuer::IamAccessKey(IamAccessKey { connection, user }) => {
                Arc::new(AccessKeyIssuer::new(self.aws(connection).await?, user.clone()))
            }
        })
    }

    async fn store(
        &self,
        _: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Store>, CallError> {
        let parts = credential.issuer.kind().parts;
        let store = credential.stores.get(index).ok_or_else(|| invalid("there is no such store"))?;
        Ok(match store {
            kind::Store::Sandbox(_) => return Err(sandbox("store")),
            kind::Store::Kv2(kv2) => {
                let Kv2 { connection, mount, path, field, fields, destroy_outgoing } = kv2;
                let layout = Layout::new(parts, field.as_deref(), fields)?;
                let place = Kv2Place::new(mount, path)?;
                Arc::new(Kv2Store::new(self.vault(connection).await?, place, layout, *destroy_outgoing))
            }
            kind::Store::Secretsmanager(Secretsmanager { connection, secret, field, fields }) => {
                let layout = Layout::new(parts, field.as_deref(), fields)?;
                Arc::new(SecretsManagerStore::new(self.aws(connection).await?, secret.clone(), layout))
            }
            kind::Store::File(File { path, format, key }) => {
                let layout = Layout::new(parts, None, &BTreeMap::new())?;
                Arc::new(FileStore::new(path, *format, key.clone(), layout)?)
            }
        })
    }

    async fn consumer(
        &self,
        _: &str,
        credential: &model::Credential,
        index: usize,
    ) -> Result<Arc<dyn Consumer>, CallError> {
        let consumer = credential.consumers.get(index).ok_or_else(|| invalid("there is no such consumer"))?;
        let reload = consumer.reload.as_ref().map(|call| self.own_call(call)).transpose()?;
        let question = match &consumer.attest {
            None => Question::None,
            Some(Attest::Http(kind::http::HttpAttest { url, urls, fingerprint })) => {
                let urls = url.iter().chain(urls).cloned().collect();
                Question::Http(HttpAttest::new(self.transport()?, urls, fingerprint.clone()))
            }
            Some(Attest::Exec(ExecAttest { argv, timeout })) => {
                let timeout = timeout.map_or(self.deadline, |period| period.get());
                Question::Exec(Program::plain(argv, timeout))
            }
            Some(Attest::Sandbox(_)) => return Err(sandbox("consumer")),
        };
        Ok(Arc::new(OwnConsumer::new(reload, question)))
    }

    async fn probe(
        &self,
        _: &str,
        _: &model::Credential,
        probe: &model::Probe,
    ) -> Result<Arc<dyn Probe>, CallError> {
        Ok(match probe {
            kind::Probe::Http(spec) => Arc::new(HttpProbe {
                transport: self.transport()?,
                method: spec.method,
                url: spec.url.clone(),
                bearer: spec.bearer,
                header: spec.header.clone(),
                expect: spec.expect,
                refuse: spec.refuse.clone(),
            }),
            kind::Probe::Exec(ExecProbe(exec)) => Arc::new(Program::new(exec, self.deadline)),
            kind::Probe::Sandbox(_) => return Err(sandbox("probe")),
        })
    }

    async fn call(&self, call: &model::Call) -> Result<Arc<dyn Call>, CallError> {
        self.own_call(call)
    }

    async fn gate(&self, gate: &model::Gate) -> Result<Arc<dyn Gate>, CallError> {
        Ok(match gate {
            kind::Gate::Http(spec) => Arc::new(HttpGate::new(
                self.transport()?,
                spec.url.clone(),
                spec.json.clone(),
                spec.at_most,
                spec.at_least,
                spec.failures,
            )),
            kind::Gate::Exec(kind::exec::ExecGate { argv, timeout, failures, .. }) => {
                let timeout = timeout.map_or(self.deadline, |period| period.get());
                Arc::new(ExecGate::new(Program::plain(argv, timeout), *failures))
            }
            kind::Gate::Sandbox(_) => return Err(sandbox("gate")),
        })
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

fn sandbox(what: &str) -> CallError {
    CallError::rejected(ErrorKind::Unsupported, format!("this {what} is one of the sandbox's"))
        .hint("run it with `--env sandbox`, or replace it")
}

fn invalid(message: impl Into<String>) -> CallError {
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
