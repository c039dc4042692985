//! Kubernetes.

#[cfg(feature = "tool")]
mod client;
#[cfg(feature = "tool")]
mod fault;
#[cfg(feature = "tool")]
mod kubeconfig;
pub mod secret;
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod settings;
mod spec;

#[cfg(feature = "tool")]
pub use client::KubeClient;
#[cfg(feature = "tool")]
pub use settings::Settings;
pub use spec::Kubernetes;
