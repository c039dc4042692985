//! Secret ids of AppRoles.

#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod info;
#[cfg(feature = "tool")]
mod logins;
#[cfg(feature = "tool")]
mod look;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use info::SecretIdSpec;
#[cfg(feature = "tool")]
pub use server::ApproleIssuer;
pub use spec::ApproleSecretId;
