//! AWS Secrets Manager.

mod spec;

pub use spec::Secretsmanager;
