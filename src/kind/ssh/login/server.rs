//! How a login is tried: by OpenSSH's client, without its files and settings.

use std::ffi::OsString;
use std::fmt;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ssh_key::PublicKey;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::agent::Agent;
use super::spec::SshLogin;
use super::verdict::Said;
use crate::domain::{Check, ErrorKind};
use crate::kind::real::{ProbeServer, RealProvider};
use crate::kind::ssh::pair::Pair;
use crate::provider::exec::Group;
use crate::provider::logged::Logged;
use crate::provider::{CallError, Probe, Use};
use crate::secret::Material;
use crate::text::is_name;

/// What the server is called in the file of its host keys.
const ALIAS: &str = "stanch";
/// More than this is not read of what `ssh` writes.
const MAX_OUTPUT: u64 = 256 * 1024;

/// Logs in, and ends the connection at once.
pub struct SshProbe {
    spec: SshLogin,
    /// The host keys, as a file of known hosts has them.
    known: String,
    timeout: Duration,
}

impl fmt::Debug for SshProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshProbe").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl SshProbe {
    /// As the runbook says; `deadline` where it says no time-out.
    ///
    /// # Errors
    /// When a name cannot be one, or a host key is not a public key.
    pub fn new(spec: &SshLogin, deadline: Duration) -> Result<Self, CallError> {
        let invalid = |message: String| CallError::rejected(ErrorKind::Invalid, message);
        for (field, name) in [("host", &spec.host), ("user", &spec.user)] {
            if !is_name(name) || name.starts_with('-') {
                return Err(invalid(format!("`{field}` of the login is not a name: {name}")));
            }
        }
        let mut known = String::new();
        for line in &spec.host_keys {
            let words: Vec<&str> = line.split_whitespace().collect();
            // With or without the names of the host before it, and a comment behind it.
            let key = words.windows(2).find_map(|pair| PublicKey::from_openssh(&pair.join(" ")).ok());
            let key = key.and_then(|mut key| {
                key.set_comment("");
                key.to_openssh().ok()
            });
            let key = key.filter(|_| !line.starts_with('@')).ok_or_else(|| {
                invalid(format!("`host_keys` of the login has a line that is not a public key: {line}"))
                    .hint("`ssh-keyscan HOST` prints them; compare them with what the server's owner says")
            })?;
            known.push_str(&format!("{ALIAS} {key}\n"));
        }
        let timeout = spec.timeout.map_or(deadline, |period| period.get());
        Ok(Self { spec: spec.clone(), known, timeout })
    }

    fn server(&self) -> String {
        let SshLogin { host, port, user, .. } = &self.spec;
        format!("the login as {user} at {host}:{port}")
    }

    fn no_answer(&self, why: impl fmt::Display) -> CallError {
        let message = format!("{} was neither accepted nor refused: {why}", self.server());
        CallError::rejected(ErrorKind::NoAnswer, message).hint(
            "check that the server is up and shows one of `host_keys`, and that its log says nothing else",
        )
    }

    /// Tries to log in, with a key or with none, and ends as soon as it is clear what became of it. Says as well whether
    /// the server asked for a signature.
    async fn log_in(&self, pair: Option<Pair>) -> Result<(Said, bool), CallError> {
        let local = |error: std::io::Error| {
            CallError::rejected(ErrorKind::Local, format!("{} could not be tried: {error}", self.server()))
        };
        let fingerprint = pair.as_ref().map(Pair::fingerprint).unwrap_or_default();
        // This user alone can enter it.
        let private = Permissions::from_mode(0o700);
        let folder =
            tempfile::Builder::new().prefix("stanch-").permissions(private).tempdir().map_err(local)?;
        let (socket, hosts) = (folder.path().join("agent"), folder.path().join("known_hosts"));
        std::fs::File::create_new(&hosts)
            .and_then(|mut file| file.write_all(self.known.as_bytes()))
            .map_err(local)?;
        let agent = Agent::listen(&socket, pair).map_err(local)?;
        let mut command = Command::new("ssh");
        command
            .args(self.arguments(&socket, &hosts))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut call = Logged::start(|| format!("try {}", self.server()));
        let mut child = command.spawn().map_err(|error| {
            call.end("not started");
            local(error).hint("install OpenSSH's client (Debian: package openssh-client)")
        })?;
        // Dropped in the end, whatever that is: nothing goes on.
        let _group = Group::of(&child);
        let mut said = Said::default();
        let read = async {
            let stderr = child.stderr.take().map(|stderr| stderr.take(MAX_OUTPUT));
            let mut lines = BufReader::new(stderr.ok_or(std::io::ErrorKind::BrokenPipe)?);
            let mut line = Vec::new();
            while !said.authenticated && lines.read_until(b'\n', &mut line).await? > 0 {
                said.line(&String::from_utf8_lossy(&line), &fingerprint);
                line.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        let ended = tokio::time::timeout(self.timeout, read).await;
        let signed = agent.was_asked_to_sign();
        call.end(match &ended {
            Ok(_) if said.authenticated => "authenticated",
            Ok(_) => "ended",
            Err(_) => "killed",
        });
        match ended {
            Ok(Ok(())) => Ok((said, signed)),
            Ok(Err(error)) => Err(self.no_answer(error)),
            Err(_) => Err(self.no_answer(format!("it took longer than {} s", self.timeout.as_secs_f32()))),
        }
    }

    /// No file of this user's or machine's is read, no other key offered, and nothing opened but the connection.
    fn arguments(&self, socket: &Path, hosts: &Path) -> Vec<OsString> {
        let with = |name: &str, path: &Path| {
            // `%` and spaces have a meaning there.
            let path = path.display().to_string().replace('%', "%%");
            format!("{name}=\"{path}\"")
        };
        let connect = self.timeout.as_secs().max(1);
        let options = [
            with("IdentityAgent", socket),
            with("UserKnownHostsFile", hosts),
            format!("HostKeyAlias={ALIAS}"),
            format!("ConnectTimeout={connect}"),
            "ConnectionAttempts=1".to_owned(),
            "GlobalKnownHostsFile=/dev/null".to_owned(),
            "StrictHostKeyChecking=yes".to_owned(),
            "UpdateHostKeys=no".to_owned(),
            "CheckHostIP=no".to_owned(),
            "IdentityFile=none".to_owned(),
            "PreferredAuthentications=publickey".to_owned(),
            "BatchMode=yes".to_owned(),
            "ControlPath=none".to_owned(),
            "ControlMaster=no".to_owned(),
            "ClearAllForwardings=yes".to_owned(),
            "LogLevel=DEBUG1".to_owned(),
        ];
        let SshLogin { host, port, user, .. } = &self.spec;
        let mut all: Vec<String> = ["-F", "none", "-N", "-T", "-n"].map(str::to_owned).to_vec();
        all.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
        all.extend(["-p".to_owned(), port.to_string(), "-l".to_owned(), user.clone()]);
        all.extend(["--".to_owned(), host.clone()]);
        all.into_iter().map(OsString::from).collect()
    }
}

#[async_trait]
impl Probe for SshProbe {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        let found = match self.log_in(None).await {
            Ok((said, _)) => said.reached().map_err(|why| self.no_answer(why)),
            Err(error) => Err(error),
        };
        found.err().map(|error| error.to_check(name)).into_iter().collect()
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let key = material.part("private_key").or_else(|| material.main()).ok_or_else(|| {
            CallError::rejected(ErrorKind::Invalid, "the credential has no private key to log in with")
        })?;
        let (said, signed) = self.log_in(Some(Pair::read(key)?)).await?;
        match said.verdict(signed) {
            Ok(Use::Refused(how)) => Ok(Use::Refused(format!("{} was refused: {how}", self.server()))),
            Ok(accepted) => Ok(accepted),
            Err(why) => Err(self.no_answer(why)),
        }
    }
}

impl ProbeServer for SshLogin {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Probe>, CallError> {
        Ok(Arc::new(SshProbe::new(self, at.deadline)?))
    }
}
