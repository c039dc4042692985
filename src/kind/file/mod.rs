//! Files on this machine.

#[cfg(feature = "tool")]
mod attributes;
#[cfg(feature = "tool")]
mod check;
#[cfg(feature = "tool")]
mod document;
#[cfg(feature = "tool")]
mod mounts;
#[cfg(feature = "tool")]
mod replace;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(feature = "tool")]
mod work;

#[cfg(feature = "tool")]
pub use document::FileDocument;
#[cfg(feature = "tool")]
pub use server::FileStore;
pub use spec::{File, FileFormat};
