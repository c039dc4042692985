//! One integration binary: nine took 12 s to relink after an edit, one takes 5 s.

mod architecture;
mod aws;
mod bad_input;
mod cli;
mod conformance;
mod docs;
mod faults;
mod file_exec_http;
mod rotation;
mod sandbox;
mod servers;
mod tool;
mod vault;
