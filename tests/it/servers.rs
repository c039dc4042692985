//! Finds the real servers, and sets things up in them by other means than the code under test.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stanch::clock::{Clock as _, SystemClock};
use stanch::domain::{Check, CheckVerdict};
use stanch::kind::vault::{Settings, VaultClient};
use stanch::provider::CallContext;
use stanch::secret::Secret;
use uuid::Uuid;

use crate::postgres_server::Pg;

/// How long one call may take in tests.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run scripts/test (or eval \"$(scripts/servers env)\" after scripts/servers up)"
        )
    })
}

pub(crate) fn ministack() -> String {
    server("STANCH_TEST_MINISTACK_URL")
}

pub(crate) fn moto() -> String {
    server("STANCH_TEST_MOTO_URL")
}

/// A name that no other test uses: they share the servers and run at once.
pub(crate) fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", &Uuid::now_v7().simple().to_string()[20..])
}

/// A step of a run of its own.
pub(crate) fn context() -> CallContext {
    CallContext {
        run: unique("run"),
        step: "web/prepare/issue".to_owned(),
        token: Uuid::now_v7(),
        since: "2020-01-01T00:00:00Z".parse().expect("timestamp"),
        last: SystemClock::new().now().wall,
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: stanch::provider::Ahead::default(),
        held: None,
        outgoing: None,
    }
}

/// The failed checks, as text.
pub(crate) fn failures(checks: &[Check]) -> Vec<String> {
    checks
        .iter()
        .filter(|check| check.verdict == CheckVerdict::Fail)
        .map(|check| format!("{}: {} ({:?})", check.name, check.detail, check.kind))
        .collect()
}

/// A port where nothing listens.
pub(crate) fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("address")
}

/// Serves a router on a free port for as long as the test's runtime lives.
pub(crate) async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// A plain client for setting things up.
pub(crate) fn plain_http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(DEADLINE).build().expect("client")
}

/// One request to Parameter Store, in the name of an imitation's root, whose signature is not checked.
pub(crate) async fn ssm(url: &str, action: &str, body: Value) -> Value {
    let scope = "Credential=test/20260101/us-east-1/ssm/aws4_request";
    let sent = plain_http()
        .post(url)
        .header("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"))
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("AmazonSSM.{action}"))
        .body(body.to_string());
    let answer = sent.send().await.expect("Parameter Store answers");
    let status = answer.status();
    let text = answer.text().await.expect("body");
    assert!(status.is_success(), "{action} {body}: {status} {text}");
    serde_json::from_str(&text).expect("JSON")
}

/// A Vault, as its root sees it.
#[derive(Clone)]
pub(crate) struct Vault {
    pub(crate) address: String,
    pub(crate) root: String,
}

impl Vault {
    /// The shared one.
    pub(crate) fn shared() -> Self {
        Self { address: server("STANCH_TEST_VAULT_ADDR"), root: server("STANCH_TEST_VAULT_TOKEN") }
    }

    /// One request as root. Panics when Vault refuses.
    pub(crate) async fn api(&self, method: &str, path: &str, body: Value) -> Value {
        let request = plain_http()
            .request(method.parse().expect("method"), format!("{}/v1/{path}", self.address))
            .header("x-vault-token", &self.root)
            .body(if body.is_null() { String::new() } else { body.to_string() });
        let response = request.send().await.expect("Vault answers");
        let (status, text) = (response.status(), response.text().await.expect("body"));
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    /// Makes a namespace, where the server has them: OpenBao does, Vault's community edition does not.
    pub(crate) async fn namespace(&self, name: &str) -> bool {
        let request = plain_http().post(format!("{}/v1/sys/namespaces/{name}", self.address));
        let response = request.header("x-vault-token", &self.root).send().await.expect("Vault answers");
        let (made, status) = (response.status().is_success(), response.status());
        assert!(made || status == 404, "{status}");
        made
    }

    /// Switches the auth method for AppRoles on, unless another test did.
    pub(crate) async fn with_approle(&self) {
        self.with_method("approle").await;
    }

    /// The same for users with a password.
    pub(crate) async fn with_userpass(&self) {
        self.with_method("userpass").await;
    }

    /// A database secrets engine with the shared PostgreSQL, as its superuser.
    pub(crate) async fn with_database(&self, pg: &Pg) {
        let request = plain_http().post(format!("{}/v1/sys/mounts/database", self.address));
        let request =
            request.header("x-vault-token", &self.root).body(json!({ "type": "database" }).to_string());
        let response = request.send().await.expect("Vault answers");
        let (status, text) = (response.status(), response.text().await.expect("body"));
        assert!(status.is_success() || text.contains("already in use"), "{status} {text}");
        let body = json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "postgres", "password": pg.password,
            "connection_url": format!("postgresql://{{{{username}}}}:{{{{password}}}}@{}/postgres?sslmode=disable", pg.place()),
        });
        // Written once: the server closes its connections to the database when it is written again.
        static WRITTEN: tokio::sync::Mutex<bool> = tokio::sync::Mutex::const_new(false);
        let mut written = WRITTEN.lock().await;
        if !*written {
            self.api("POST", "database/config/pg", body).await;
            *written = true;
        }
    }

    /// The names in a list, which may be empty.
    pub(crate) async fn listed(&self, path: &str) -> Vec<String> {
        let request =
            plain_http().request("LIST".parse().expect("method"), format!("{}/v1/{path}", self.address));
        let response = request.header("x-vault-token", &self.root).send().await.expect("Vault answers");
        let (status, text) = (response.status().as_u16(), response.text().await.expect("body"));
        if status == 404 {
            assert_eq!(text.trim(), r#"{"errors":[]}"#);
            return Vec::new();
        }
        assert_eq!(status, 200, "LIST {path}: {text}");
        let list: Value = serde_json::from_str(&text).expect("JSON");
        list["data"]["keys"]
            .as_array()
            .expect("keys")
            .iter()
            .map(|key| key.as_str().expect("text").to_owned())
            .collect()
    }

    async fn with_method(&self, kind: &str) {
        let request = plain_http().post(format!("{}/v1/sys/auth/{kind}", self.address));
        let request = request.header("x-vault-token", &self.root).body(json!({ "type": kind }).to_string());
        let response = request.send().await.expect("Vault answers");
        let (status, text) = (response.status(), response.text().await.expect("body"));
        assert!(status.is_success() || text.contains("already in use"), "{status} {text}");
    }

    /// A login to an AppRole: the token, or the status of the refusal. One that is refused too often locks the
    /// role.
    pub(crate) async fn log_in(&self, role: &str, secret_id: &str) -> Result<String, u16> {
        let id = self.api("GET", &format!("auth/approle/role/{role}/role-id"), Value::Null).await;
        let body = json!({ "role_id": id["data"]["role_id"], "secret_id": secret_id });
        let request = plain_http().post(format!("{}/v1/auth/approle/login", self.address));
        let response = request.body(body.to_string()).send().await.expect("Vault answers");
        let (status, text) = (response.status(), response.text().await.expect("body"));
        if !status.is_success() {
            assert!(text.contains("invalid role or secret ID"), "{status} {text}");
            return Err(status.as_u16());
        }
        let body: Value = serde_json::from_str(&text).expect("JSON");
        Ok(body["auth"]["client_token"].as_str().expect("token").to_owned())
    }

    /// A login as a user: the token, or the status of the refusal.
    pub(crate) async fn log_in_user(&self, user: &str, password: &str) -> Result<String, u16> {
        let request = plain_http().post(format!("{}/v1/auth/userpass/login/{user}", self.address));
        let body = json!({ "password": password }).to_string();
        let response = request.body(body).send().await.expect("Vault answers");
        let (status, text) = (response.status(), response.text().await.expect("body"));
        if !status.is_success() {
            assert!(
                text.contains("invalid username or password") || text.contains("permission denied"),
                "{status} {text}"
            );
            return Err(status.as_u16());
        }
        let body: Value = serde_json::from_str(&text).expect("JSON");
        Ok(body["auth"]["client_token"].as_str().expect("token").to_owned())
    }

    /// Whether a token is accepted.
    pub(crate) async fn accepts(&self, token: &str) -> bool {
        let request = plain_http().get(format!("{}/v1/auth/token/lookup-self", self.address));
        let status = request.header("x-vault-token", token).send().await.expect("Vault answers").status();
        assert!(status.is_success() || status == 403, "{status}");
        status.is_success()
    }

    /// A token with these rules and no other.
    pub(crate) async fn token(&self, rules: &str) -> String {
        let policy = unique("policy");
        self.api("PUT", &format!("sys/policies/acl/{policy}"), json!({ "policy": rules })).await;
        let made = self.api("POST", "auth/token/create", json!({ "policies": [policy] })).await;
        made["auth"]["client_token"].as_str().expect("token").to_owned()
    }

    pub(crate) fn settings(&self, token: &str) -> Settings {
        Settings {
            address: self.address.parse().expect("address"),
            token: Some(Secret::new(token)),
            namespace: None,
            ca_cert: None,
            skip_verify: false,
            more: stanch::kind::vault::More::default(),
        }
    }

    pub(crate) fn client(&self) -> Arc<VaultClient> {
        self.client_as(&self.root)
    }

    pub(crate) fn client_as(&self, token: &str) -> Arc<VaultClient> {
        Arc::new(VaultClient::new(self.settings(token), DEADLINE).expect("client"))
    }
}

/// A Vault of the test's own, which may be sealed and killed. Ends with the test.
pub(crate) struct OwnVault {
    pub(crate) vault: Vault,
    pub(crate) unseal_key: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl OwnVault {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (port, cluster) = (closed_port(), closed_port());
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("data folder");
        let config = folder.path().join("vault.hcl");
        let text = format!(
            "storage \"raft\" {{ path = {data:?} node_id = \"n1\" }}\n\
             listener \"tcp\" {{ address = \"{port}\" tls_disable = true }}\n\
             disable_mlock = true\napi_addr = \"http://{port}\"\ncluster_addr = \"http://{cluster}\"\n"
        );
        std::io::Write::write_all(&mut std::fs::File::create(&config).expect("config"), text.as_bytes())
            .expect("config");
        let child = Self::launch(&config);
        let vault = Vault { address: format!("http://{port}"), root: String::new() };
        let own = Self { vault, unseal_key: String::new(), child, folder };
        own.answers().await;
        own
    }

    fn launch(config: &Path) -> Child {
        Command::new(server("STANCH_VAULT_BIN"))
            .arg("server")
            .arg(format!("-config={}", config.display()))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Vault starts")
    }

    async fn answers(&self) {
        let http = plain_http();
        for _ in 0..300 {
            if http.get(format!("{}/v1/sys/health", self.vault.address)).send().await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes it usable again, with everything that it had, whatever happened to it.
    pub(crate) async fn mend(&mut self) {
        self.kill();
        self.child = Self::launch(&self.folder.path().join("vault.hcl"));
        self.answers().await;
        self.unseal().await;
    }

    /// One with TLS, and the file of the CA that signed for it.
    pub(crate) async fn start_with_tls() -> (Self, PathBuf) {
        let folder = tempfile::tempdir().expect("folder");
        let port = closed_port();
        let child = Command::new(server("STANCH_VAULT_BIN"))
            .args(["server", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .arg(format!("-dev-listen-address={port}"))
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Vault starts");
        let ca = folder.path().join("vault-ca.pem");
        for _ in 0..300 {
            if ca.exists() && tokio::net::TcpStream::connect(port).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let vault = Vault { address: format!("https://{port}"), root: "root".to_owned() };
        (Self { vault, unseal_key: String::new(), child, folder }, ca)
    }

    /// Makes it usable.
    pub(crate) async fn initialise(&mut self) {
        let body = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let made = self.vault.api("PUT", "sys/init", body).await;
        made["root_token"].as_str().expect("token").clone_into(&mut self.vault.root);
        made["keys"][0].as_str().expect("key").clone_into(&mut self.unseal_key);
        self.unseal().await;
    }

    pub(crate) async fn unseal(&self) {
        self.vault.api("PUT", "sys/unseal", json!({ "key": self.unseal_key })).await;
        let http = plain_http();
        for _ in 0..100 {
            let health = http.get(format!("{}/v1/sys/health", self.vault.address)).send().await;
            if health.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("Vault did not become active");
    }

    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        self.child.wait().expect("wait");
    }
}

impl Drop for OwnVault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
