//! `stanch policy`: what an organisation demands of every runbook.

mod held;
mod waive;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

pub(super) use held::PolicyArgs;

use super::{CliError, Exit, Global, findings, init, print_json};
use crate::runbook::read::tree;
use crate::runbook::{ReadError, Severity, Source};

/// Check the policy of your runbooks, and waive a rule for one of them.
#[derive(Debug, Args)]
pub(super) struct PolicyCommands {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Write a commented policy to start from.
    Init {
        /// Write it to this file, which belongs in the root of your repository. Default: standard output.
        file: Option<PathBuf>,
    },
    /// Find every mistake in a policy, also where it contradicts itself.
    Check {
        /// The policy.
        #[arg(default_value = held::NAME)]
        file: PathBuf,
    },
    /// Print the JSON Schema of policies, for editors.
    Schema,
    /// Let a runbook break a rule until a moment: sign that with your SSH key.
    Waive(waive::WaiveArgs),
}

/// The policy that `stanch policy init` writes.
const SCAFFOLD: &str = include_str!("../../../templates/policy.yaml");

pub(super) fn main(global: &Global, args: PolicyCommands) -> Result<Exit, CliError> {
    match args.command {
        PolicyCommand::Init { file } => init::write(SCAFFOLD, file, "stanch policy check"),
        PolicyCommand::Check { file } => {
            let source = Source::read(&file).map_err(|error| match &error {
                ReadError::Missing { .. } => CliError::from(error)
                    .hint("name the policy, or write one to start from: stanch policy init FILE"),
                _ => error.into(),
            })?;
            let mut checked = held::checked(&source);
            let hint = "correct `waivers.signers`: a path from the policy's own directory";
            let directory = file.parent().unwrap_or(Path::new(""));
            let tree = tree::parse(&source.text).ok();
            let signers = tree.and_then(|tree| findings::signers(&tree, "waivers", directory, hint));
            checked.findings.extend(signers);
            let bad = checked.findings.iter().any(|finding| finding.severity == Severity::Error);
            if bad || global.json {
                let refused = findings::report(&source, &checked.findings, global.json);
                return if bad { Err(refused) } else { Ok(Exit::Done) };
            }
            findings::show(&source, &checked.findings);
            if checked.findings.is_empty() {
                eprintln!("{}: no findings", source.name);
            }
            Ok(Exit::Done)
        }
        PolicyCommand::Schema => {
            print_json(crate::policy::schema())?;
            Ok(Exit::Done)
        }
        PolicyCommand::Waive(args) => waive::main(global, &args),
    }
}
