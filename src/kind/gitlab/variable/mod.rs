//! A CI/CD variable of a project or a group of GitLab.

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
pub use server::VariableStore;
pub use spec::GitlabCiVariable;
