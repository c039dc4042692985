//! Reading a runbook's text: a tree whose nodes know their places, and findings about them. Knows nothing of
//! what a runbook means.

pub(crate) mod finding;
pub(crate) mod render;
pub(crate) mod secrets;
pub(crate) mod source;
pub(crate) mod span;
pub(crate) mod tree;
pub(crate) mod variables;
pub(crate) mod words;
