//! Access keys of IAM users.

#[cfg(feature = "tool")]
mod keys;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod shape;
mod spec;

#[cfg(feature = "tool")]
pub use server::AccessKeyIssuer;
pub use spec::IamAccessKey;
