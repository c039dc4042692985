//! A login by OpenSSH's own client, as a check.

#[cfg(feature = "tool")]
mod agent;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(feature = "tool")]
mod verdict;

#[cfg(feature = "tool")]
pub use server::SshProbe;
pub use spec::SshLogin;
