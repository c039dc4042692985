//! Users of MariaDB, one after the other.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod compare;
#[cfg(feature = "tool")]
mod definers;
#[cfg(feature = "tool")]
mod password;
#[cfg(feature = "tool")]
mod remove;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(feature = "tool")]
mod statement;

#[cfg(feature = "tool")]
pub use server::UserIssuer;
pub use spec::{Authentication, EndSessions, MysqlUser};
