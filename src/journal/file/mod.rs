//! The journal in files: a directory that holds the runs of one machine.

mod examine;
mod files;
mod index_file;
mod journal;
mod key_files;
mod read;
mod runs;
mod state_dir;

pub use examine::{Cover, Examined, examine_index_file, examine_journal_file};
pub use journal::FileJournal;
pub use read::RunSummary;
pub use state_dir::StateDir;
