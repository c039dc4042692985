//! Approvals: who may let a run enter a phase, and whether a signature says so.
//!
//! Pure: the statement, its signature, the list of signers and the moment arrive as values. `ssh-keygen -Y sign` makes
//! the signatures, so an agent, a hardware key and a PIN work as they do in git; `signature` verifies them offline,
//! `signers` reads an `allowed_signers` file by OpenSSH's own rules, and `rules` says what an approval is worth.

mod blob;
mod certificate;
mod line;
mod pattern;
mod rules;
mod signature;
mod signers;
mod statement;
mod verify;
mod waiver;

pub use line::Rejected;
pub use rules::{Approval, Approvals, Lack, Request, Requirement, Standing};
pub use signature::{Signature, Signer};
pub use signers::{Fault, Signers};
pub use statement::{APPROVAL, Kind, REQUEST, Signed, Statement};
pub use verify::{Refused, admit, request};
pub use waiver::{NotWaived, WAIVER, Waiver, waives};
