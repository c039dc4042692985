//! `stanch init`: a commented runbook to start from.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, Exit, Global, print};

/// Writes a commented runbook to start from.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where to write it; standard output when left out.
    file: Option<PathBuf>,
    /// What kind of credential it rotates.
    #[arg(long, default_value = "sandbox")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// A credential of the embedded sandbox.
    Sandbox,
    /// A Vault token in KV v2.
    VaultToken,
    /// An IAM access key in Secrets Manager.
    IamAccessKey,
    /// A generated value.
    Random,
}

impl Kind {
    fn template(self) -> &'static str {
        match self {
            Self::Sandbox => include_str!("../../templates/runbooks/sandbox.yaml"),
            Self::VaultToken => include_str!("../../templates/runbooks/vault-token.yaml"),
            Self::IamAccessKey => include_str!("../../templates/runbooks/iam-access-key.yaml"),
            Self::Random => include_str!("../../templates/runbooks/random.yaml"),
        }
    }
}

pub(super) fn main(_global: &Global, args: InitArgs) -> Result<Exit, CliError> {
    let text = args.kind.template();
    let Some(path) = args.file else {
        print(text)?;
        return Ok(Exit::Done);
    };
    let write = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match write {
        Ok(()) => {
            eprintln!("wrote {}; edit it, then: stanch validate {}", path.display(), path.display());
            Ok(Exit::Done)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(CliError::new(
            Exit::Usage,
            format!("{} is there already; it was not touched", path.display()),
        )),
        Err(e) => Err(CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()))),
    }
}
