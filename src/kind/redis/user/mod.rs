//! Users of Redis' ACL, with two passwords in turn.

#[cfg(feature = "tool")]
mod acl;
#[cfg(feature = "tool")]
mod change;
#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::UserIssuer;
pub use spec::{EndConnections, RedisAclUser};
