//! A secret of GitHub Actions.

#[cfg(feature = "tool")]
mod api;
#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod found;
#[cfg(feature = "tool")]
mod server;
mod spec;

#[cfg(feature = "tool")]
pub use server::ActionsSecret;
pub use spec::GithubActionsSecret;
