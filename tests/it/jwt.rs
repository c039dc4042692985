//! Keys that sign tokens: a set in a file, and in the shared Vault; a verifier that caches; sets and servers that lie.
