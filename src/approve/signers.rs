//! `allowed_signers` files, by OpenSSH's own rules (`ssh-keygen(1)`, ALLOWED SIGNERS).

use jiff::Timestamp;
use ssh_key::public::KeyData;

use super::line::{Bad, CRLF, Line, Rejected, parse, strict};
use super::signature::Signer;

/// More bytes than the keys of any organisation that approves rotations.
const MAX_BYTES: usize = 256 * 1024;

/// Who may sign, with which key, for what, and when.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    lines: Vec<Line>,
    faults: Vec<Fault>,
}

/// Why a line does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column in it, from 1.
    pub column: usize,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl Signers {
    /// Reads a file. A line that OpenSSH would not take is left out, and told of by [`Signers::faults`].
    pub fn read(text: &str) -> Self {
        let mut signers = Self::default();
        if text.len() > MAX_BYTES {
            signers.faults.push(Fault {
                line: 1,
                column: 1,
                what: format!("the file has more than {} KiB", MAX_BYTES / 1024),
                hint: "keep only the people who approve",
            });
            return signers;
        }
        for (at, line) in text.split('\n').enumerate() {
            signers.take(at + 1, line);
        }
        signers
    }

    fn take(&mut self, number: usize, line: &str) {
        let mut fault = |(column, what, hint): Bad| {
            self.faults.push(Fault { line: number, column: column + 1, what, hint });
        };
        let body = line.trim_start_matches([' ', '\t']);
        if body.is_empty() || body.starts_with('#') {
            return;
        }
        if body.trim_end().is_empty() {
            return fault((0, CRLF.0.into(), CRLF.1));
        }
        match parse(number, line, line.len() - body.len()) {
            Err(bad) => fault(bad),
            Ok(mut parsed) => {
                let strict = strict(line, &parsed);
                parsed.counts = strict.is_none();
                if let Some(bad) = strict {
                    fault(bad);
                }
                self.lines.push(parsed);
            }
        }
    }

    /// What keeps lines from counting, in their order.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The lines that are valid no more, or not yet, at a moment: each with a sentence.
    pub fn asleep(&self, at: Timestamp) -> Vec<(usize, String)> {
        let words = |line: &Line| match line.valid(Some(at)).err()? {
            Rejected::Expired { since, .. } => Some(format!("expired at {since:.0}")),
            Rejected::NotYet { from, .. } => Some(format!("is not valid before {from:.0}")),
            _ => None,
        };
        self.lines.iter().filter_map(|line| Some((line.number, words(line)?))).collect()
    }

    /// Whether the file lets a principal sign with a key, in a namespace, at a moment, as OpenSSH says.
    ///
    /// # Errors
    /// With the reason of the line that comes nearest.
    pub fn allow(
        &self,
        principal: &str,
        signer: &Signer,
        namespace: &str,
        at: Timestamp,
    ) -> Result<(), Rejected> {
        self.first(|line| line.allow(principal, signer, namespace, Some(at)))
    }

    /// As [`Signers::allow`], by stanch's stricter rules: only lines without a fault count. Without a moment, whenever it
    /// was.
    ///
    /// # Errors
    /// With the reason of the line that comes nearest.
    pub fn admit(
        &self,
        principal: &str,
        signer: &Signer,
        namespace: &str,
        at: Option<Timestamp>,
    ) -> Result<(), Rejected> {
        self.first(|line| match line.counts {
            true => line.allow(principal, signer, namespace, at),
            false => Err(Rejected::Unlisted),
        })
    }

    fn first(&self, allows: impl Fn(&Line) -> Result<(), Rejected>) -> Result<(), Rejected> {
        let mut nearest = Rejected::Unlisted;
        for line in &self.lines {
            match allows(line) {
                Ok(()) => return Ok(()),
                Err(Rejected::Unlisted) => {}
                Err(other) => nearest = other,
            }
        }
        Err(nearest)
    }

    /// The principals of the lines that have a key as their own.
    pub fn principals_of(&self, key: &KeyData) -> Vec<String> {
        let own = self.lines.iter().filter(|line| line.counts && !line.authority && line.key == *key);
        let mut names: Vec<String> =
            own.flat_map(|line| line.principals.split(',').map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Each key of its own with its principals: who shares a key is one person.
    pub(super) fn shared(&self) -> impl Iterator<Item = (String, Vec<&str>)> {
        let own = self.lines.iter().filter(|line| !line.authority);
        own.map(|line| (super::signature::fingerprint(&line.key), line.principals.split(',').collect()))
    }

    /// Whether a line trusts an authority, whose certificates name principals that the file does not.
    pub fn has_authority(&self) -> bool {
        self.lines.iter().any(|line| line.counts && line.authority)
    }

    /// Whether any line that counts has this principal, itself or by a certificate.
    pub fn knows(&self, principal: &str) -> bool {
        self.lines.iter().any(|line| line.counts && line.principals.split(',').any(|p| p == principal))
    }
}
