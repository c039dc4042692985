//! Access keys of IAM users.

mod spec;

pub use spec::IamAccessKey;
