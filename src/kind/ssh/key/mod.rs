//! Keys that log in by OpenSSH. Their public halves are lines of `authorized_keys` (sshd(8)), by which servers go.

#[cfg(feature = "tool")]
mod lines;
#[cfg(feature = "tool")]
mod places;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(all(test, feature = "tool"))]
mod tests;

#[cfg(feature = "tool")]
pub use server::KeyIssuer;
pub use spec::SshKey;
