//! A Vault or an OpenBao for a benchmark.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

/// A server for the bench.
pub(crate) struct Server {
    pub(crate) address: String,
    /// Root's.
    pub(crate) token: String,
    /// The CA to trust, over TLS.
    pub(crate) ca: Option<PathBuf>,
    /// What it was started as, which is its command line client, too.
    pub(crate) program: Option<PathBuf>,
    child: Option<Child>,
    pub(crate) folder: tempfile::TempDir,
}

impl Server {
    /// `None` where there is none of this sort.
    pub(crate) fn start(tls: bool) -> Result<Option<Self>, Error> {
        let folder = tempfile::tempdir()?;
        let var = |name: &str| std::env::var(name).ok();
        if let (Some(address), Some(token)) = (var("STANCH_TEST_VAULT_ADDR"), var("STANCH_TEST_VAULT_TOKEN"))
        {
            let found = Self { address, token, ca: None, program: None, child: None, folder };
            return Ok((!tls).then_some(found));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = var("PATH").unwrap_or_default();
        let programs = ["vault", "bao"].into_iter();
        let found = programs.flat_map(|name| std::env::split_paths(&path).map(move |d| d.join(name)));
        let program =
            found.into_iter().find(|p| p.is_file()).ok_or("neither vault nor bao is on the path")?;
        let mut command = Command::new(&program);
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"]);
        command.arg(format!("-dev-listen-address={port}"));
        let mut ca = None;
        if tls {
            command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", folder.path().display()));
            ca = Some(folder.path().join("vault-ca.pem"));
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        for _ in 0..300 {
            if std::net::TcpStream::connect(port).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        // It listens a moment before its mounts are there.
        std::thread::sleep(Duration::from_secs(1));
        let scheme = if tls { "https" } else { "http" };
        let address = format!("{scheme}://{port}");
        Ok(Some(Self {
            address,
            token: "root".to_owned(),
            ca,
            program: Some(program),
            child: Some(child),
            folder,
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command of stanch to its end. A failed one says what it said last.
pub(crate) fn run(command: &mut Command) -> Result<(), Error> {
    let output = command.stdin(Stdio::null()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last: Vec<&str> = said.lines().rev().take(12).collect();
        return Err(
            format!("stanch failed: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n")).into()
        );
    }
    Ok(())
}
