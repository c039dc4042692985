//! Places where a credential is rotated: set up, and asked, by other means than the code under test.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api_server::{Dialect, Service};
use crate::appliance_server::{Appliance, example};
use crate::github_server::Github;
use crate::gitlab_server::{Gitlab, PROJECT};
use crate::jwt_server::{Keys, Place};
use crate::kube_server::Namespace;
use crate::mysql_server::{self, Maria};
use crate::postgres_server::Pg;
use crate::redis_server::{Redis, Session};
use crate::relying_party::{RelyingParty, is_revoked, serials};
use crate::servers::{Vault, ministack, moto, plain_http, serve, ssm, unique};
use crate::ssh_server::Sshd;
use crate::tool::{Consumer, Ran, Tool, search};

/// One place where a credential is rotated: how it is set up, asked, and described in a runbook.
pub(crate) enum World {
    /// A token, or a secret id of an AppRole: then with a session that was made with the old one.
    Vault {
        vault: Vault,
        role: String,
        path: String,
        operator: String,
        session: Option<String>,
    },
    /// A user with a password, in the same place. A login of the old one is under way.
    Userpass {
        vault: Vault,
        name: String,
        path: String,
        operator: String,
        session: String,
    },
    /// A certificate with its key, in the same place, and a server that it is shown to.
    Pki {
        vault: Vault,
        party: RelyingParty,
        path: String,
        operator: String,
        folder: tempfile::TempDir,
    },
    /// A login of PostgreSQL that a lease of the same Vault makes, in a file. A session of the old one is under way.
    Database {
        vault: Vault,
        pg: Pg,
        role: String,
        operator: String,
        monitor: (String, String),
        session: tokio_postgres::Client,
        folder: tempfile::TempDir,
    },
    Aws {
        url: String,
        user: String,
        store: AwsStore,
        operator: (String, String),
        sdk: Box<Sdk>,
    },
    /// A login role, whose user name and password are in a file. A session of the old one is under way.
    Postgres {
        pg: Pg,
        name: String,
        address: String,
        operator: (String, String),
        session: tokio_postgres::Client,
        folder: tempfile::TempDir,
    },
    /// A user, whose name and password are in a file. A session of the old one is under way.
    Mysql {
        maria: Maria,
        name: String,
        address: String,
        operator: (String, String),
        session: mysql_server::Session,
        folder: tempfile::TempDir,
    },
    /// A user, whose password is in a file. A connection with the old one is under way.
    Redis {
        redis: Redis,
        name: String,
        address: String,
        operator: (String, String),
        session: Session,
        folder: tempfile::TempDir,
    },
    /// A key that signs tokens. Who verifies them goes by a set, and by what it read of it before.
    Jwt(Keys),
    /// A key that logs in to a server of its own, in a file. A session of the old one is under way.
    Ssh(Sshd),
    /// A token of a service with an API, in a file.
    Api {
        service: Arc<Service>,
        folder: tempfile::TempDir,
    },
    /// The same in a Secret of Kubernetes, with what the operator and the consumer reach it by.
    Kube {
        service: Arc<Service>,
        namespace: Box<Namespace>,
        operator: String,
        reader: String,
        folder: tempfile::TempDir,
    },
    /// The same in a CI/CD variable of GitLab, which jobs in `production` read.
    Gitlab {
        service: Arc<Service>,
        gitlab: Arc<Gitlab>,
    },
    /// The same in a secret of GitHub Actions, which cannot be read, beside the file.
    Github {
        service: Arc<Service>,
        github: Arc<Github>,
        folder: tempfile::TempDir,
    },
    /// The same in a place that stanch does not know, by the program that is shipped as an example; where it is not said to read, beside
    /// the file.
    PassThrough {
        service: Arc<Service>,
        appliance: Arc<Appliance>,
        folder: tempfile::TempDir,
        reads: bool,
    },
    Own {
        url: String,
        authority: Arc<Authority>,
    },
}

/// Where the secrets of its repository are.
pub(crate) const GITHUB: &str = "/repos/shop/app/actions/secrets";

/// An authority of the user's own, and the consumer of what it accepts: a generated value in a file,
/// and everything else over HTTP.
pub(crate) struct Authority {
    accepted: Mutex<BTreeSet<String>>,
    used: Mutex<String>,
    observed: AtomicUsize,
    folder: tempfile::TempDir,
}

impl Authority {
    fn file(&self) -> PathBuf {
        self.folder.path().join("value")
    }

    /// What stands here once the step `observed` was done.
    fn mark(&self) -> PathBuf {
        self.folder.path().join("observed")
    }

    fn value(&self) -> String {
        std::fs::read_to_string(self.file()).expect("file")
    }

    fn accepts(&self, value: &str) -> bool {
        self.accepted.lock().expect("lock").contains(value)
    }

    fn router(self: Arc<Self>) -> axum::Router {
        let on = |act: fn(&Self, String)| {
            let this = Arc::clone(&self);
            post(async move |body: String| act(&this, body))
        };
        let (checks, attests) = (Arc::clone(&self), Arc::clone(&self));
        let check = async move |headers: axum::http::HeaderMap| {
            let bearer = headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
            if bearer.is_some_and(|value| checks.accepts(value)) {
                StatusCode::OK
            } else {
                StatusCode::UNAUTHORIZED
            }
        };
        let attest = async move || {
            let used = attests.used.lock().expect("lock").clone();
            axum::Json(json!({ "sha256": hex::encode(Sha256::digest(used)) }))
        };
        axum::Router::new()
            .route(
                "/apply",
                on(|this, body| {
                    this.accepted.lock().expect("lock").insert(body);
                }),
            )
            .route(
                "/revoke",
                on(|this, body| {
                    this.accepted.lock().expect("lock").remove(&body);
                }),
            )
            .route("/-/reload", on(|this, _| *this.used.lock().expect("lock") = this.value()))
            .route("/repeatable", on(|_, _| {}))
            .route(
                "/observed",
                on(|this, _| {
                    this.observed.fetch_add(1, Ordering::SeqCst);
                    drop(std::fs::File::create(this.mark()).expect("mark"));
                }),
            )
            .route("/check", get(check))
            .route("/-/credential", get(attest))
            .route("/-/rate", get(async || axum::Json(json!({ "rate": 0.0 }))))
    }
}

/// Where an access key is kept.
pub(crate) enum AwsStore {
    /// A secret of Secrets Manager.
    Secret(String),
    /// A parameter of Parameter Store, whose label `live` consumers read by.
    Parameter(String),
    /// A JSON file, for an imitation whose Secrets Manager and refusals are not to be trusted.
    File { path: PathBuf, _folder: tempfile::TempDir },
}

pub(crate) struct Sdk {
    iam: aws_sdk_iam::Client,
    secrets: aws_sdk_secretsmanager::Client,
}

/// The environment whose variable is rotated, and the project as the server names it.
const SCOPE: &str = "production";
const PROJECTS: &str = "projects/shop/web";
/// Short waits.
const USUAL: &str = "overlap: { at_least: 1s, until: [adopted, error-rate] }\n  sunset: { at_least: 1s, until: [error-rate] }";

/// What the worlds' runbooks share: one credential with its consumer, quick phases, a gate.
fn runbook(connections: &str, credential: &str, url: &str, phases: &str) -> String {
    format!(
        r#"version: 1
name: app-key
environments:
  test: {{}}
{connections}
credentials:
  app-key:
{credential}
    consumers:
      - name: app
        reload: {{ http: {{ url: "{url}/-/reload" }} }}
        attest: {{ http: {{ url: "{url}/-/credential", fingerprint: /sha256 }} }}
phases:
  {phases}
  # Where nobody answers, minutes of asking are no test.
  verify: {{ times: 2, every: 100ms, at_most: 6s }}
  proof: {{ times: 3, every: 100ms, at_most: 6s }}
gates:
  error-rate: {{ http: {{ url: "{url}/-/rate", json: /rate, at_most: 0.5, every: 200ms }} }}
"#
    )
}

fn own_runbook(url: &str, consumer: &str, authority: &Authority, phases: &str) -> String {
    let credential = format!(
        r#"    issuer:
      type: random
      length: 40
      apply: {{ http: {{ url: "{url}/apply", body: "${{secret}}" }} }}
      revoke: {{ http: {{ url: "{url}/revoke", body: "${{secret}}" }} }}
    accepts:
      - http: {{ url: "{url}/check", bearer: true }}
    stores:
      - {{ type: file, path: {}, format: text }}"#,
        authority.file().display(),
    );
    let cutover = format!(
        r#"cutover:
    before:
      - {{ name: repeatable, http: {{ url: "{url}/repeatable" }}, class: idempotent, undo: none }}
      - {{ name: observed, http: {{ url: "{url}/observed" }}, observe: [test, -e, {}], undo: none }}
  {phases}"#,
        authority.mark().display(),
    );
    runbook("", &credential, consumer, &cutover)
}

async fn aws_config(url: &str, id: &str, key: &str) -> aws_config::SdkConfig {
    let keys = aws_sdk_sts::config::Credentials::new(id, key, None, None, "test");
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
    config.region("us-east-1").endpoint_url(url).credentials_provider(keys).load().await
}

impl World {
    /// In the shared Vault: a token in KV v2.
    pub(crate) async fn vault() -> Self {
        Self::in_vault(Vault::shared()).await
    }

    pub(crate) async fn in_vault(vault: Vault) -> Self {
        let (role, path) = (unique("role"), unique("app"));
        let rules = "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }";
        vault.api("PUT", &format!("sys/policies/acl/{role}"), json!({ "policy": rules })).await;
        let spec = json!({ "allowed_policies": [role], "orphan": true, "renewable": true });
        vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
        let made = vault.api("POST", &format!("auth/token/create/{role}"), json!({ "ttl": "1h" })).await;
        let first = json!({ "token": made["auth"]["client_token"], "url": "kept" });
        vault.api("POST", &format!("secret/data/{path}"), json!({ "data": first })).await;
        // What the operator needs and no more: it shows what a real one must be given.
        let operator = vault
            .token(&format!(
                r#"path "auth/token/create/{role}" {{ capabilities = ["create", "update"] }}
                   path "auth/token/roles/{role}" {{ capabilities = ["read"] }}
                   path "auth/token/lookup" {{ capabilities = ["update"] }}
                   {}"#,
                tokens_and_secret(&path)
            ))
            .await;
        Self::Vault { vault, role, path, operator, session: None }
    }

    /// In the shared Vault: a secret id of an AppRole in KV v2. A session of the old one is under way.
    pub(crate) async fn approle() -> Self {
        let (vault, role, path) = (Vault::shared(), unique("role"), unique("app"));
        vault.with_approle().await;
        let at = format!("auth/approle/role/{role}");
        vault.api("POST", &at, json!({ "token_policies": role, "token_ttl": "1h" })).await;
        let made = vault.api("POST", &format!("{at}/secret-id"), json!({})).await;
        let first = json!({ "secret_id": made["data"]["secret_id"], "url": "kept" });
        let session = vault.log_in(&role, made["data"]["secret_id"].as_str().expect("text")).await;
        vault.api("POST", &format!("secret/data/{path}"), json!({ "data": first })).await;
        let operator = vault
            .token(&format!(
                r#"path "{at}" {{ capabilities = ["read"] }}
                   path "{at}/role-id" {{ capabilities = ["read"] }}
                   path "{at}/secret-id" {{ capabilities = ["update", "list"] }}
                   path "{at}/secret-id/lookup" {{ capabilities = ["update"] }}
                   path "{at}/secret-id-accessor/lookup" {{ capabilities = ["update"] }}
                   path "{at}/secret-id-accessor/destroy" {{ capabilities = ["update"] }}
                   {}"#,
                tokens_and_secret(&path)
            ))
            .await;
        Self::Vault { vault, role, path, operator, session: Some(session.expect("a login")) }
    }

    /// In the shared Vault: a user with a password in KV v2. A login of the old one is under way.
    pub(crate) async fn userpass() -> Self {
        let (vault, name, path) = (Vault::shared(), unique("user"), unique("app"));
        vault.with_userpass().await;
        let (user, password) = (format!("{name}-first"), unique("first-password"));
        let users = "auth/userpass/users";
        let body = json!({ "password": password, "token_policies": name, "token_ttl": "1h" });
        vault.api("POST", &format!("{users}/{user}"), body).await;
        let session = vault.log_in_user(&user, &password).await.expect("a login");
        let first = json!({ "username": user, "password": password, "url": "kept" });
        vault.api("POST", &format!("secret/data/{path}"), json!({ "data": first })).await;
        let operator = vault
            .token(&format!(
                r#"path "{users}" {{ capabilities = ["list"] }}
                   path "{users}/{name}-*" {{ capabilities = ["create", "read", "update", "delete"] }}
                   path "identity/lookup/entity" {{ capabilities = ["update"] }}
                   {}"#,
                tokens_and_secret(&path)
            ))
            .await;
        Self::Userpass { vault, name, path, operator, session }
    }

    /// In the shared Vault: a certificate with its key in KV v2.
    pub(crate) async fn pki() -> Self {
        let (vault, path) = (Vault::shared(), unique("app"));
        let party = RelyingParty::start(&vault).await;
        let body = json!({ "common_name": "app.test", "alt_names": "a.app.test", "ttl": "2h" });
        let first = vault.api("POST", &format!("{}/issue/app", party.mount), body).await;
        let part = |name: &str| first["data"][name].as_str().expect("PEM").to_owned();
        let first = json!({
            "certificate": part("certificate"), "private_key": part("private_key"), "ca_chain": part("issuing_ca"), "url": "kept",
        });
        vault.api("POST", &format!("secret/data/{path}"), json!({ "data": first })).await;
        let mount = &party.mount;
        let operator = vault
            .token(&format!(
                r#"path "{mount}/roles/app" {{ capabilities = ["read"] }}
                   path "{mount}/config/crl" {{ capabilities = ["read"] }}
                   path "{mount}/certs" {{ capabilities = ["list"] }}
                   path "{mount}/sign/app" {{ capabilities = ["update"] }}
                   path "{mount}/revoke" {{ capabilities = ["update"] }}
                   {}"#,
                tokens_and_secret(&path)
            ))
            .await;
        let folder = tempfile::tempdir().expect("folder");
        let mut file = std::fs::File::create(folder.path().join("root.pem")).expect("file");
        std::io::Write::write_all(&mut file, party.root.as_bytes()).expect("file");
        Self::Pki { vault, party, path, operator, folder }
    }

    /// In the shared Vault and the shared PostgreSQL: a login of a dynamic role, in a file.
    pub(crate) async fn database() -> Self {
        let (vault, pg, role) = (Vault::shared(), Pg::shared(), unique("app"));
        vault.with_database(&pg).await;
        let monitor = (unique("monitor"), unique("Monitors-Password"));
        pg.execute(&format!(
            "create role \"{role}_owner\" nologin; create role \"{}\" login password '{}'",
            monitor.0, monitor.1
        ))
        .await;
        let body = json!({
            "db_name": "pg", "default_ttl": "1h", "max_ttl": "2h",
            "creation_statements": [format!(
                "create role \"{{{{name}}}}\" login password '{{{{password}}}}' valid until '{{{{expiration}}}}' in role \"{role}_owner\""
            )],
            "revocation_statements": [
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = '{{name}}'",
                "drop role if exists \"{{name}}\"",
            ],
        });
        vault.api("POST", &format!("database/roles/{role}"), body).await;
        let rules = format!("path \"database/creds/{role}\" {{ capabilities = [\"read\"] }}");
        vault.api("PUT", &format!("sys/policies/acl/{role}"), json!({ "policy": rules })).await;
        let spec = json!({ "allowed_policies": [role], "orphan": true });
        vault.api("POST", &format!("auth/token/roles/{role}"), spec).await;
        let made = vault.api("GET", &format!("database/creds/{role}"), Value::Null).await;
        let part = |name: &str| made["data"][name].as_str().expect("text").to_owned();
        let first =
            json!({ "username": part("username"), "password": part("password"), "lease": made["lease_id"] });
        let session = pg.log_in(&part("username"), &part("password"), "postgres").await.expect("a session");
        let folder = tempfile::tempdir().expect("folder");
        let mut file = std::fs::File::create(folder.path().join("login.json")).expect("file");
        std::io::Write::write_all(&mut file, first.to_string().as_bytes()).expect("file");
        let operator = vault.token(&lease_rules(&role)).await;
        Self::Database { vault, pg, role, operator, monitor, session, folder }
    }

    /// In ministack: an access key in Secrets Manager.
    pub(crate) async fn aws() -> Self {
        let secret = unique("secret");
        Self::in_aws(ministack(), AwsStore::Secret(secret)).await
    }

    /// In ministack: an access key in Parameter Store.
    pub(crate) async fn ssm() -> Self {
        let name = format!("/{}", unique("parameter"));
        Self::in_aws(ministack(), AwsStore::Parameter(name)).await
    }

    /// In moto: an access key in a file. Trusted for the limit of two keys, and for nothing else:
    /// every key is accepted there, so a run can only go as far as `revoke`.
    pub(crate) async fn moto() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("key.json");
        Self::in_aws(moto(), AwsStore::File { path, _folder: folder }).await
    }

    async fn in_aws(url: String, store: AwsStore) -> Self {
        let config = aws_config(&url, "test", "test").await;
        let sdk = Box::new(Sdk {
            iam: aws_sdk_iam::Client::new(&config),
            secrets: aws_sdk_secretsmanager::Client::new(&config),
        });
        let (user, operator) = (unique("app"), unique("operator"));
        let document =
            |statements: Value| json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let all = json!([{ "Effect": "Allow", "Action": ["iam:*", "sts:*", "secretsmanager:*", "ssm:*"], "Resource": "*" }]);
        let only_sts = json!([{ "Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*" }]);
        for (name, rules) in [(&user, only_sts), (&operator, all)] {
            sdk.iam.create_user().user_name(name).send().await.expect("user");
            let policy = sdk.iam.put_user_policy().user_name(name).policy_name("p");
            policy.policy_document(document(rules)).send().await.expect("policy");
        }
        let mut keys = Vec::new();
        for name in [&user, &operator] {
            let made = sdk.iam.create_access_key().user_name(name).send().await.expect("key");
            let key = made.access_key.expect("key");
            keys.push((key.access_key_id, key.secret_access_key));
        }
        let operator = keys.pop().expect("operator's key");
        let (id, key) = keys.pop().expect("user's key");
        match &store {
            AwsStore::Secret(name) => {
                let first = json!({ "KEY_ID": id, "KEY": key, "note": "kept" }).to_string();
                sdk.secrets.create_secret().name(name).secret_string(first).send().await.expect("secret");
            }
            AwsStore::Parameter(name) => {
                let first = json!({ "KEY_ID": id, "KEY": key, "note": "kept" }).to_string();
                let put = json!({ "Name": name, "Value": first, "Type": "SecureString" });
                ssm(&url, "PutParameter", put).await;
                let label = json!({ "Name": name, "ParameterVersion": 1, "Labels": ["live"] });
                ssm(&url, "LabelParameterVersion", label).await;
            }
            AwsStore::File { path, .. } => {
                let first = json!({ "access_key_id": id, "secret_access_key": key });
                let mut file = std::fs::File::create(path).expect("file");
                std::io::Write::write_all(&mut file, first.to_string().as_bytes()).expect("file");
            }
        }
        Self::Aws { url, user, store, operator, sdk }
    }

    /// In the shared PostgreSQL: a login role in a file.
    pub(crate) async fn postgres() -> Self {
        let (pg, name) = (Pg::shared(), unique("app"));
        let (user, password) = pg.app(&name).await;
        let folder = tempfile::tempdir().expect("folder");
        let first = json!({ "password": password, "username": user });
        let mut file = std::fs::File::create(folder.path().join("login.json")).expect("file");
        std::io::Write::write_all(&mut file, first.to_string().as_bytes()).expect("file");
        let session = pg.log_in(&user, &password, "postgres").await.expect("a session");
        let (operator, address) = (pg.operator(&name).await, format!("http://{}", pg.place()));
        Self::Postgres { pg, name, address, operator, session, folder }
    }

    /// In the shared MariaDB: a user in a file.
    pub(crate) async fn mysql() -> Self {
        let (maria, name) = (Maria::shared(), unique("app"));
        let (user, password) = maria.app(&name);
        let folder = tempfile::tempdir().expect("folder");
        let first = json!({ "password": password, "username": user });
        let mut file = std::fs::File::create(folder.path().join("login.json")).expect("file");
        std::io::Write::write_all(&mut file, first.to_string().as_bytes()).expect("file");
        let session = maria.log_in(&user, &password);
        let (operator, address) = (maria.operator(&name), format!("http://127.0.0.1:{}", maria.port));
        Self::Mysql { maria, name, address, operator, session, folder }
    }

    /// In the shared Redis: a password in a file.
    pub(crate) async fn redis() -> Self {
        Self::in_redis(Redis::shared()).await
    }

    pub(crate) async fn in_redis(redis: Redis) -> Self {
        let name = unique("app");
        let password = redis.app(&name);
        let folder = tempfile::tempdir().expect("folder");
        let mut file = std::fs::File::create(folder.path().join("password")).expect("file");
        std::io::Write::write_all(&mut file, password.as_bytes()).expect("file");
        let session = redis.log_in(&name, &password).await.expect("a session");
        let (operator, address) = (redis.operator(), format!("http://127.0.0.1:{}", redis.port));
        Self::Redis { redis, name, address, operator, session, folder }
    }

    /// In files: the set, and the private key. An answer may be used for so many seconds.
    pub(crate) async fn jwt(max_age: u64) -> Self {
        Self::Jwt(Keys::in_files(max_age).await)
    }

    /// The same in the shared Vault.
    pub(crate) async fn jwt_in_vault(max_age: u64) -> Self {
        Self::Jwt(Keys::in_vault(max_age).await)
    }

    /// At a server of its own: the private key in a file, and its line in another.
    pub(crate) fn ssh() -> Self {
        Self::Ssh(Sshd::start(1, ""))
    }

    /// In a service of its own: a token in a file.
    pub(crate) async fn api(dialect: Dialect) -> Self {
        let (service, old) = Service::start(dialect).await;
        let folder = tempfile::tempdir().expect("folder");
        let mut file = std::fs::File::create(folder.path().join("token")).expect("file");
        std::io::Write::write_all(&mut file, old.value.as_bytes()).expect("file");
        Self::Api { service, folder }
    }

    /// The same in a Secret in the shared Kubernetes.
    pub(crate) async fn kube() -> Self {
        let (service, old) = Service::start(Dialect::Own).await;
        let namespace = Box::new(Namespace::new().await);
        namespace.secret("app", &json!({ "token": old.value, "note": "kept" })).await;
        let operator = namespace.operator("app").await;
        let reader = namespace.account(&[("secrets", "app", &["get"])]).await;
        let folder = tempfile::tempdir().expect("folder");
        let mut file = std::fs::File::create(folder.path().join("config")).expect("file");
        std::io::Write::write_all(&mut file, namespace.kubeconfig(&operator).as_bytes()).expect("file");
        Self::Kube { service, namespace, operator, reader, folder }
    }

    /// The same in a variable of a project, masked, protected and for one environment; another scope has a variable of
    /// its own.
    pub(crate) async fn gitlab() -> Self {
        let (service, old) = Service::start(Dialect::Own).await;
        let gitlab = Gitlab::start().await;
        let more =
            json!({ "masked": true, "protected": true, "environment_scope": SCOPE, "description": "kept" });
        gitlab.add(PROJECTS, "TOKEN", &old.value, more);
        gitlab.add(PROJECTS, "TOKEN", "of-another-environment", json!({}));
        Self::Gitlab { service, gitlab }
    }

    /// The same in a secret of GitHub Actions, whose consumer is a runner, and in a file.
    pub(crate) async fn github() -> Self {
        let Self::Api { service, folder } = Self::api(Dialect::Own).await else { unreachable!("it is that") };
        let github = Github::start().await;
        let old = std::fs::read_to_string(folder.path().join("token")).expect("file");
        github.write(GITHUB, "TOKEN", &old, 60);
        Self::Github { service, github, folder }
    }

    /// The same in an appliance, and in a file where that cannot be read.
    pub(crate) async fn pass_through(reads: bool) -> Self {
        let Self::Api { service, folder } = Self::api(Dialect::Own).await else { unreachable!("it is that") };
        let old = std::fs::read_to_string(folder.path().join("token")).expect("file");
        let appliance = Appliance::start(&old).await;
        let at = |name: &str| folder.path().join(name);
        // What a person would write in the runbook; here the address is another one where a proxy is in between.
        let (program, operator) = (example().display().to_string(), at("operator").display().to_string());
        let script = format!(
            "#!/bin/sh\njq -c --arg at \"$APPLIANCE/secrets/\" '.place = $at + .place' | '{program}' '{operator}' \"$@\"\n"
        );
        for (name, text) in [("operator", &appliance.operator), ("program", &script)] {
            let mut file = std::fs::File::create(at(name)).expect("file");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("mode");
        }
        Self::PassThrough { service, appliance, folder, reads }
    }

    /// An authority of the test's own.
    pub(crate) async fn own() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let first = unique("first-value-of-many-bits");
        let authority = Arc::new(Authority {
            accepted: Mutex::new(BTreeSet::from([first.clone()])),
            used: Mutex::new(first.clone()),
            observed: AtomicUsize::new(0),
            folder,
        });
        let mut file = std::fs::File::create(authority.file()).expect("file");
        std::io::Write::write_all(&mut file, first.as_bytes()).expect("file");
        let url = serve(Arc::clone(&authority).router()).await;
        Self::Own { url, authority }
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        match self {
            Self::Vault { vault, .. }
            | Self::Userpass { vault, .. }
            | Self::Pki { vault, .. }
            | Self::Database { vault, .. } => &vault.address,
            Self::Postgres { address, .. } | Self::Mysql { address, .. } | Self::Redis { address, .. } => {
                address
            }
            Self::Api { service, .. } | Self::Kube { service, .. } => &service.url,
            Self::Gitlab { gitlab, .. } => &gitlab.url,
            Self::Github { github, .. } => &github.url,
            Self::PassThrough { appliance, .. } => &appliance.url,
            Self::Aws { url, .. } | Self::Own { url, .. } => url,
            Self::Jwt(Keys { place: Place::Vault { vault, .. }, .. }) => &vault.address,
            Self::Jwt(keys) => &keys.url,
            Self::Ssh(_) => "",
        }
    }

    /// Canaries: no secret of either version, nor the operator's, is left in a file or was printed.
    pub(crate) async fn is_silent(&self, tool: &Tool, ran: &Ran, before: &Value) {
        let mut secrets = vec![Self::secret(before), Self::secret(&self.current().await)];
        secrets.extend(self.operator_secret());
        search(&tool.state(), &secrets);
        assert!(secrets.iter().all(|s| !ran.stdout.contains(s) && !ran.stderr.contains(s)), "in the output");
    }

    /// The operator's secret, which must not be seen anywhere.
    pub(crate) fn operator_secret(&self) -> Option<String> {
        match self {
            Self::Vault { operator, .. }
            | Self::Userpass { operator, .. }
            | Self::Pki { operator, .. }
            | Self::Database { operator, .. } => Some(operator.clone()),
            Self::Aws { operator: (_, secret), .. }
            | Self::Postgres { operator: (_, secret), .. }
            | Self::Mysql { operator: (_, secret), .. }
            | Self::Redis { operator: (_, secret), .. } => Some(secret.clone()),
            Self::Jwt(Keys { place: Place::Vault { operator, .. }, .. }) => Some(operator.clone()),
            Self::Api { service, .. } => Some(service.operator.clone()),
            Self::Kube { operator, .. } => Some(operator.clone()),
            Self::Gitlab { gitlab, .. } => Some(gitlab.operator.clone()),
            Self::Github { github, .. } => Some(github.operator.clone()),
            Self::PassThrough { appliance, .. } => Some(appliance.operator.clone()),
            Self::Own { .. } | Self::Jwt(_) | Self::Ssh(_) => None,
        }
    }

    /// Whether its issuer can disable a credential.
    pub(crate) fn disables(&self) -> bool {
        match self {
            Self::Api { service, .. }
            | Self::Kube { service, .. }
            | Self::Gitlab { service, .. }
            | Self::Github { service, .. }
            | Self::PassThrough { service, .. } => service.disables(),
            _ => matches!(
                self,
                Self::Aws { .. }
                    | Self::Postgres { .. }
                    | Self::Mysql { .. }
                    | Self::Redis { .. }
                    | Self::Userpass { .. }
                    | Self::Jwt(_)
                    | Self::Ssh(_)
            ),
        }
    }

    /// A consumer that uses the credential all the time.
    pub(crate) async fn consumer(&self) -> Consumer {
        match self {
            Self::Vault { vault, path, role, session, .. } => {
                let mut environment = vec![
                    ("SOURCE", "vault"),
                    ("VAULT_ADDR", &vault.address),
                    // It reads its secret as the deployment's agent would; what it proves is the token
                    // in it.
                    ("READER_TOKEN", "root"),
                    ("SECRET", path),
                ];
                let id = match session {
                    None => Value::Null,
                    Some(_) => {
                        vault.api("GET", &format!("auth/approle/role/{role}/role-id"), Value::Null).await
                    }
                };
                environment.extend(id["data"]["role_id"].as_str().map(|id| ("ROLE_ID", id)));
                Consumer::start(&environment)
            }
            Self::Userpass { vault, path, .. } => Consumer::start(&[
                ("SOURCE", "vault"),
                ("VAULT_ADDR", &vault.address),
                ("READER_TOKEN", "root"),
                ("SECRET", path),
            ]),
            Self::Pki { vault, party, path, .. } => Consumer::start(&[
                ("SOURCE", "vault"),
                ("VAULT_ADDR", &vault.address),
                ("READER_TOKEN", "root"),
                ("SECRET", path),
                ("CHECK", &party.url),
                ("ROOT", &party.root),
            ]),
            Self::Aws { url, store: AwsStore::Secret(secret), .. } => {
                Consumer::start(&[("SOURCE", "aws"), ("AWS_URL", url), ("SECRET", secret)])
            }
            Self::Aws { url, store: AwsStore::Parameter(name), .. } => {
                let label = format!("{name}:live");
                Consumer::start(&[("SOURCE", "aws"), ("AWS_URL", url), ("PARAMETER", &label)])
            }
            Self::Postgres { pg, folder, .. } | Self::Database { pg, folder, .. } => {
                let (file, port) =
                    (folder.path().join("login.json").display().to_string(), pg.port.to_string());
                Consumer::start(&[("SOURCE", "postgres"), ("FILE", &file), ("PORT", &port)])
            }
            Self::Mysql { maria, folder, .. } => {
                let (file, port) =
                    (folder.path().join("login.json").display().to_string(), maria.port.to_string());
                let client = mysql_server::client_program();
                Consumer::start(&[("SOURCE", "mysql"), ("FILE", &file), ("PORT", &port), ("CLIENT", &client)])
            }
            Self::Api { service, folder } => {
                let file = folder.path().join("token").display().to_string();
                Consumer::start(&[("SOURCE", "own"), ("FILE", &file), ("CHECK", &service.itself())])
            }
            Self::Kube { service, namespace, reader, .. } => Consumer::start(&[
                ("SOURCE", "kubernetes"),
                ("SECRET", &format!("{}{}", namespace.url, namespace.path("secrets/app"))),
                ("CA", &namespace.ca.display().to_string()),
                ("READER_TOKEN", reader),
                ("CHECK", &service.itself()),
            ]),
            Self::Gitlab { service, gitlab } => {
                let job = gitlab.job(SCOPE, true, "TOKEN");
                Consumer::start(&[("SOURCE", "own"), ("FILE", &job), ("CHECK", &service.itself())])
            }
            Self::Github { service, github, .. } => Consumer::start(&[
                ("SOURCE", "own"),
                ("FILE", &github.job(GITHUB, "TOKEN")),
                ("CHECK", &service.itself()),
            ]),
            Self::PassThrough { service, appliance, .. } => Consumer::start(&[
                ("SOURCE", "own"),
                ("FILE", &appliance.shown()),
                ("CHECK", &service.itself()),
            ]),
            Self::Own { url, authority } => {
                let file = authority.file().display().to_string();
                Consumer::start(&[("SOURCE", "own"), ("FILE", &file), ("CHECK", &format!("{url}/check"))])
            }
            Self::Redis { redis, name, folder, .. } => {
                let (file, port) =
                    (folder.path().join("password").display().to_string(), redis.port.to_string());
                let environment =
                    [("SOURCE", "redis"), ("FILE", &file), ("PORT", &port), ("REDIS_USER", name.as_str())];
                Consumer::start(&environment)
            }
            Self::Jwt(keys) => {
                let check = format!("{}/api", keys.url);
                let mut environment = vec![("SOURCE", "jwt"), ("CHECK", check.as_str())];
                let file;
                match &keys.place {
                    Place::Files(folder) => {
                        file = folder.path().join("key.json").display().to_string();
                        environment.push(("FILE", &file));
                    }
                    Place::Vault { vault, key, .. } => environment.extend([
                        ("VAULT_ADDR", vault.address.as_str()),
                        ("READER_TOKEN", "root"),
                        ("SECRET", key),
                    ]),
                }
                Consumer::start(&environment)
            }
            Self::Ssh(sshd) => {
                let [file, known_hosts] =
                    ["key", "known_hosts"].map(|name| sshd.at(name).display().to_string());
                Consumer::start(&[
                    ("SOURCE", "ssh"),
                    ("FILE", &file),
                    ("PORT", &sshd.port.to_string()),
                    ("SSH_USER", &sshd.user),
                    ("KNOWN_HOSTS", &known_hosts),
                ])
            }
            Self::Aws { store: AwsStore::File { .. }, .. } => unreachable!("it does not read this"),
        }
    }

    /// The program, as this world's operator uses it.
    pub(crate) fn tool(&self) -> Tool {
        self.tool_through(self.server())
    }

    /// The same, with another address of the server: a proxy's.
    pub(crate) fn tool_through(&self, address: &str) -> Tool {
        match self {
            Self::Vault { operator, .. } | Self::Userpass { operator, .. } | Self::Pki { operator, .. } => {
                Tool::new().with("VAULT_ADDR", address).with("VAULT_TOKEN", operator)
            }
            Self::Database { pg, operator, monitor: (user, password), .. } => Tool::new()
                .with("VAULT_ADDR", address)
                .with("VAULT_TOKEN", operator)
                .with("PGPORT", &pg.port.to_string())
                .with("PGUSER", user)
                .with("PGPASSWORD", password),
            Self::Aws { operator: (id, key), .. } => Tool::new()
                .with("AWS_ENDPOINT_URL", address)
                .with("AWS_REGION", "us-east-1")
                .with("AWS_ACCESS_KEY_ID", id)
                .with("AWS_SECRET_ACCESS_KEY", key),
            Self::Postgres { operator: (user, password), .. } => {
                let port = address.rsplit_once(':').expect("a port").1;
                Tool::new().with("PGPORT", port).with("PGUSER", user).with("PGPASSWORD", password)
            }
            Self::Mysql { operator: (user, password), .. } => {
                let port = address.rsplit_once(':').expect("a port").1;
                Tool::new().with("MYSQL_TCP_PORT", port).with("MYSQL_USER", user).with("MYSQL_PWD", password)
            }
            Self::Redis { operator: (user, password), .. } => {
                let port = address.rsplit_once(':').expect("a port").1;
                let url = format!("redis://{user}@127.0.0.1:{port}");
                Tool::new().with("REDIS_URL", &url).with("REDISCLI_AUTH", password)
            }
            Self::Jwt(Keys { place: Place::Vault { operator, .. }, .. }) => {
                Tool::new().with("VAULT_ADDR", address).with("VAULT_TOKEN", operator)
            }
            Self::Api { service, .. } => {
                let address = format!("{address}{}", service.base());
                Tool::new().with("STANCH_API_ADDRESS", &address).with("STANCH_API_TOKEN", &service.operator)
            }
            Self::Kube { service, folder, .. } => {
                let address = format!("{address}{}", service.base());
                let tool = Tool::new().with("STANCH_API_ADDRESS", &address);
                let kubeconfig = folder.path().join("config").display().to_string();
                tool.with("STANCH_API_TOKEN", &service.operator).with("KUBECONFIG", &kubeconfig)
            }
            Self::Gitlab { service, gitlab } => {
                let api = format!("{}{}", service.url, service.base());
                let tool = Tool::new().with("STANCH_API_ADDRESS", &api);
                let tool = tool.with("STANCH_API_TOKEN", &service.operator);
                tool.with("GITLAB_HOST", address).with("GITLAB_TOKEN", &gitlab.operator)
            }
            Self::Github { service, github, .. } => {
                let api = format!("{}{}", service.url, service.base());
                let tool = Tool::new().with("STANCH_API_ADDRESS", &api).with("GITHUB_API_URL", address);
                tool.with("STANCH_API_TOKEN", &service.operator).with("GITHUB_TOKEN", &github.operator)
            }
            Self::PassThrough { service, .. } => {
                let api = format!("{}{}", service.url, service.base());
                let tool = Tool::new().with("STANCH_API_ADDRESS", &api).with("APPLIANCE", address);
                tool.with("STANCH_API_TOKEN", &service.operator)
            }
            Self::Own { .. } | Self::Jwt(_) | Self::Ssh(_) => Tool::new(),
        }
    }

    /// The same, where the consumer is a process of its own.
    pub(crate) fn runbook_of(&self, consumer: &Consumer, phases: Option<&str>) -> String {
        match self {
            Self::Own { url, authority } => {
                own_runbook(url, &consumer.url, authority, phases.unwrap_or(USUAL))
            }
            _ => self.runbook(&consumer.url, phases),
        }
    }

    /// A runbook with short waits, whose consumer is at `url`. `phases` replaces the usual ones.
    pub(crate) fn runbook(&self, url: &str, phases: Option<&str>) -> String {
        let (connections, issuer, stores) = match self {
            Self::Vault { role, path, session: Some(_), .. } => (
                "vault: { type: vault }".to_owned(),
                format!(
                    "issuer: {{ type: approle-secret-id, connection: vault, role: {role}, ttl: 1h }}\n    \
                     scope: {{ max_ttl: 1h, policies: [{role}] }}"
                ),
                format!("{{ connection: vault, type: kv2, mount: secret, path: {path}, field: secret_id }}"),
            ),
            Self::Vault { role, path, .. } => (
                "vault: { type: vault }".to_owned(),
                format!(
                    "issuer: {{ type: vault-token, connection: vault, role: {role}, policies: [{role}], ttl: 1h }}\n    \
                     scope: {{ max_ttl: 1h, policies: [{role}], audience: app }}"
                ),
                format!("{{ connection: vault, type: kv2, mount: secret, path: {path}, field: token }}"),
            ),
            Self::Userpass { name, path, .. } => (
                "vault: { type: vault }".to_owned(),
                format!(
                    "issuer: {{ type: vault-userpass, connection: vault, name: {name}, policies: [{name}], ttl: 1h }}\n    \
                     scope: {{ policies: [{name}] }}"
                ),
                format!("{{ connection: vault, type: kv2, mount: secret, path: {path} }}"),
            ),
            Self::Pki { party, path, folder, .. } => (
                format!("vault: {{ type: vault, ca_cert: {} }}", folder.path().join("root.pem").display()),
                format!(
                    "issuer: {{ type: vault-pki, connection: vault, mount: {}, role: app, common_name: app.test, alt_names: [a.app.test], ttl: 24h }}\n    \
                     scope: {{ max_ttl: 24h }}",
                    party.mount
                ),
                format!("{{ connection: vault, type: kv2, mount: secret, path: {path} }}"),
            ),
            Self::Database { role, folder, .. } => (
                "vault: { type: vault }\n  db: { type: postgres, host: 127.0.0.1, sslmode: disable }"
                    .to_owned(),
                format!(
                    "issuer: {{ type: vault-database, connection: vault, role: {role}, policies: [{role}], token_role: {role}, ttl: 1h, login: {{ connection: db }} }}\n    \
                     scope: {{ max_ttl: 1h }}"
                ),
                format!(
                    "{{ type: file, path: {}, format: text }}",
                    folder.path().join("login.json").display()
                ),
            ),
            Self::Aws { user, store, .. } => {
                let (account, store) = match store {
                    AwsStore::Secret(name) => (
                        "000000000000",
                        format!(
                            "{{ connection: aws, type: secretsmanager, secret: {name}, fields: {{ access_key_id: KEY_ID, secret_access_key: KEY }} }}"
                        ),
                    ),
                    AwsStore::Parameter(name) => (
                        "000000000000",
                        format!(
                            "{{ connection: aws, type: ssm-parameter, parameter: {name}, fields: {{ access_key_id: KEY_ID, secret_access_key: KEY }} }}"
                        ),
                    ),
                    AwsStore::File { path, .. } => {
                        ("123456789012", format!("{{ type: file, path: {}, format: text }}", path.display()))
                    }
                };
                (
                    format!("aws: {{ type: aws, account: \"{account}\" }}"),
                    format!(
                        "issuer: {{ type: iam-access-key, connection: aws, user: {user} }}\n    scope: {{ policies: [p] }}"
                    ),
                    store,
                )
            }
            Self::Postgres { name, folder, .. } => (
                "db: { type: postgres, host: 127.0.0.1, sslmode: disable }".to_owned(),
                format!(
                    "issuer: {{ type: postgres-role, connection: db, name: {name}, member_of: [{name}_owner] }}\n    \
                     scope: {{ policies: [{name}_owner] }}"
                ),
                format!(
                    "{{ type: file, path: {}, format: text }}",
                    folder.path().join("login.json").display()
                ),
            ),
            Self::Mysql { name, folder, .. } => (
                "db: { type: mysql, host: 127.0.0.1, tls: false }".to_owned(),
                format!(
                    "issuer: {{ type: mysql-user, connection: db, name: {name}, role: {name}_app }}\n    \
                     scope: {{ policies: [{name}_app] }}"
                ),
                format!(
                    "{{ type: file, path: {}, format: text }}",
                    folder.path().join("login.json").display()
                ),
            ),
            Self::Redis { name, folder, .. } => (
                "cache: { type: redis }".to_owned(),
                format!("issuer: {{ type: redis-acl-user, connection: cache, user: {name} }}"),
                format!("{{ type: file, path: {}, format: text }}", folder.path().join("password").display()),
            ),
            Self::Jwt(keys) => {
                // type: jwt-signing-key
                let credential = format!("    {}\n    stores:\n      - {}", keys.issuer(""), keys.store());
                let connections = match &keys.place {
                    Place::Files(_) => "",
                    Place::Vault { .. } => "connections:\n  vault: { type: vault }",
                };
                return runbook(connections, &credential, url, phases.unwrap_or(USUAL));
            }
            Self::Ssh(sshd) => {
                // type: ssh-key
                let credential = format!("    {}\n    stores:\n      - {}", sshd.issuer(""), sshd.store());
                return runbook("", &credential, url, phases.unwrap_or(USUAL));
            }
            Self::Api { service, folder } => (
                "api: { type: api }".to_owned(),
                format!(
                    "issuer: {{ type: token-api, connection: api, {} }}\n    scope: {}",
                    service.issuer(),
                    service.scope()
                ),
                format!("{{ type: file, path: {}, format: text }}", folder.path().join("token").display()),
            ),
            Self::Kube { service, namespace, .. } => (
                "api: { type: api }\n  cluster: { type: kubernetes, context: test }".to_owned(),
                format!(
                    "issuer: {{ type: token-api, connection: api, {} }}\n    scope: {}",
                    service.issuer(),
                    service.scope()
                ),
                format!(
                    "{{ type: kubernetes-secret, connection: cluster, namespace: {}, name: app, field: token }}",
                    namespace.name
                ),
            ),
            Self::Gitlab { service, .. } => (
                "api: { type: api }\n  gitlab: { type: gitlab }".to_owned(),
                format!(
                    "issuer: {{ type: token-api, connection: api, {} }}\n    scope: {}",
                    service.issuer(),
                    service.scope()
                ),
                format!(
                    "{{ type: gitlab-ci-variable, connection: gitlab, project: {}, key: TOKEN, environment_scope: {SCOPE} }}",
                    PROJECT.0
                ),
            ),
            Self::Github { service, folder, .. } => (
                "api: { type: api }\n  github: { type: github }".to_owned(),
                format!(
                    "issuer: {{ type: token-api, connection: api, {} }}\n    scope: {}",
                    service.issuer(),
                    service.scope()
                ),
                format!(
                    "{{ type: file, path: {}, format: text }}\n      - \
                     {{ type: github-actions-secret, connection: github, repository: shop/app, name: TOKEN }}",
                    folder.path().join("token").display()
                ),
            ),
            Self::PassThrough { service, folder, reads, .. } => {
                let [file, program] =
                    ["token", "program"].map(|name| folder.path().join(name).display().to_string());
                let beside = format!("{{ type: file, path: {file}, format: text }}\n      - ");
                (
                    "api: { type: api }".to_owned(),
                    format!(
                        "issuer: {{ type: token-api, connection: api, {} }}\n    scope: {}",
                        service.issuer(),
                        service.scope()
                    ),
                    format!(
                        "{}{{ type: pass-through, argv: [{program}], place: app-key, reads: {reads}, conditional: true }}",
                        if *reads { "" } else { &beside }
                    ),
                )
            }
            Self::Own { authority, .. } => return own_runbook(url, url, authority, phases.unwrap_or(USUAL)),
        };
        let connections = format!("connections:\n  {connections}");
        let credential = format!("    {issuer}\n    stores:\n      - {stores}");
        runbook(&connections, &credential, url, phases.unwrap_or(USUAL))
    }

    /// Every credential that the issuer has for this principal, accepted or disabled, by the names
    /// that it has for them. Asked of the server by listing.
    pub(crate) async fn existing(&self) -> Vec<String> {
        let mut existing = Vec::new();
        match self {
            Self::Vault { vault, role, session: Some(_), .. } => {
                let path = format!("auth/approle/role/{role}/secret-id");
                let list = vault.api("LIST", &path, Value::Null).await;
                let keys = list["data"]["keys"].as_array().expect("accessors");
                existing.extend(keys.iter().map(|accessor| accessor.as_str().expect("text").to_owned()));
            }
            Self::Vault { vault, role, .. } => existing.extend(tokens_of(vault, role).await),
            Self::Database { vault, role, .. } => existing.extend(leases_of(vault, role).await),
            Self::Userpass { vault, name, .. } => {
                let list = vault.api("LIST", "auth/userpass/users", Value::Null).await;
                let users = list["data"]["keys"].as_array().expect("users").iter();
                let users = users.map(|user| user.as_str().expect("text").to_owned());
                existing.extend(users.filter(|user| user.starts_with(&format!("{name}-"))));
            }
            Self::Pki { vault, party, .. } => {
                for serial in serials(vault, &party.mount).await {
                    if !party.others.contains(&serial) && !is_revoked(vault, &party.mount, &serial).await {
                        existing.push(serial);
                    }
                }
            }
            Self::Aws { user, sdk, .. } => {
                let keys = sdk.iam.list_access_keys().user_name(user).send().await.expect("keys");
                existing.extend(keys.access_key_metadata.into_iter().filter_map(|key| key.access_key_id));
            }
            Self::Postgres { pg, name, .. } => {
                let sql = format!(
                    "select rolname::text from pg_roles where rolname like '{name}\\_%' and rolname <> '{name}_owner'"
                );
                existing.extend(pg.column(&sql).await);
            }
            Self::Mysql { maria, name, .. } => existing.extend(maria.accounts(&format!("{name}_"), false)),
            Self::Redis { redis, name, .. } => {
                existing.extend(redis.hashes(name));
                existing.extend(redis.markers(name).iter().flat_map(|marker| redis.hashes(marker)));
                existing.iter_mut().for_each(|hash| *hash = format!("{name}:{}", &hash[..12]));
            }
            Self::Jwt(keys) => {
                existing.extend(keys.valid().await);
                existing.extend(keys.retired().await);
            }
            Self::Ssh(sshd) => {
                existing.extend(sshd.valid());
                existing.extend(sshd.retired());
            }
            Self::Api { service, .. }
            | Self::Kube { service, .. }
            | Self::Gitlab { service, .. }
            | Self::Github { service, .. }
            | Self::PassThrough { service, .. } => {
                existing.extend(service.tokens().into_iter().map(|token| token.id));
            }
            Self::Own { authority, .. } => {
                existing.extend(authority.accepted.lock().expect("lock").iter().cloned())
            }
        }
        existing.sort();
        existing.dedup();
        existing
    }

    /// The credentials that the issuer accepts now.
    pub(crate) async fn alive(&self) -> Vec<String> {
        let mut alive = self.existing().await;
        if let Self::Aws { user, sdk, .. } = self {
            let keys = sdk.iam.list_access_keys().user_name(user).send().await.expect("keys");
            alive.retain(|id| {
                keys.access_key_metadata.iter().any(|key| {
                    key.access_key_id.as_ref() == Some(id)
                        && key.status.as_ref().is_some_and(|s| s.as_str() == "Active")
                })
            });
        }
        if let Self::Userpass { vault, .. } = self {
            for user in self.existing().await {
                let path = format!("auth/userpass/users/{user}");
                let found = vault.api("GET", &path, Value::Null).await;
                if found["data"]["token_bound_cidrs"] != json!([]) {
                    alive.retain(|name| *name != user);
                }
            }
        }
        if let Self::Api { service, .. }
        | Self::Kube { service, .. }
        | Self::Gitlab { service, .. }
        | Self::Github { service, .. }
        | Self::PassThrough { service, .. } = self
        {
            alive = service
                .tokens()
                .into_iter()
                .filter(|token| token.state == "active")
                .map(|token| token.id)
                .collect();
            alive.sort();
        }
        if let Self::Postgres { pg, .. } = self {
            let logins = pg.column("select rolname::text from pg_roles where rolcanlogin").await;
            alive.retain(|name| logins.contains(name));
        }
        if let Self::Mysql { maria, name, .. } = self {
            alive = maria.accounts(&format!("{name}_"), true);
        }
        if let Self::Jwt(keys) = self {
            let valid = keys.valid().await;
            alive.retain(|kid| valid.contains(kid));
        }
        if let Self::Ssh(sshd) = self {
            let valid = sshd.valid();
            alive.retain(|name| valid.contains(name));
        }
        if let Self::Redis { redis, name, .. } = self {
            let valid: Vec<String> =
                redis.hashes(name).iter().map(|hash| format!("{name}:{}", &hash[..12])).collect();
            alive.retain(|handle| valid.contains(handle));
        }
        alive
    }

    /// What the store's current version holds.
    pub(crate) async fn current(&self) -> Value {
        match self {
            Self::Vault { vault, path, .. }
            | Self::Userpass { vault, path, .. }
            | Self::Pki { vault, path, .. } => {
                vault.api("GET", &format!("secret/data/{path}"), Value::Null).await["data"]["data"].clone()
            }
            Self::Aws { store: AwsStore::Secret(secret), sdk, .. } => {
                let value = sdk.secrets.get_secret_value().secret_id(secret).send().await.expect("value");
                serde_json::from_str(value.secret_string().expect("text")).expect("JSON")
            }
            Self::Aws { url, store: AwsStore::Parameter(name), .. } => parameter(url, name).await,
            Self::Aws { store: AwsStore::File { path, .. }, .. } => {
                serde_json::from_str(&std::fs::read_to_string(path).expect("file")).expect("JSON")
            }
            Self::Postgres { folder, .. } | Self::Mysql { folder, .. } | Self::Database { folder, .. } => {
                let text = std::fs::read_to_string(folder.path().join("login.json")).expect("file");
                serde_json::from_str(&text).expect("JSON")
            }
            Self::Redis { folder, .. } => {
                json!({ "password": std::fs::read_to_string(folder.path().join("password")).expect("file") })
            }
            Self::Jwt(keys) => keys.current().await,
            Self::Ssh(sshd) => sshd.current(),
            Self::Api { folder, .. } => {
                json!({ "token": std::fs::read_to_string(folder.path().join("token")).expect("file") })
            }
            Self::Kube { namespace, .. } => namespace.texts("app").await,
            // All else of the variable has to stay.
            Self::Gitlab { gitlab, .. } => {
                let mut fields = gitlab.get(PROJECTS, "TOKEN", SCOPE);
                let token = fields["value"].take();
                let other = gitlab.get(PROJECTS, "TOKEN", "*");
                json!({ "token": token, "note": [fields, other] })
            }
            Self::Github { github, folder, .. } => {
                let file = std::fs::read_to_string(folder.path().join("token")).expect("file");
                json!({ "token": github.value(GITHUB, "TOKEN"), "file": file })
            }
            Self::PassThrough { appliance, reads: true, .. } => json!({ "token": appliance.value() }),
            Self::PassThrough { appliance, folder, .. } => {
                let file = std::fs::read_to_string(folder.path().join("token")).expect("file");
                json!({ "token": appliance.value(), "file": file })
            }
            Self::Own { authority, .. } => json!({ "value": authority.value() }),
        }
    }

    /// The secret part of a store's value.
    pub(crate) fn secret(value: &Value) -> String {
        let secret = ["token", "secret_id", "KEY", "secret_access_key", "value", "password", "private_key"]
            .iter()
            .find_map(|field| value[field].as_str());
        secret.expect("a secret part").to_owned()
    }

    /// How often the store's value was written, where the store counts that.
    pub(crate) async fn writes(&self) -> Option<u64> {
        match self {
            Self::Vault { vault, path, .. }
            | Self::Userpass { vault, path, .. }
            | Self::Pki { vault, path, .. } => {
                let metadata = vault.api("GET", &format!("secret/metadata/{path}"), Value::Null).await;
                metadata["data"]["current_version"].as_u64()
            }
            Self::Jwt(Keys { place: Place::Vault { vault, key, .. }, .. }) => {
                let metadata = vault.api("GET", &format!("secret/metadata/{key}"), Value::Null).await;
                metadata["data"]["current_version"].as_u64()
            }
            Self::Aws { url, store: AwsStore::Parameter(name), .. } => {
                ssm(url, "GetParameter", json!({ "Name": name })).await["Parameter"]["Version"].as_u64()
            }
            Self::Gitlab { gitlab, .. } => Some(gitlab.writes()),
            Self::Github { github, .. } => Some(github.puts()),
            Self::PassThrough { appliance, .. } => Some(appliance.writes()),
            _ => None,
        }
    }

    /// Panics when a label stands where none should be, or not where it should.
    pub(crate) async fn labels_are_clean(&self) {
        if let Self::Aws { url, store: AwsStore::Parameter(name), .. } = self {
            let (current, live) = (self.current().await, parameter(url, &format!("{name}:live")).await);
            assert_eq!(live, current, "who reads by a label gets another value");
        }
        let Self::Aws { store: AwsStore::Secret(secret), sdk, .. } = self else { return };
        let seen = sdk.secrets.describe_secret().secret_id(secret).send().await.expect("secret");
        let labels: Vec<&String> =
            seen.version_ids_to_stages().into_iter().flatten().flat_map(|v| v.1).collect();
        let count = |label: &str| labels.iter().filter(|l| **l == label).count();
        assert_eq!((count("AWSCURRENT"), count("AWSPENDING")), (1, 0), "{labels:?}");
    }

    /// Whether the server accepts what was in the store.
    pub(crate) async fn accepts(&self, value: &Value) -> bool {
        let part = |name: &str| value[name].as_str().expect("part").to_owned();
        match self {
            Self::Vault { vault, role, session: Some(_), .. } => {
                let Ok(login) = vault.log_in(role, &part("secret_id")).await else { return false };
                vault.api("POST", "auth/token/revoke", json!({ "token": login })).await;
                true
            }
            Self::Userpass { vault, .. } => {
                let login = vault.log_in_user(&part("username"), &part("password")).await;
                let Ok(login) = login else { return false };
                vault.api("POST", "auth/token/revoke", json!({ "token": login })).await;
                true
            }
            Self::Pki { party, .. } => party.accepts(&part("certificate"), &part("private_key")).await,
            Self::Vault { vault, .. } => vault.accepts(&part("token")).await,
            Self::Aws { url, store: AwsStore::Secret(_) | AwsStore::Parameter(_), .. } => {
                let config = aws_config(url, &part("KEY_ID"), &part("KEY")).await;
                match aws_sdk_sts::Client::new(&config).get_caller_identity().send().await {
                    Ok(_) => true,
                    Err(e) => {
                        let service =
                            e.as_service_error().map(|s| s.meta().code() == Some("InvalidClientTokenId"));
                        assert_eq!(service, Some(true), "{e:?}");
                        false
                    }
                }
            }
            // It would accept every key: whether it lists it is all there is to know.
            Self::Aws { store: AwsStore::File { .. }, .. } => {
                self.alive().await.contains(&part("access_key_id"))
            }
            Self::Postgres { pg, .. } | Self::Database { pg, .. } => {
                pg.accepts(&part("username"), &part("password")).await
            }
            Self::Mysql { maria, .. } => maria.accepts(&part("username"), &part("password")),
            Self::Redis { redis, name, .. } => redis.log_in(name, &part("password")).await.is_some(),
            Self::Jwt(keys) => keys.accepts(value).await,
            Self::Ssh(sshd) => sshd.accepts(&part("private_key")),
            Self::Api { service, .. }
            | Self::Kube { service, .. }
            | Self::Gitlab { service, .. }
            | Self::Github { service, .. }
            | Self::PassThrough { service, .. } => service.accepts(&part("token")),
            Self::Own { authority, .. } => authority.accepts(&part("value")),
        }
    }

    /// Panics unless a rotation is complete: a new value everywhere, the old one refused, one alive.
    pub(crate) async fn is_rotated(&self, before: &Value) {
        let after = self.current().await;
        assert!(self.accepts(&after).await, "the new credential is refused");
        assert!(!self.accepts(before).await, "the old credential is accepted");
        assert_eq!(self.existing().await.len(), 1, "one credential exists");
        assert_eq!(self.alive().await.len(), 1, "one credential is alive");
        for kept in ["url", "note"] {
            assert_eq!(after.get(kept), before.get(kept), "other fields stay as they are");
        }
        self.labels_are_clean().await;
        if let Self::Vault { vault, session: Some(session), .. } = self {
            assert!(!vault.accepts(session).await, "a session of the old secret id lives on");
        }
        if let Self::Userpass { vault, session, .. } = self {
            assert!(!vault.accepts(session).await, "a login of the old user lives on");
        }
        if let Self::Database { vault, pg, role, session, .. } = self {
            assert!(session.simple_query("select 1").await.is_err(), "a session of the old login lives on");
            assert_eq!(logins_of(pg, role).await, [after["username"].as_str().expect("text")]);
            assert_eq!(tokens_of(vault, role).await.len(), 1, "and the token that holds it");
        }
        if let Self::Postgres { session, .. } = self {
            assert!(session.simple_query("select 1").await.is_err(), "a session of the old role lives on");
        }
        if let Self::Mysql { maria, name, session, .. } = self {
            assert!(!session.is_alive(), "a session of the old user lives on");
            assert_eq!(maria.marks(name).len(), 1, "what marks the new user, and nothing else");
        }
        if let Self::Redis { redis, name, session, .. } = self {
            assert!(!session.is_alive().await, "a connection of the old password lives on");
            assert_eq!(redis.markers(name).len(), 1, "what marks the new password, and nothing else");
        }
        if let Self::Jwt(keys) = self {
            keys.neighbours_are_kept().await;
            assert_eq!(keys.retired().await, Vec::<String>::new(), "nothing is kept of the old key");
        }
        if let Self::Ssh(sshd) = self {
            sshd.neighbours_are_kept();
            assert_eq!(sshd.retired(), Vec::<String>::new(), "nothing is kept of the old key");
            // The page and the plan say so.
            assert!(sshd.session_is_alive(), "sshd ended a session with its key");
        }
        if let Self::Github { .. } | Self::PassThrough { reads: false, .. } = self {
            assert_eq!(after["token"], after["file"], "both stores hold the new value");
        }
        if let Self::Own { authority, .. } = self {
            assert_eq!(authority.observed.load(Ordering::SeqCst), 1, "an observed step is done once");
        }
    }

    /// Does what `stanch resolve` asks a person to do about a step whose outcome nobody knows, and
    /// says whether it took effect: what may have been issued is revoked by hand, and is issued anew.
    pub(crate) async fn settle_by_hand(&self, step: &str, before: &Value) -> bool {
        let Self::Own { authority, .. } = self else { panic!("{step}: this server can be asked") };
        assert!(step.ends_with("/issue") || step.ends_with("/revoke"), "{step} can be observed");
        if step.ends_with("/issue") {
            let first = Self::secret(before);
            authority.accepted.lock().expect("lock").retain(|value| *value == first);
            return false;
        }
        !self.accepts(before).await
    }

    /// Panics unless everything is as it was.
    pub(crate) async fn is_as_before(&self, before: &Value, alive: &[String]) {
        assert_eq!(self.current().await, *before, "the store has its old value");
        assert!(self.accepts(before).await, "the old credential is accepted");
        assert_eq!(self.existing().await, alive, "the issuer knows what it knew");
        assert_eq!(self.alive().await, alive, "the issuer accepts what it accepted");
        self.labels_are_clean().await;
        if let Self::Vault { vault, session: Some(session), .. } = self {
            assert!(vault.accepts(session).await, "a session of the old secret id was revoked");
        }
        if let Self::Userpass { vault, session, .. } = self {
            assert!(vault.accepts(session).await, "a login of the old user was revoked");
        }
        if let Self::Postgres { session, .. } | Self::Database { session, .. } = self {
            session.simple_query("select 1").await.expect("a session of the old login was ended");
        }
        if let Self::Database { vault, pg, role, .. } = self {
            assert_eq!(logins_of(pg, role).await, [before["username"].as_str().expect("text")]);
            assert_eq!(tokens_of(vault, role).await, Vec::<String>::new(), "no token holds a lease");
        }
        if let Self::Mysql { maria, name, session, .. } = self {
            assert!(session.is_alive(), "a session of the old user was ended");
            assert_eq!(maria.marks(name), Vec::<String>::new(), "nothing marks a user");
        }
        if let Self::Redis { redis, name, session, .. } = self {
            // The server does not tell its connections from those of the new password, which must not live on.
            assert!(!session.is_alive().await, "connections end with the new password");
            assert_eq!(redis.markers(name), Vec::<String>::new(), "nothing marks or keeps a password");
        }
        if let Self::Jwt(keys) = self {
            keys.is_as_before().await;
        }
        if let Self::Ssh(sshd) = self {
            sshd.is_as_before();
        }
    }

    /// Removes what would make listings long for those who come later.
    pub(crate) async fn forget(self) {
        if let Self::Postgres { pg, name, operator: (operator, _), .. } = &self {
            let mut roles = self.existing().await;
            roles.extend([format!("{name}_owner"), operator.clone()]);
            for role in roles {
                pg.execute(&format!("drop role \"{role}\"")).await;
            }
            return;
        }
        if let Self::Mysql { maria, name, operator: (operator, _), .. } = &self {
            let mut users = self.existing().await;
            users.push(operator.clone());
            maria.forget(name, &users);
            return;
        }
        if let Self::Redis { redis, name, operator: (operator, _), .. } = &self {
            let markers = redis.markers(name);
            for user in markers.iter().chain([name, operator]) {
                redis.cli(&["ACL", "DELUSER", user]);
            }
            return;
        }
        if let Self::Userpass { vault, operator, .. } = &self {
            for user in self.existing().await {
                vault.api("DELETE", &format!("auth/userpass/users/{user}"), Value::Null).await;
            }
            vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
            return;
        }
        if let Self::Database { vault, pg, role, operator, monitor, .. } = &self {
            for token in tokens_of(vault, role).await {
                vault.api("POST", "auth/token/revoke-accessor", json!({ "accessor": token })).await;
            }
            vault.api("POST", &format!("sys/leases/revoke-force/database/creds/{role}"), json!({})).await;
            for login in logins_of(pg, role).await {
                pg.execute(&format!("drop role if exists \"{login}\"")).await;
            }
            pg.execute(&format!("drop role \"{role}_owner\", \"{}\"", monitor.0)).await;
            vault.api("DELETE", &format!("database/roles/{role}"), Value::Null).await;
            vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
            return;
        }
        if let Self::Pki { vault, party, operator, .. } = &self {
            vault.api("DELETE", &format!("sys/mounts/{}", party.mount), Value::Null).await;
            vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
            return;
        }
        let Self::Vault { vault, operator, role, session, .. } = &self else { return };
        if session.is_some() {
            vault.api("DELETE", &format!("auth/approle/role/{role}"), Value::Null).await;
            vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
            return;
        }
        for accessor in self.existing().await {
            vault.api("POST", "auth/token/revoke-accessor", json!({ "accessor": accessor })).await;
        }
        vault.api("POST", "auth/token/revoke", json!({ "token": operator })).await;
    }
}

/// What a parameter holds, by its name with or without a label.
async fn parameter(url: &str, name: &str) -> Value {
    let read = ssm(url, "GetParameter", json!({ "Name": name, "WithDecryption": true })).await;
    serde_json::from_str(read["Parameter"]["Value"].as_str().expect("text")).expect("JSON")
}

/// What every operator of these worlds may do: look at tokens and revoke them, and write the store.
fn tokens_and_secret(path: &str) -> String {
    format!(
        r#"path "auth/token/lookup-accessor" {{ capabilities = ["update"] }}
           path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
           path "auth/token/accessors" {{ capabilities = ["list", "sudo"] }}
           path "auth/token/accessors/" {{ capabilities = ["list", "sudo"] }}
           path "secret/data/{path}" {{ capabilities = ["read", "create", "update"] }}
           path "secret/metadata/{path}" {{ capabilities = ["read"] }}"#
    )
}

/// The accessors of the tokens that were made by a token role.
pub(crate) async fn tokens_of(vault: &Vault, role: &str) -> Vec<String> {
    let list = vault.api("LIST", "auth/token/accessors", Value::Null).await;
    let (http, places) = (plain_http(), Arc::new(Semaphore::new(8)));
    let mut found = Vec::new();
    let mut lookups = JoinSet::new();
    for accessor in list["data"]["keys"].as_array().expect("accessors") {
        let accessor = accessor.as_str().expect("text").to_owned();
        let lookup = http
            .post(format!("{}/v1/auth/token/lookup-accessor", vault.address))
            .header("x-vault-token", &vault.root)
            .body(json!({ "accessor": accessor }).to_string());
        let places = Arc::clone(&places);
        lookups.spawn(async move {
            let _place = places.acquire().await.expect("open");
            let text = lookup.send().await.expect("Vault answers").text().await.expect("body");
            (accessor, text)
        });
    }
    while let Some(done) = lookups.join_next().await {
        let (accessor, text) = done.expect("lookup");
        // Other tests' tokens come and go meanwhile.
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        if told["data"]["role"] == *role || told["data"]["path"] == format!("auth/token/create/{role}") {
            found.push(accessor);
        }
    }
    found
}

/// The logins that a dynamic role has made and not removed, as the database knows them.
pub(crate) async fn logins_of(pg: &Pg, role: &str) -> Vec<String> {
    pg.column(&format!(
        "select m.rolname::text from pg_auth_members a join pg_roles m on m.oid = a.member \
         join pg_roles r on r.oid = a.roleid where r.rolname = '{role}_owner'"
    ))
    .await
}

/// The leases of a dynamic role.
pub(crate) async fn leases_of(vault: &Vault, role: &str) -> Vec<String> {
    let path = format!("database/creds/{role}");
    vault
        .listed(&format!("sys/leases/lookup/{path}"))
        .await
        .iter()
        .map(|key| format!("{path}/{key}"))
        .collect()
}

/// What the operator needs for leases of this role, and no more.
pub(crate) fn lease_rules(role: &str) -> String {
    format!(
        r#"path "database/roles/{role}" {{ capabilities = ["read"] }}
           path "sys/leases/lookup" {{ capabilities = ["update"] }}
           path "sys/leases/revoke" {{ capabilities = ["update"] }}
           path "sys/leases/lookup/database/creds/{role}" {{ capabilities = ["list", "sudo"] }}
           path "auth/token/roles/{role}" {{ capabilities = ["read"] }}
           path "auth/token/create/{role}" {{ capabilities = ["update"] }}
           path "auth/token/lookup-accessor" {{ capabilities = ["update"] }}
           path "auth/token/revoke-accessor" {{ capabilities = ["update"] }}
           path "auth/token/accessors" {{ capabilities = ["list", "sudo"] }}"#
    )
}
