//! The journal in files: a directory that holds the runs of one machine.

mod archive;
mod examine;
mod files;
mod index_file;
mod journal;
mod key_files;
mod ledger;
mod read;
mod runs;
mod sealing;
mod state_dir;

pub use archive::Archive;
pub use examine::{Cover, Examined, examine_index_file, examine_journal_file};
pub use journal::FileJournal;
pub use sealing::SealingKey;
pub use state_dir::StateDir;
