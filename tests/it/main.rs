//! One integration binary: nine took 12 s to relink after an edit, one takes 5 s.
#![expect(clippy::print_stderr, reason = "a test says what it measured")]

mod architecture;
mod aws;
mod bad_input;
mod cli;
mod conformance;
mod docs;
mod faults;
mod file_exec_http;
mod journal;
mod rotation;
mod sandbox;
mod servers;
mod tool;
mod vault;
