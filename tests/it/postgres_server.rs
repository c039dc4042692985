//! PostgreSQL, as its superuser sees it: what is set up and asked here does not go through the code under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use stanch::domain::ErrorKind;
use stanch::kind::postgres::{PgClient, Settings, SslMode};
use stanch::secret::Secret;
use tokio_postgres::{Client, NoTls};

use crate::servers::{DEADLINE, closed_port, server, unique};

/// A server.
#[derive(Clone)]
pub(crate) struct Pg {
    pub(crate) port: u16,
    pub(crate) password: String,
}

impl Pg {
    /// The shared one.
    pub(crate) fn shared() -> Self {
        let port = server("STANCH_TEST_POSTGRES_PORT").parse().expect("a port");
        Self { port, password: server("STANCH_TEST_POSTGRES_PASSWORD") }
    }

    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A session, or the code of the refusal.
    pub(crate) async fn log_in(&self, user: &str, password: &str, database: &str) -> Result<Client, String> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user(user).password(password).dbname(database);
        config.connect_timeout(DEADLINE);
        match config.connect(NoTls).await {
            Ok((client, connection)) => {
                tokio::spawn(connection);
                Ok(client)
            }
            Err(error) => Err(error.code().unwrap_or_else(|| panic!("{error:?}")).code().to_owned()),
        }
    }

    /// Statements of the superuser's.
    pub(crate) async fn execute(&self, sql: &str) {
        self.execute_in("postgres", sql).await;
    }

    pub(crate) async fn execute_in(&self, database: &str, sql: &str) {
        let client = self.log_in("postgres", &self.password, database).await.expect("the superuser");
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// The texts in the first column.
    pub(crate) async fn column(&self, sql: &str) -> Vec<String> {
        self.column_in("postgres", sql).await
    }

    pub(crate) async fn column_in(&self, database: &str, sql: &str) -> Vec<String> {
        let client = self.log_in("postgres", &self.password, database).await.expect("the superuser");
        let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Whether the server lets a login in.
    pub(crate) async fn accepts(&self, user: &str, password: &str) -> bool {
        match self.log_in(user, password, "postgres").await {
            Ok(_) => true,
            Err(code) => {
                assert!(["28P01", "28000"].contains(&code.as_str()), "{code}");
                false
            }
        }
    }

    /// Whether CREATEROLE alone allows to change and to grant any role: so it was until version 16.
    pub(crate) async fn is_lax(&self) -> bool {
        self.column("select current_setting('server_version_num')").await[0].as_str() < "160000"
    }

    /// A role that may do what a rotation of these roles needs, and nothing else.
    pub(crate) async fn operator(&self, prefix: &str) -> (String, String) {
        let (name, password) = (unique("operator"), unique("Operators-Password"));
        self.execute(&format!("create role \"{name}\" login createrole password '{password}'")).await;
        if !self.is_lax().await {
            for role in ["owner", "first"] {
                let options = "with admin true, inherit false, set false";
                self.execute(&format!("grant \"{prefix}_{role}\" to \"{name}\" {options}")).await;
            }
        }
        (name, password)
    }

    /// A role that owns things, and a login role that is its member: the old credential.
    pub(crate) async fn app(&self, prefix: &str) -> (String, String) {
        let password = unique("First-Password-Of-An-App");
        self.execute(&format!(
            "create role \"{prefix}_owner\" nologin;
             create role \"{prefix}_first\" login password '{password}' in role \"{prefix}_owner\""
        ))
        .await;
        (format!("{prefix}_first"), password)
    }

    pub(crate) fn settings(&self, user: &str, password: &str) -> Settings {
        Settings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            dbname: "postgres".to_owned(),
            user: user.to_owned(),
            password: Some(Secret::new(password)),
            sslmode: SslMode::Disable,
            ca_cert: None,
            not_heeded: Vec::new(),
        }
    }

    pub(crate) fn client_as(&self, user: &str, password: &str) -> Arc<PgClient> {
        Arc::new(PgClient::new(self.settings(user, password), DEADLINE).expect("a client"))
    }
}

/// A server of the test's own. Ends with the test.
pub(crate) struct OwnPg {
    pub(crate) pg: Pg,
    pub(crate) folder: PathBuf,
    child: Child,
    _temporary: Option<tempfile::TempDir>,
}

/// A program of PostgreSQL's, which does not run as root.
fn program(name: &str) -> Command {
    unprivileged(&Path::new(&server("STANCH_POSTGRES_BIN")).join(name))
}

/// A program of a server that does not run as root.
pub(crate) fn unprivileged(path: &Path) -> Command {
    let mut command = if rustix::process::getuid().is_root() {
        let (uid, gid) = someone();
        let mut command = Command::new("setpriv");
        command
            .args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()])
            .arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/").env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The user postgres, else nobody.
fn someone() -> (String, String) {
    let users = std::fs::read_to_string("/etc/passwd").expect("users");
    let of = |name: &str| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let fields: Vec<&str> = line.split(':').collect();
        Some((fields[2].to_owned(), fields[3].to_owned()))
    };
    of("postgres").or_else(|| of("nobody")).expect("somebody who is not root")
}

pub(crate) fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
}

/// Gives a path to whoever the server runs as.
pub(crate) fn give(path: &Path) {
    if rustix::process::getuid().is_root() {
        let number = |text: String| text.parse::<u32>().expect("a number");
        let (uid, gid) = someone();
        std::os::unix::fs::chown(path, Some(number(uid)), Some(number(gid))).expect("chown");
    }
}

impl OwnPg {
    /// One with these lines at the end of its configuration.
    pub(crate) async fn start(configuration: &str) -> Self {
        let temporary = tempfile::Builder::new().prefix("stanch-pg").tempdir_in("/tmp").expect("folder");
        let folder = temporary.path().to_owned();
        let password = "superuser-of-one-test";
        write(&folder.join("password"), &format!("{password}\n"));
        give(&folder.join("password"));
        give(&folder);
        let data = folder.join("data");
        let status = program("initdb")
            .args(["-U", "postgres", "-A", "scram-sha-256", "--no-sync", "-D"])
            .arg(&data)
            .arg(format!("--pwfile={}", folder.join("password").display()))
            .status();
        assert!(status.expect("initdb starts").success(), "initdb");
        let mut file =
            std::fs::OpenOptions::new().append(true).open(data.join("postgresql.conf")).expect("conf");
        std::io::Write::write_all(&mut file, configuration.as_bytes()).expect("configuration");
        Self::launch(folder, password.to_owned(), Some(temporary)).await
    }

    async fn launch(folder: PathBuf, password: String, temporary: Option<tempfile::TempDir>) -> Self {
        let port = closed_port().port();
        let log = std::fs::File::create(folder.join("log")).expect("log");
        let child = program("postgres")
            .arg("-D")
            .arg(folder.join("data"))
            .args(["-p", &port.to_string(), "-k", "", "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "log_statement=all", "-c", "log_connections=on"])
            .stderr(log)
            .spawn()
            .expect("PostgreSQL starts");
        let own = Self { pg: Pg { port, password }, folder, child, _temporary: temporary };
        for _ in 0..300 {
            if own.log().contains("ready to accept") {
                return own;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("PostgreSQL did not start: {}", own.log());
    }

    /// A standby of it.
    pub(crate) async fn standby(&self) -> Self {
        let temporary = tempfile::Builder::new().prefix("stanch-pg").tempdir_in("/tmp").expect("folder");
        let folder = temporary.path().to_owned();
        give(&folder);
        let status = program("pg_basebackup")
            .env("PGPASSWORD", &self.pg.password)
            .args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-c", "fast", "-p", &self.pg.port.to_string()])
            .arg("-D")
            .arg(folder.join("data"))
            .status();
        assert!(status.expect("pg_basebackup starts").success(), "pg_basebackup");
        Self::launch(folder, self.pg.password.clone(), Some(temporary)).await
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        // SIGQUIT: its children end as well. It may be dead already.
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("a pid")).expect("a pid");
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::QUIT);
        let _ = self.child.wait();
    }
}

impl Drop for OwnPg {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the server can speak TLS.
pub(crate) fn speaks_tls() -> bool {
    let told = program("pg_config").arg("--configure").stdout(Stdio::piped()).output().expect("pg_config");
    ["openssl", "with-ssl"].iter().any(|word| String::from_utf8_lossy(&told.stdout).contains(word))
}

/// TLS in front of a server that was built without it.
pub(crate) async fn tls_front(pem: &Path, to: u16) -> u16 {
    use rustls::pki_types::pem::PemObject as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let certificate = rustls::pki_types::CertificateDer::from_pem_file(pem).expect("certificate");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(pem).expect("key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config.expect("a certificate with its key")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // The request for TLS has eight bytes, and one letter as its answer.
                let mut request = [0; 8];
                stream.read_exact(&mut request).await.expect("a request");
                stream.write_all(b"S").await.expect("an answer");
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.expect("the server");
                // Either side may go away.
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    port
}

/// The kind of a failure.
pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T, stanch::provider::CallError>) -> ErrorKind {
    result.expect_err("it fails").kind
}
