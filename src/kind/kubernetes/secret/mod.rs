//! A Secret of Kubernetes.

#[cfg(feature = "tool")]
mod api;
#[cfg(feature = "tool")]
mod checks;
#[cfg(feature = "tool")]
mod object;
#[cfg(feature = "tool")]
mod server;
mod spec;
#[cfg(feature = "tool")]
mod writers;

#[cfg(feature = "tool")]
pub use server::SecretStore;
pub use spec::KubernetesSecret;
