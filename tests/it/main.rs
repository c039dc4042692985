//! One integration binary: nine took 12 s to relink after an edit, one takes 5 s.

mod aws;
mod conformance;
mod file_exec_http;
mod rotation;
mod servers;
mod tool;
mod vault;
