//! One integration binary: nine took 12 s to relink after an edit, one takes 5 s.
#![expect(clippy::print_stderr, reason = "a test says what it measured")]

mod anchors;
mod approle;
mod architecture;
mod audit;
mod aws;
mod aws_docs;
mod aws_secret;
mod bad_input;
mod before;
mod cli;
mod conformance;
mod docs;
mod export;
mod faults;
mod file_exec_http;
mod files;
mod force;
mod hostile;
mod journal;
mod language;
mod manners;
mod network;
mod outside;
mod proxy;
mod record;
mod rotation;
mod sandbox;
mod servers;
mod storeless;
mod tool;
mod unknown;
mod vault;
mod vault_targets;
mod ways;
mod worlds;
