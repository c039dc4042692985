//! How a change of the users lasts over a restart.

/// How a change of the users lasts over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    /// `ACL SAVE` writes them into a file of their own.
    File,
    /// `CONFIG REWRITE` writes them into the configuration.
    Configuration,
    /// There is neither file: after a restart the users are again what the server is started with.
    Nowhere,
}

impl Lasting {
    /// The command that saves.
    pub(super) fn command(self) -> Option<Vec<&'static str>> {
        match self {
            Self::File => Some(vec!["ACL", "SAVE"]),
            Self::Configuration => Some(vec!["CONFIG", "REWRITE"]),
            Self::Nowhere => None,
        }
    }
}
