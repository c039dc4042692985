//! Keys of every kind for tests, made by real `ssh-keygen`, and what it signs and says.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::tool::Ran;

/// Where Debian and its descendants have the security key that is none.
const INSTALLED: &str = "/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so";

/// `ssh-keygen`, in a place without a person and without an agent.
pub(crate) fn keygen(arguments: &[&str]) -> Command {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments).env_remove("SSH_AUTH_SOCK").env("SSH_SK_PROVIDER", dummy()).env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

/// The security key of OpenSSH's own tests: the one that `scripts/test` found, else the installed one.
pub(crate) fn dummy() -> String {
    let path = std::env::var("STANCH_TEST_SECURITY_KEY").unwrap_or_else(|_| INSTALLED.to_owned());
    assert!(
        Path::new(&path).exists(),
        "no {path}: run scripts/test, or install the package openssh-tests (apt-get install openssh-tests)"
    );
    path
}

fn ran(mut command: Command) -> Output {
    let output =
        command.output().unwrap_or_else(|e| panic!("ssh-keygen: {e}; install the package openssh-client"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A folder with keys.
pub(crate) struct Keys(pub(crate) tempfile::TempDir);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key. `kind` may carry more arguments.
    pub(crate) fn make(&self, name: &str, kind: &[&str]) -> &Self {
        let path = self.path(name).display().to_string();
        let mut arguments = vec!["-q", "-N", "", "-C", "", "-f", &path, "-t"];
        arguments.extend(kind);
        ran(keygen(&arguments));
        self
    }

    /// The public half: type and base64.
    pub(crate) fn public(&self, name: &str) -> String {
        let text = fs::read_to_string(self.path(&format!("{name}.pub"))).expect("a public key");
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// What `ssh-keygen -Y sign` makes of a text.
    pub(crate) fn sign(&self, name: &str, namespace: &str, text: &str) -> String {
        let key = self.path(name).display().to_string();
        let mut command = keygen(&["-q", "-Y", "sign", "-f", &key, "-n", namespace]);
        Ran::fed(&mut command, text).expect(0).stdout
    }

    /// What `ssh-keygen -Y verify` says.
    pub(crate) fn verify(
        &self,
        signers: &str,
        (principal, namespace): (&str, &str),
        signature: &str,
        text: &str,
        at: Option<&str>,
    ) -> bool {
        let signers = self.file("allowed", signers).display().to_string();
        let signature = self.file("signature", signature).display().to_string();
        let mut arguments =
            vec!["-q", "-Y", "verify", "-f", &signers, "-I", principal, "-n", namespace, "-s", &signature];
        let time = at.map(|at| format!("verify-time={at}"));
        arguments.extend(time.iter().flat_map(|time| ["-O", time.as_str()]));
        let mut command = keygen(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("ssh-keygen");
        // It may be gone before it reads.
        let _ = child.stdin.take().expect("a pipe").write_all(text.as_bytes());
        child.wait().expect("its end").success()
    }
}
