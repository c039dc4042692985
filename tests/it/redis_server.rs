//! Redis, as its administrator sees it: what is set up and asked here goes by `redis-cli`, or by a line of text, and not
//! through the code under test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use stanch::kind::redis::{Node, RedisClient, Settings};
use stanch::secret::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::servers::{DEADLINE, closed_port, server, unique};

/// What an operator needs to be allowed, as the page of the kind says.
pub(crate) const PERMISSIONS: &str = "+multi +exec +info +cluster|info +config|get +config|rewrite +client|list +client|kill \
     +acl|list +acl|whoami +acl|dryrun +acl|setuser +acl|deluser +acl|save";

/// A server.
#[derive(Clone)]
pub(crate) struct Redis {
    pub(crate) port: u16,
    pub(crate) password: String,
}

/// A connection that is logged in.
pub(crate) struct Session(Mutex<BufReader<TcpStream>>);

impl Session {
    /// The first line of what the server says; empty when it closed the connection.
    async fn said(stream: &mut BufReader<TcpStream>, command: &str) -> String {
        let mut line = String::new();
        if stream.write_all(format!("{command}\r\n").as_bytes()).await.is_ok() {
            // A connection that was reset is closed as well.
            let _ = stream.read_line(&mut line).await;
        }
        line.trim_end().to_owned()
    }

    pub(crate) async fn is_alive(&self) -> bool {
        let said = Self::said(&mut *self.0.lock().await, "PING").await;
        assert!(["+PONG", ""].contains(&said.as_str()), "{said}");
        said == "+PONG"
    }
}

impl Redis {
    /// The shared one.
    pub(crate) fn shared() -> Self {
        let port = server("STANCH_TEST_REDIS_PORT").parse().expect("a port");
        Self { port, password: server("STANCH_TEST_REDIS_PASSWORD") }
    }

    /// What `redis-cli` prints, as the administrator. Its exit code says little.
    pub(crate) fn cli(&self, words: &[&str]) -> String {
        let output = program("redis-cli")
            .args([
                "--no-auth-warning",
                "--user",
                "default",
                "-a",
                &self.password,
                "-p",
                &self.port.to_string(),
            ])
            .args(words)
            .output()
            .expect("redis-cli starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // After a refused login it goes on as the default user.
        assert!(!said.contains("AUTH failed") && !said.contains("NOAUTH"), "{words:?}: {said}");
        said
    }

    /// The same, where the server must agree.
    pub(crate) fn set(&self, words: &[&str]) {
        assert_eq!(self.cli(words).trim(), "OK", "{words:?}");
    }

    /// A session of a user's; `None` when the server refuses the password.
    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Option<Session> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("the server");
        let mut stream = BufReader::new(stream);
        let said = Session::said(&mut stream, &format!("AUTH {user} {password}")).await;
        assert!(said == "+OK" || said.starts_with("-WRONGPASS"), "{said}");
        (said == "+OK").then(|| Session(Mutex::new(stream)))
    }

    fn users(&self) -> Vec<(String, String)> {
        let list = self.cli(&["ACL", "LIST"]);
        let named = |line: &str| Some((line.split(' ').nth(1)?.to_owned(), line.to_owned()));
        list.lines().filter_map(named).collect()
    }

    /// The hashes of a user's passwords.
    pub(crate) fn hashes(&self, user: &str) -> Vec<String> {
        let users = self.users();
        let words = users.iter().filter(|(name, _)| name == user).flat_map(|(_, line)| line.split(' '));
        words.filter_map(|word| word.strip_prefix('#')).map(str::to_owned).collect()
    }

    /// The users that mark or keep passwords of a user.
    pub(crate) fn markers(&self, user: &str) -> Vec<String> {
        let prefix = format!("stanch:{user}:");
        self.users().into_iter().map(|(name, _)| name).filter(|name| name.starts_with(&prefix)).collect()
    }

    /// A user that may do everything, and its password: the old credential.
    pub(crate) fn app(&self, name: &str) -> String {
        let password = unique("First-Password-Of-An-App");
        self.set(&["ACL", "SETUSER", name, "on", &format!(">{password}"), "~*", "&*", "+@all"]);
        password
    }

    /// A user that may do what a rotation needs, and nothing else.
    pub(crate) fn operator(&self) -> (String, String) {
        let (name, password) = (unique("operator"), unique("Operators-Password"));
        let word = format!(">{password}");
        let mut rules = vec!["ACL", "SETUSER", &name, "on", &word, "-@all"];
        rules.extend(PERMISSIONS.split(' ').filter(|rule| !rule.is_empty()));
        self.set(&rules);
        (name, password)
    }

    pub(crate) fn node(&self) -> Node {
        Node { host: "127.0.0.1".to_owned(), port: self.port }
    }

    pub(crate) fn settings(&self, user: &str, password: &str) -> Settings {
        Settings {
            nodes: vec![self.node()],
            user: user.to_owned(),
            password: Some(Secret::new(password)),
            tls: false,
            ca_cert: None,
            client_cert: None,
        }
    }

    pub(crate) fn client_as(&self, user: &str, password: &str) -> Arc<RedisClient> {
        client(self.settings(user, password))
    }
}

pub(crate) fn client(settings: Settings) -> Arc<RedisClient> {
    Arc::new(RedisClient::new(settings, DEADLINE).expect("a client"))
}

fn program(name: &str) -> Command {
    let mut command = Command::new(Path::new(&server("STANCH_REDIS_BIN")).join(name));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").stdin(Stdio::null());
    command
}

/// A server of the test's own. Ends with the test.
pub(crate) struct OwnRedis {
    pub(crate) redis: Redis,
    pub(crate) folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Child,
}

/// Where a server of a test's own keeps its users.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    File,
    Configuration,
    Nowhere,
}

impl OwnRedis {
    pub(crate) async fn start(keeps: Keeps, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let redis = Redis { port: closed_port().port(), password: unique("Administrators-Password") };
        let admin = format!("user default on >{} ~* &* +@all\n", redis.password);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut arguments = Vec::new();
        if keeps == Keeps::Configuration {
            write(&folder.path().join("redis.conf"), &admin);
            arguments.push(path("redis.conf"));
        }
        let (port, dir) = (redis.port.to_string(), folder.path().display().to_string());
        let own = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--dir",
            &dir,
            "--save",
            "",
            "--slowlog-log-slower-than",
            "0",
        ];
        arguments.extend(own.map(str::to_owned));
        match keeps {
            Keeps::File => {
                std::fs::create_dir(folder.path().join("users")).expect("folder");
                write(&folder.path().join("users/users.acl"), &admin);
                arguments.extend(["--aclfile".to_owned(), path("users/users.acl")]);
            }
            Keeps::Nowhere => arguments.extend(["--requirepass".to_owned(), redis.password.clone()]),
            Keeps::Configuration => {}
        }
        arguments.extend(more.iter().map(|word| (*word).to_owned()));
        let child = Self::launch(&arguments, &folder.path().join("log"));
        let own = Self { redis, folder, arguments, child };
        own.is_ready().await;
        own
    }

    fn launch(arguments: &[String], log: &PathBuf) -> Child {
        let log = std::fs::File::create(log).expect("log");
        program("redis-server")
            .args(arguments)
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server starts")
    }

    async fn is_ready(&self) {
        for _ in 0..600 {
            if self.log().contains("Ready to accept connections") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("Redis did not start: {}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills it and starts it again.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = Self::launch(&self.arguments, &self.folder.path().join("log"));
        self.is_ready().await;
    }

    /// Writes every command that the server performs into a file, from now on. Ends with the server.
    pub(crate) async fn monitor(&self) -> PathBuf {
        let path = self.folder.path().join("monitor");
        let file = std::fs::File::create(&path).expect("file");
        let port = self.redis.port.to_string();
        let mut child = program("redis-cli")
            .args(["--no-auth-warning", "-a", &self.redis.password, "-p", &port, "MONITOR"])
            .stdout(file)
            .spawn()
            .expect("redis-cli starts");
        std::thread::spawn(move || child.wait());
        for _ in 0..600 {
            if std::fs::read_to_string(&path).is_ok_and(|text| text.starts_with("OK")) {
                return path;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("MONITOR did not begin");
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
}
