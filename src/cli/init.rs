//! `stanch init`: a commented runbook to start from.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CliError, Exit, Global, print};

/// Write a commented runbook to start from.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Write it to this file. Default: standard output.
    file: Option<PathBuf>,
    /// Choose the kind of credential to rotate.
    #[arg(long, default_value = "sandbox")]
    kind: Kind,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Rotate a credential of the embedded sandbox.
    Sandbox,
    /// Rotate a Vault token in KV v2.
    VaultToken,
    /// Rotate an IAM access key in Secrets Manager.
    IamAccessKey,
    /// Rotate a generated value.
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
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CliError::new(Exit::Usage, format!("{} already exists; nothing was changed", path.display())))
        }
        Err(e) => Err(CliError::new(Exit::Failed, format!("cannot write {}: {e}", path.display()))),
    }
}
