//! What is generated from the program itself: the schema, completions and manual pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, CliError, Exit, print, print_json};

/// Print shell completions.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// Print completions for this shell.
    shell: Shell,
}

/// Print the manual page, or write the pages of all commands into a directory.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Write the pages of all commands into this directory instead.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn schema() -> Result<Exit, CliError> {
    print_json(&crate::runbook::schema())?;
    Ok(Exit::Done)
}

pub(super) fn completions(args: &CompletionsArgs) -> Result<Exit, CliError> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "stanch", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(Exit::Done)
}

pub(super) fn man(args: ManArgs) -> Result<Exit, CliError> {
    let failed =
        |e: std::io::Error| CliError::new(Exit::Failed, format!("cannot write the manual page: {e}"));
    if let Some(folder) = args.dir {
        std::fs::create_dir_all(&folder).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &folder).map_err(failed)?;
        eprintln!("wrote the manual pages into {}", folder.display());
    } else {
        let mut text = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(failed)?;
        print(&String::from_utf8_lossy(&text))?;
    }
    Ok(Exit::Done)
}
