//! MariaDB, as its administrator sees it: what is set up and asked here goes by the server's own client, and not through the
//! code under test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use stanch::kind::mysql::{MysqlClient, Settings};
use stanch::secret::Secret;

use crate::servers::{DEADLINE, closed_port, server, unique};

/// What an operator needs to be allowed, as the page of the kind says: on everything, and on the server's own tables.
pub(crate) const PERMISSIONS: [(&str, &str); 7] = [
    ("create user", "*.*"),
    ("process", "*.*"),
    ("connection admin", "*.*"),
    ("show view", "*.*"),
    ("trigger", "*.*"),
    ("select", "mysql.*"),
    ("update", "mysql.*"),
];

/// A server.
#[derive(Clone)]
pub(crate) struct Maria {
    pub(crate) port: u16,
    pub(crate) password: String,
}

/// A session of a user's.
pub(crate) struct Session(Mutex<(Child, ChildStdin, BufReader<ChildStdout>)>);

impl Session {
    pub(crate) fn is_alive(&self) -> bool {
        let (_, sends, says) = &mut *self.0.lock().expect("lock");
        let mut line = String::new();
        // The client ends with its session.
        let asked = sends.write_all(b"select 1;\n").and_then(|()| sends.flush());
        asked.is_ok() && says.read_line(&mut line).is_ok_and(|count| count > 0)
    }

    /// Performs statements in it, whatever they say.
    pub(crate) fn send(&self, sql: &str) {
        let (_, sends, _) = &mut *self.0.lock().expect("lock");
        sends.write_all(format!("{sql};\n").as_bytes()).and_then(|()| sends.flush()).expect("the client");
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let (child, ..) = &mut *self.0.lock().expect("lock");
        // It may have ended.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn programs() -> PathBuf {
    PathBuf::from(server("STANCH_MARIADB_DIR"))
}

/// The server's own client.
pub(crate) fn client_program() -> String {
    programs().join("mariadb").display().to_string()
}

/// A text in a statement of the administrator's, whose session takes backslashes for escapes.
pub(crate) fn text(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

impl Maria {
    /// The shared one.
    pub(crate) fn shared() -> Self {
        let port = server("STANCH_TEST_MARIADB_PORT").parse().expect("a port");
        Self { port, password: server("STANCH_TEST_MARIADB_PASSWORD") }
    }

    fn client(&self, user: &str, password: &str) -> Command {
        let mut command = Command::new(programs().join("mariadb"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("MYSQL_PWD", password);
        command
            .args(["--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect"])
            .args(["--default-character-set=utf8mb4", "--user", user])
            .arg(format!("--port={}", self.port));
        command
    }

    fn asked(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let mut child = self
            .client(user, password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("mariadb starts");
        // A client that was refused reads nothing.
        let _ = child.stdin.take().expect("stdin").write_all(sql.as_bytes());
        let output = child.wait_with_output().expect("mariadb ends");
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Statements of the administrator's.
    pub(crate) fn execute(&self, sql: &str) {
        self.asked("root", &self.password, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The lines that a question of the administrator's returns.
    pub(crate) fn lines(&self, sql: &str) -> Vec<String> {
        let said = self.asked("root", &self.password, sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        said.lines().map(str::to_owned).collect()
    }

    /// The code with which the server refuses a login; `None` when it lets it in.
    pub(crate) fn refusal(&self, user: &str, password: &str) -> Option<u16> {
        let error = self.asked(user, password, "select 1;").err()?;
        let code = error.strip_prefix("ERROR ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        Some(code.unwrap_or_else(|| panic!("{error}")))
    }

    /// Whether the server lets a login in.
    pub(crate) fn accepts(&self, user: &str, password: &str) -> bool {
        let code = self.refusal(user, password);
        assert!([None, Some(1045), Some(4151)].contains(&code), "{code:?}");
        code.is_none()
    }

    /// A session of a user's that goes on.
    pub(crate) fn log_in(&self, user: &str, password: &str) -> Session {
        let mut child = self
            .client(user, password)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("mariadb starts");
        let (sends, says) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let session = Session(Mutex::new((child, sends, BufReader::new(says))));
        assert!(session.is_alive(), "a session of {user}");
        session
    }

    /// The accounts whose user names begin so, and of these the ones that may log in.
    pub(crate) fn accounts(&self, prefix: &str, unlocked_only: bool) -> Vec<String> {
        let sql = format!(
            "select User from mysql.global_priv where User like {} and json_value(Priv, '$.is_role') is null
             and ({} or coalesce(json_value(Priv, '$.account_locked'), '0') <> '1') order by 1;",
            text(&format!("{}%", prefix.replace('_', "\\_"))),
            !unlocked_only
        );
        self.lines(&sql)
    }

    /// The roles that mark users whose names begin so.
    pub(crate) fn marks(&self, prefix: &str) -> Vec<String> {
        let like = text(&format!("stanch:%:%:{}%", prefix.replace('_', "\\_")));
        self.lines(&format!("select User from mysql.global_priv where User like {like} order by 1;"))
    }

    /// A role that may do something in a database, and a user that has it: the old credential, and its password.
    pub(crate) fn app(&self, prefix: &str) -> (String, String) {
        let (user, password) = (format!("{prefix}_first"), unique("First-Password-Of-An-App"));
        self.execute(&format!(
            "create role `{prefix}_app`; create database `{prefix}`; create table `{prefix}`.t (id int);
             grant select, insert, create view on `{prefix}`.* to `{prefix}_app`;
             create user {who} identified by {}; grant `{prefix}_app` to {who}; set default role `{prefix}_app` for {who};",
            text(&password),
            who = format_args!("{}@'%'", text(&user)),
        ));
        (user, password)
    }

    /// A user that may do what a rotation needs, but for one privilege.
    pub(crate) fn operator_without(&self, prefix: &str, missing: Option<&str>) -> (String, String) {
        let (name, password) = (unique("operator"), unique("Operators-Password"));
        let mut sql = format!(
            "create user '{name}'@'%' identified by '{password}'; grant `{prefix}_app` to '{name}'@'%' with admin option;"
        );
        for (word, on) in PERMISSIONS.into_iter().filter(|(word, _)| Some(*word) != missing) {
            sql += &format!("grant {word} on {on} to '{name}'@'%';");
        }
        self.execute(&sql);
        (name, password)
    }

    /// The same, with all of them and nothing else.
    pub(crate) fn operator(&self, prefix: &str) -> (String, String) {
        self.operator_without(prefix, None)
    }

    /// Removes what [`Maria::app`] made, and users of these names.
    pub(crate) fn forget(&self, prefix: &str, users: &[String]) {
        let mut sql = format!("drop role `{prefix}_app`; drop database `{prefix}`;");
        for user in users {
            sql += &format!("drop user {}@'%';", text(user));
        }
        for mark in self.marks(prefix) {
            sql += &format!("drop role `{mark}`;");
        }
        self.execute(&sql);
    }

    pub(crate) fn settings(&self, user: &str, password: &str) -> Settings {
        Settings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: user.to_owned(),
            password: Some(Secret::new(password)),
            tls: false,
            ca_cert: None,
        }
    }

    pub(crate) fn client_as(&self, user: &str, password: &str) -> Arc<MysqlClient> {
        Arc::new(MysqlClient::new(self.settings(user, password), DEADLINE).expect("a client"))
    }
}

/// A server of the test's own. Ends with the test.
pub(crate) struct OwnMaria {
    pub(crate) maria: Maria,
    pub(crate) home: tempfile::TempDir,
    child: Child,
}

impl OwnMaria {
    /// One with these options. It logs every statement.
    pub(crate) async fn start(options: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("stanch-mariadb").tempdir_in("/tmp").expect("folder");
        Self::start_in(home, options).await
    }

    /// The same, where files of the server's are there already.
    pub(crate) async fn start_in(home: tempfile::TempDir, options: &[&str]) -> Self {
        let maria = Maria { port: closed_port().port(), password: "root-of-one-test".to_owned() };
        let path = |name: &str| home.path().join(name);
        write(
            &path("root.sql"),
            &format!("SET PASSWORD FOR root@'127.0.0.1' = PASSWORD('{}');\n", maria.password),
        );
        for file in std::fs::read_dir(home.path()).expect("folder") {
            crate::postgres_server::give(&file.expect("a file").path());
        }
        crate::postgres_server::give(home.path());
        let log = std::fs::File::create(path("log")).expect("log");
        let child = crate::postgres_server::unprivileged(&programs().join("mariadbd"))
            .arg(home.path())
            .args([format!("--port={}", maria.port), "--bind-address=127.0.0.1".to_owned()])
            .args([
                "--general-log=ON".to_owned(),
                format!("--general-log-file={}", path("general.log").display()),
            ])
            .args(options)
            .stderr(log)
            .spawn()
            .expect("mariadbd starts");
        let own = Self { maria, home, child };
        for _ in 0..600 {
            if own.read("log").contains("ready for connections") {
                return own;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("MariaDB did not start: {}{}", own.read("install.log"), own.read("log"));
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.home.path().join(name)).unwrap_or_default()
    }

    /// Every statement, and every login, that the server was sent.
    pub(crate) fn statements(&self) -> String {
        self.read("general.log")
    }
}

impl Drop for OwnMaria {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, text: &str) {
    std::fs::File::create(path).expect("file").write_all(text.as_bytes()).expect("file");
}
