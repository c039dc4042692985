//! A token of any service, by a description of the calls of its API.

#[cfg(feature = "tool")]
mod answer;
pub(super) mod calls {
    //! The calls of an API, as a runbook and the presets describe them.
    pub(in crate::kind::api) mod spec;
}
#[cfg(feature = "tool")]
mod list;
mod rules {
    //! What the schema cannot say of the calls.
    pub(super) mod spec;
}
#[cfg(feature = "tool")]
mod server;
#[cfg(feature = "tool")]
mod service;
mod spec;
mod template {
    //! `{name}` in the paths and bodies of the calls.
    #[cfg(feature = "tool")]
    pub(super) mod fill;
    pub(super) mod spec;
}

pub use spec::TokenApi;
