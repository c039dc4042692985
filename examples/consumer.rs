//! A consumer as the tests need one: a process that holds a credential, uses it many times a
//! second, reloads when it is told to, and attests which version it uses.
//!
//! It is told by environment variables where to read (`SOURCE`: `vault`, `aws`, `postgres`, `mysql`, `redis`, `jwt`, `ssh`, `kubernetes` or `own`), prints the
//! address that it listens on, and serves:
//!
//! - `POST /-/reload`     uses what it holds once more, and then reads the store again, once no request is under way:
//!   a consumer whose credential died before its reload has a failed request, however short that was
//! - `GET  /-/credential` `{"sha256": …}` of the value in use
//! - `GET  /-/stats`      what it did so far
//! - `GET  /-/rate`       `{"rate": …}`, the share of requests that failed; `POST /-/break` makes it 1
#![expect(clippy::print_stdout, reason = "a program of its own")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, RwLock};

/// How many requests are under way at once.
const WORKERS: usize = 3;
/// How long each worker rests between two requests.
const REST: Duration = Duration::from_millis(15);

struct Consumer {
    source: Source,
    http: reqwest::Client,
    /// Requests hold it for reading, so that a reload waits for them.
    credential: RwLock<Credential>,
    requests: AtomicU64,
    failed: AtomicU64,
    broken: AtomicBool,
    first_failures: Mutex<Vec<String>>,
    began: Instant,
}

/// The credential in use, and the client that carries it, where making one takes long.
#[derive(Default)]
struct Credential {
    parts: Value,
    sts: Option<aws_sdk_sts::Client>,
    /// A client that shows a certificate.
    tls: Option<reqwest::Client>,
    /// A session with PostgreSQL, and how often it was used: as a pool does, it is made anew from time to time.
    session: Mutex<Option<(tokio_postgres::Client, u32)>>,
    /// The same with MariaDB, by its own client.
    client: Mutex<Option<(Client, u32)>>,
    /// The same with Redis.
    connection: Mutex<Option<(BufReader<TcpStream>, u32)>>,
    /// A private key as `ssh` reads it, and a login with it, by `ssh`.
    key: Option<tempfile::NamedTempFile>,
    login: Mutex<Option<(Login, u32)>>,
}

/// A login over SSH that goes on, in the subsystem for files. Ends with its connection.
struct Login {
    sends: tokio::process::ChildStdin,
    says: tokio::process::ChildStdout,
    _child: tokio::process::Child,
}

/// A client of MariaDB's that goes on: what it is sent, and what it says. Ends with its session.
struct Client {
    sends: tokio::process::ChildStdin,
    says: BufReader<tokio::process::ChildStdout>,
    _child: tokio::process::Child,
}

/// How often a session is used.
const SESSION: u32 = 25;
/// The same for a login over SSH, which takes longer than all of these.
const LOGIN: u32 = 60;

enum Source {
    /// With the id of an AppRole, what is read is a secret id, and its login is what is used. So it is of a user with a
    /// password.
    Vault {
        address: String,
        token: String,
        path: String,
        role_id: Option<String>,
        /// A server that asks for a certificate, and the root that signed its own.
        shown_to: Option<(String, String)>,
    },
    Aws {
        url: String,
        secret: String,
    },
    /// A file with a value (or the address where a job gets it), and an address that accepts it as a bearer token.
    Own {
        file: String,
        check: String,
    },
    /// The key `token` of a Secret of Kubernetes, by its address, and an address that accepts it as a bearer token.
    Kubernetes {
        secret: String,
        token: String,
        client: reqwest::Client,
        check: String,
    },
    /// A private key with its kid, in a file or in Vault, and an address that verifies its tokens.
    Jwt {
        store: KeyStore,
        check: String,
    },
    /// A parameter, by its name and perhaps a label.
    Parameter {
        url: String,
        name: String,
    },
    /// A file with user name and password.
    Postgres {
        file: String,
        port: u16,
    },
    /// The same, and the client to use it with.
    Mysql {
        file: String,
        port: u16,
        client: String,
    },
    /// A file with a private key.
    Ssh {
        file: String,
        port: u16,
        user: String,
        known_hosts: String,
    },
    /// A file with the password of a user.
    Redis {
        file: String,
        port: u16,
        user: String,
    },
}

/// Where a private key is read.
enum KeyStore {
    File(String),
    Vault { address: String, token: String, path: String },
}

#[expect(clippy::disallowed_methods, reason = "a program of its own")]
fn began() -> Instant {
    Instant::now()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let source = match variable("SOURCE").as_str() {
        "vault" => Source::Vault {
            address: variable("VAULT_ADDR"),
            token: variable("READER_TOKEN"),
            path: variable("SECRET"),
            role_id: std::env::var("ROLE_ID").ok(),
            shown_to: std::env::var("ROOT").ok().map(|root| (variable("CHECK"), root)),
        },
        "own" => Source::Own { file: variable("FILE"), check: variable("CHECK") },
        "kubernetes" => {
            let pem = std::fs::read(variable("CA")).expect("certificates");
            let roots = reqwest::Certificate::from_pem_bundle(&pem).expect("certificates");
            Source::Kubernetes {
                secret: variable("SECRET"),
                token: variable("READER_TOKEN"),
                client: reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().expect("client"),
                check: variable("CHECK"),
            }
        }
        "jwt" => {
            let store = match std::env::var("FILE") {
                Ok(file) => KeyStore::File(file),
                Err(_) => KeyStore::Vault {
                    address: variable("VAULT_ADDR"),
                    token: variable("READER_TOKEN"),
                    path: variable("SECRET"),
                },
            };
            Source::Jwt { store, check: variable("CHECK") }
        }
        "postgres" => {
            Source::Postgres { file: variable("FILE"), port: variable("PORT").parse().expect("a port") }
        }
        "mysql" => Source::Mysql {
            file: variable("FILE"),
            port: variable("PORT").parse().expect("a port"),
            client: variable("CLIENT"),
        },
        "ssh" => Source::Ssh {
            file: variable("FILE"),
            port: variable("PORT").parse().expect("a port"),
            user: variable("SSH_USER"),
            known_hosts: variable("KNOWN_HOSTS"),
        },
        "redis" => Source::Redis {
            file: variable("FILE"),
            port: variable("PORT").parse().expect("a port"),
            user: variable("REDIS_USER"),
        },
        _ => match std::env::var("PARAMETER") {
            Ok(name) => Source::Parameter { url: variable("AWS_URL"), name },
            Err(_) => Source::Aws { url: variable("AWS_URL"), secret: variable("SECRET") },
        },
    };
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(10));
    let consumer = Arc::new(Consumer {
        source,
        http: http.build().expect("client"),
        credential: RwLock::new(Credential::default()),
        requests: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        broken: AtomicBool::new(false),
        first_failures: Mutex::new(Vec::new()),
        began: began(),
    });
    *consumer.credential.write().await = consumer.read().await.expect("the first credential");
    for _ in 0..WORKERS {
        let consumer = Arc::clone(&consumer);
        tokio::spawn(async move {
            loop {
                consumer.work().await;
                tokio::time::sleep(REST).await;
            }
        });
    }
    let router = Router::new()
        .route("/-/reload", post(reload))
        .route("/-/credential", get(attest))
        .route("/-/stats", get(stats))
        .route("/-/rate", get(rate))
        .route("/-/break", post(break_it))
        .with_state(consumer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    println!("http://{}", listener.local_addr().expect("address"));
    axum::serve(listener, router).await.expect("serve");
}

impl Consumer {
    /// Reads the store.
    async fn read(&self) -> Result<Credential, String> {
        match &self.source {
            Source::Vault { address, token, path, shown_to: Some((_, root)), .. } => {
                Credential::certificate(&self.fields(address, token, path).await?, root)
            }
            Source::Vault { address, token, path, role_id, .. } => {
                let fields = self.fields(address, token, path).await?;
                let (at, main, body) = match (role_id, fields["username"].as_str()) {
                    (Some(role_id), _) => {
                        let secret_id = &fields["secret_id"];
                        let body = json!({ "role_id": role_id, "secret_id": secret_id });
                        ("approle/login".to_owned(), secret_id, body)
                    }
                    (None, Some(user)) => {
                        let password = &fields["password"];
                        (format!("userpass/login/{user}"), password, json!({ "password": password }))
                    }
                    (None, None) => {
                        let parts = json!({ "token": fields["token"], "main": fields["token"] });
                        return Ok(Credential { parts, ..Credential::default() });
                    }
                };
                let login = self.http.post(format!("{address}/v1/auth/{at}")).body(body.to_string());
                let text = login.send().await.map_err(|e| e.to_string())?.text().await;
                let body: Value =
                    serde_json::from_str(&text.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
                let parts = json!({ "token": body["auth"]["client_token"], "main": main });
                Ok(Credential { parts, ..Credential::default() })
            }
            Source::Aws { url, secret } => {
                let client = aws_sdk_secretsmanager::Client::new(&aws(url, "test", "test").await);
                let value = client.get_secret_value().secret_id(secret).send().await;
                let value = value.map_err(|e| format!("{e:?}"))?;
                Credential::access_key(url, value.secret_string().unwrap_or_default()).await
            }
            Source::Parameter { url, name } => {
                // In the name of the server's root, whose signature is not checked.
                let scope = "Credential=test/20260101/us-east-1/ssm/aws4_request";
                let asked = self
                    .http
                    .post(url)
                    .header(
                        "authorization",
                        format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"),
                    )
                    .header("x-amz-target", "AmazonSSM.GetParameter")
                    .body(json!({ "Name": name, "WithDecryption": true }).to_string());
                let text = asked.send().await.map_err(|e| e.to_string())?.text().await;
                let text = text.map_err(|e| e.to_string())?;
                let body: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                Credential::access_key(url, body["Parameter"]["Value"].as_str().unwrap_or_default()).await
            }
            Source::Own { file, .. } => {
                let value = match file.starts_with("http://") {
                    true => {
                        let answer = self.http.get(file).send().await.and_then(|got| got.error_for_status());
                        answer.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())?
                    }
                    false => std::fs::read_to_string(file).map_err(|e| e.to_string())?,
                };
                Ok(Credential { parts: json!({ "main": value }), ..Credential::default() })
            }
            Source::Kubernetes { secret, token, client, .. } => {
                let answer = client.get(secret).bearer_auth(token).send().await.map_err(|e| e.to_string())?;
                let text = answer.text().await.map_err(|e| e.to_string())?;
                let body: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                let value = STANDARD.decode(body["data"]["token"].as_str().unwrap_or_default());
                let value =
                    String::from_utf8(value.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
                Ok(Credential { parts: json!({ "main": value }), ..Credential::default() })
            }
            Source::Jwt { store: KeyStore::File(file), .. } => {
                let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
                let parts = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                Ok(Credential { parts, ..Credential::default() })
            }
            Source::Jwt { store: KeyStore::Vault { address, token, path }, .. } => {
                let fields = self.fields(address, token, path).await?;
                let parts = json!({ "private_key": fields["pem"], "kid": fields["kid"] });
                Ok(Credential { parts, ..Credential::default() })
            }
            Source::Postgres { file, .. } | Source::Mysql { file, .. } => {
                let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
                let parts = serde_json::from_str(&text).map_err(|e| e.to_string())?;
                Ok(Credential { parts, ..Credential::default() })
            }
            Source::Ssh { file, .. } => {
                let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
                let mut key = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
                std::io::Write::write_all(&mut key, text.as_bytes()).map_err(|e| e.to_string())?;
                let parts = json!({ "private_key": text });
                Ok(Credential { parts, key: Some(key), ..Credential::default() })
            }
            Source::Redis { file, .. } => {
                let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
                Ok(Credential { parts: json!({ "password": text }), ..Credential::default() })
            }
        }
    }

    /// The fields of a secret in Vault.
    async fn fields(&self, address: &str, token: &str, path: &str) -> Result<Value, String> {
        let url = format!("{address}/v1/secret/data/{path}");
        let answer = self.http.get(url).header("x-vault-token", token).send().await;
        let text = answer.map_err(|e| e.to_string())?.text().await.map_err(|e| e.to_string())?;
        let body: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        Ok(body["data"]["data"].clone())
    }

    /// Uses the credential once, for real: the server decides whether it is valid.
    async fn work(&self) {
        let credential = self.credential.read().await;
        let result = match &self.source {
            Source::Vault { shown_to: Some((url, _)), .. } => {
                accepted(credential.tls.as_ref().expect("made with the credential").get(url)).await
            }
            Source::Vault { address, .. } => {
                let token = credential.parts["token"].as_str().unwrap_or_default();
                let url = format!("{address}/v1/auth/token/lookup-self");
                accepted(self.http.get(url).header("x-vault-token", token)).await
            }
            Source::Own { check, .. } | Source::Kubernetes { check, .. } => {
                let value = credential.parts["main"].as_str().unwrap_or_default();
                accepted(self.http.get(check).bearer_auth(value)).await
            }
            Source::Jwt { check, .. } => match credential.token() {
                Ok(token) => accepted(self.http.get(check).bearer_auth(token)).await,
                Err(why) => Err(why),
            },
            Source::Aws { .. } | Source::Parameter { .. } => {
                let sts = credential.sts.as_ref().expect("made with the credential");
                let answer = sts.get_caller_identity().send().await;
                answer.map(drop).map_err(|e| format!("{e:?}").chars().take(300).collect())
            }
            Source::Postgres { port, .. } => credential.query(*port).await,
            Source::Mysql { port, client, .. } => credential.select(*port, client).await,
            Source::Redis { port, user, .. } => credential.ping(*port, user).await,
            Source::Ssh { port, user, known_hosts, .. } => credential.ask(*port, user, known_hosts).await,
        };
        drop(credential);
        self.requests.fetch_add(1, Ordering::Relaxed);
        if let Err(why) = result {
            self.failed.fetch_add(1, Ordering::Relaxed);
            let mut first = self.first_failures.lock().await;
            if first.len() < 5 {
                first.push(format!("after {} ms: {why}", self.began.elapsed().as_millis()));
            }
        }
    }
}

/// Whether a server accepts a request.
async fn accepted(request: reqwest::RequestBuilder) -> Result<(), String> {
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{}", answer.status())),
        Err(e) => Err(e.to_string()),
    }
}

impl Credential {
    /// A token that the private key signs now.
    fn token(&self) -> Result<String, String> {
        let part = |name: &str| self.parts[name].as_str().unwrap_or_default();
        let body: String = part("private_key").lines().filter(|line| !line.starts_with("---")).collect();
        let key = EncodingKey::from_ec_der(&STANDARD.decode(body).map_err(|e| e.to_string())?);
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some(part("kid").to_owned());
        let claims = json!({ "aud": "app", "exp": jsonwebtoken::get_current_timestamp() + 60 });
        jsonwebtoken::encode(&header, &claims, &key).map_err(|e| e.to_string())
    }

    /// A certificate with its key, and the client that shows it: to each request a connection of its own.
    fn certificate(fields: &Value, root: &str) -> Result<Self, String> {
        let part = |name: &str| fields[name].as_str().unwrap_or_default();
        let pem = format!("{}\n{}\n", part("private_key"), part("certificate"));
        let identity = reqwest::Identity::from_pem(pem.as_bytes()).map_err(|e| e.to_string())?;
        let root = reqwest::Certificate::from_pem(root.as_bytes()).map_err(|e| e.to_string())?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).identity(identity);
        let client = client.pool_max_idle_per_host(0).timeout(Duration::from_secs(10));
        let tls = Some(client.build().map_err(|e| e.to_string())?);
        Ok(Self { parts: json!({ "main": part("private_key") }), tls, ..Self::default() })
    }

    /// An access key, and the client that carries it.
    async fn access_key(url: &str, text: &str) -> Result<Self, String> {
        let parts: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let part = |name: &str| parts[name].as_str().unwrap_or_default();
        let config = aws(url, part("KEY_ID"), part("KEY")).await;
        Ok(Self { sts: Some(aws_sdk_sts::Client::new(&config)), parts, ..Self::default() })
    }

    /// Asks PostgreSQL something, in a session that was made with this credential.
    async fn query(&self, port: u16) -> Result<(), String> {
        let mut session = self.session.lock().await;
        let (client, used) = match session.take().filter(|(_, used)| *used < SESSION) {
            Some(session) => session,
            None => {
                let part = |name: &str| self.parts[name].as_str().unwrap_or_default();
                let mut config = tokio_postgres::Config::new();
                config.host("127.0.0.1").port(port).dbname("postgres").user(part("username"));
                config.password(part("password"));
                let (client, connection) =
                    config.connect(tokio_postgres::NoTls).await.map_err(|e| format!("{e:?}"))?;
                tokio::spawn(connection);
                (client, 0)
            }
        };
        client.simple_query("select 1").await.map_err(|e| format!("{e:?}"))?;
        *session = Some((client, used + 1));
        Ok(())
    }
}

impl Credential {
    /// Asks MariaDB something, in a session that was made with this credential.
    async fn select(&self, port: u16, program: &str) -> Result<(), String> {
        let mut session = self.client.lock().await;
        let (mut client, used) = match session.take().filter(|(_, used)| *used < SESSION) {
            Some(session) => session,
            None => {
                let part = |name: &str| self.parts[name].as_str().unwrap_or_default();
                let mut child = tokio::process::Command::new(program)
                    .args(["--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect"])
                    .args([format!("--port={port}"), format!("--user={}", part("username"))])
                    .env("MYSQL_PWD", part("password"))
                    .stdin(std::process::Stdio::piped())
                    .stdout(std::process::Stdio::piped())
                    .kill_on_drop(true)
                    .spawn()
                    .map_err(|e| e.to_string())?;
                let sends = child.stdin.take().ok_or("no input")?;
                let says = BufReader::new(child.stdout.take().ok_or("no output")?);
                (Client { sends, says, _child: child }, 0)
            }
        };
        client.sends.write_all(b"select 1;\n").await.map_err(|e| e.to_string())?;
        let mut line = String::new();
        match client.says.read_line(&mut line).await {
            Ok(count) if count > 0 => *session = Some((client, used + 1)),
            Ok(_) => return Err("MariaDB ended the session, or refused it".to_owned()),
            Err(error) => return Err(error.to_string()),
        }
        Ok(())
    }
}

impl Credential {
    /// Pings Redis, on a connection that was made with this credential. One that was closed meanwhile is made again, as
    /// clients of Redis do.
    async fn ping(&self, port: u16, user: &str) -> Result<(), String> {
        let mut connection = self.connection.lock().await;
        if let Some((mut stream, used)) = connection.take().filter(|(_, used)| *used < SESSION)
            && let Ok(said) = said(&mut stream, "PING").await
        {
            *connection = Some((stream, used + 1));
            return if said == "+PONG" { Ok(()) } else { Err(said) };
        }
        // The end of the user's connections meets one that was just made, too.
        let stream = match self.log_in(port, user).await {
            Err(LogIn::Broken(_)) => self.log_in(port, user).await,
            other => other,
        };
        let stream = stream.map_err(|(LogIn::Broken(why) | LogIn::Refused(why))| why)?;
        *connection = Some((stream, 0));
        Ok(())
    }

    /// A connection that Redis took the password on.
    async fn log_in(&self, port: u16, user: &str) -> Result<BufReader<TcpStream>, LogIn> {
        let word = self.parts["password"].as_str().unwrap_or_default();
        let broken = |error: std::io::Error| LogIn::Broken(error.to_string());
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.map_err(broken)?);
        for (command, wanted) in [(format!("AUTH {user} {word}"), "+OK"), ("PING".to_owned(), "+PONG")] {
            let said = said(&mut stream, &command).await.map_err(LogIn::Broken)?;
            if said != wanted {
                return Err(LogIn::Refused(said));
            }
        }
        Ok(stream)
    }
}

impl Credential {
    /// Asks a server for files something, in a login that was made with this key.
    async fn ask(&self, port: u16, user: &str, known_hosts: &str) -> Result<(), String> {
        let mut login = self.login.lock().await;
        let (mut open, used) = match login.take().filter(|(_, used)| *used < LOGIN) {
            Some(login) => login,
            None => {
                let key = self.key.as_ref().ok_or("no key")?.path();
                let mut command = tokio::process::Command::new("ssh");
                command.args([
                    "-F",
                    "none",
                    "-o",
                    "BatchMode=yes",
                    "-o",
                    "IdentitiesOnly=yes",
                    "-o",
                    "HostKeyAlias=server",
                ]);
                // The default costs twice as much.
                command.args(["-o", "KexAlgorithms=curve25519-sha256"]);
                command.args([
                    "-o",
                    "StrictHostKeyChecking=yes",
                    "-o",
                    &format!("UserKnownHostsFile={known_hosts}"),
                ]);
                command.args(["-p", &port.to_string(), "-l", user, "-i"]).arg(key).args([
                    "-s",
                    "127.0.0.1",
                    "sftp",
                ]);
                command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
                command.stderr(std::process::Stdio::null());
                let mut child = command.kill_on_drop(true).spawn().map_err(|e| e.to_string())?;
                let sends = child.stdin.take().ok_or("no input")?;
                let says = child.stdout.take().ok_or("no output")?;
                let mut open = Login { sends, says, _child: child };
                // SSH_FXP_INIT
                open.ask(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).await?;
                (open, 0)
            }
        };
        // SSH_FXP_REALPATH
        open.ask(&[0, 0, 0, 10, 16, 0, 0, 0, 1, 0, 0, 0, 1, b'.']).await?;
        *login = Some((open, used + 1));
        Ok(())
    }
}

impl Login {
    async fn ask(&mut self, request: &[u8]) -> Result<(), String> {
        let ended = |error: std::io::Error| format!("the login ended, or was refused: {error}");
        self.sends.write_all(request).await.map_err(ended)?;
        let length = self.says.read_u32().await.map_err(ended)?;
        let mut answer = vec![0; length as usize];
        self.says.read_exact(&mut answer).await.map(drop).map_err(ended)
    }
}

/// Why there is no connection.
enum LogIn {
    Broken(String),
    Refused(String),
}

/// What Redis says to a command without spaces in its words.
async fn said(stream: &mut BufReader<TcpStream>, command: &str) -> Result<String, String> {
    stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(|e| e.to_string())?;
    let mut line = String::new();
    match stream.read_line(&mut line).await {
        Ok(0) => Err("it closed the connection".to_owned()),
        Ok(_) => Ok(line.trim_end().to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

async fn aws(url: &str, id: &str, secret: &str) -> aws_config::SdkConfig {
    let keys = aws_sdk_sts::config::Credentials::new(id, secret, None, None, "consumer");
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest());
    config.region("us-east-1").endpoint_url(url).credentials_provider(keys).load().await
}

async fn reload(State(consumer): State<Arc<Consumer>>) -> Result<(), (StatusCode, String)> {
    consumer.work().await;
    let fresh = consumer.read().await.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, e))?;
    *consumer.credential.write().await = fresh;
    Ok(())
}

async fn attest(State(consumer): State<Arc<Consumer>>) -> Json<Value> {
    let credential = consumer.credential.read().await;
    let main = match &consumer.source {
        Source::Vault { .. } | Source::Own { .. } | Source::Kubernetes { .. } => &credential.parts["main"],
        Source::Aws { .. } | Source::Parameter { .. } => &credential.parts["KEY"],
        Source::Postgres { .. } | Source::Mysql { .. } | Source::Redis { .. } => {
            &credential.parts["password"]
        }
        Source::Jwt { .. } | Source::Ssh { .. } => &credential.parts["private_key"],
    };
    Json(json!({ "sha256": hex::encode(Sha256::digest(main.as_str().unwrap_or_default())) }))
}

async fn stats(State(consumer): State<Arc<Consumer>>) -> Json<Value> {
    let requests = consumer.requests.load(Ordering::Relaxed);
    let seconds = consumer.began.elapsed().as_secs_f64();
    Json(json!({
        "requests": requests,
        "failed": consumer.failed.load(Ordering::Relaxed),
        "per_second": requests as f64 / seconds,
        "first_failures": *consumer.first_failures.lock().await,
    }))
}

async fn rate(State(consumer): State<Arc<Consumer>>) -> Json<Value> {
    let requests = consumer.requests.load(Ordering::Relaxed);
    let failed = consumer.failed.load(Ordering::Relaxed);
    let broken = consumer.broken.load(Ordering::Relaxed);
    Json(json!({ "rate": if broken { 1.0 } else { failed as f64 / requests.max(1) as f64 } }))
}

async fn break_it(State(consumer): State<Arc<Consumer>>) {
    consumer.broken.store(true, Ordering::Relaxed);
}
