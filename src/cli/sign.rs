//! Signing with the user's own `ssh-keygen`: an agent, a hardware key and a PIN then work as they do in git.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::context::{ask, can_ask, is_yes};
use super::{CliError, Exit, Global};
use crate::approve::{Kind, Signed, Signer, Signers, Statement};
use crate::domain::Phase;
use crate::plan::{Plan, costs, irreversible};

/// With what, and as whom.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct SignArgs {
    /// Sign with this SSH key: a private key, or the public half of a key that your agent holds. Default: STANCH_SIGNING_KEY.
    #[arg(long, value_name = "FILE")]
    pub(super) key: Option<PathBuf>,
    /// Sign as this principal of the file of signers. Default: the only one that it lists for the key.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(super) principal: Option<String>,
}

/// A key to sign with.
pub(super) struct Hand {
    key: PathBuf,
    /// The principal.
    pub(super) by: String,
}

impl SignArgs {
    /// The key's file, where one was named.
    pub(super) fn file(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("STANCH_SIGNING_KEY").filter(|v| !v.is_empty()).map(PathBuf::from);
        self.key.clone().or_else(variable)
    }

    /// The key, and the principal that the file of signers lists for it.
    pub(super) fn hand(&self, signers: &str) -> Result<Hand, CliError> {
        let key = self.file().ok_or_else(|| {
            CliError::new(Exit::Usage, "no key to sign with; nothing was signed")
                .hint("pass --key FILE, such as ~/.ssh/id_ed25519, or set STANCH_SIGNING_KEY")
        })?;
        if let Some(by) = &self.principal {
            return Ok(Hand { key, by: by.clone() });
        }
        let public = public_half(&key)?;
        let signers = Signers::read(signers);
        let mut names = match &public.certificate {
            Some(certificate) => certificate.valid_principals().to_vec(),
            None => signers.principals_of(&public.key),
        };
        match (names.len(), names.pop()) {
            (1, Some(by)) => Ok(Hand { key, by }),
            (_, None) => Err(CliError::new(
                Exit::Failed,
                format!(
                    "the file of signers does not list the key {}; nothing was signed",
                    public.fingerprint()
                ),
            )
            .hint("have the key added to the file of signers, and make a new plan")),
            (_, Some(last)) => {
                names.push(last);
                let message = "the file of signers lists several principals for this key; nothing was signed";
                Err(CliError::new(Exit::Usage, message)
                    .hint(format!("pass --principal with one of: {}", names.join(", "))))
            }
        }
    }
}

/// The public half of a key file.
fn public_half(key: &Path) -> Result<Signer, CliError> {
    let beside = PathBuf::from(format!("{}.pub", key.display()));
    let read = |path: &Path| std::fs::read_to_string(path).ok().and_then(|text| Signer::parse(&text).ok());
    read(key).or_else(|| read(&beside)).ok_or_else(|| {
        let message = format!("cannot read the public half of {}; nothing was signed", key.display());
        CliError::new(Exit::Usage, message)
            .hint(format!("put it into {}, or pass --principal PRINCIPAL", beside.display()))
    })
}

/// What is to be signed.
pub(super) struct Wanted<'a> {
    pub(super) kind: Kind,
    pub(super) plan: &'a Plan,
    pub(super) run: Option<&'a str>,
    pub(super) phases: Vec<Phase>,
    pub(super) reason: String,
    pub(super) ticket: Option<String>,
    pub(super) expires: Timestamp,
    /// Who asked for the run, where that is known.
    pub(super) requester: Option<String>,
}

impl Wanted<'_> {
    /// The statement.
    pub(super) fn statement(self, by: &str) -> Statement {
        let plan = self.plan;
        let (outage, exposure) = costs(plan);
        let signers =
            plan.approvals.as_ref().map(|a| hex::encode(Sha256::digest(&a.signers))).unwrap_or_default();
        let mut shown = vec![
            ("runbook", plan.runbook.name.clone()),
            ("environment", plan.environment.clone()),
            ("strategy", plan.strategy.name().to_owned()),
        ];
        if let Some(requester) = self.requester {
            shown.push(("requested by", requester));
        }
        shown.extend(irreversible(plan).into_iter().map(|step| ("cannot be undone", step)));
        shown.extend(plan.waived().iter().map(|waived| ("waived", waived.to_string())));
        shown.push(("expected outage", outage));
        shown.push(("expected exposure", exposure));
        shown.push(("file of signers", format!("SHA-256 {signers}")));
        let clean = |text: &str| -> String { text.chars().map(crate::text::printable).collect() };
        Statement {
            kind: self.kind,
            plan: plan.digest(),
            run: self.run.map(str::to_owned),
            by: by.to_owned(),
            phases: self.phases,
            shown: shown.into_iter().map(|(name, value)| (name.to_owned(), clean(&value))).collect(),
            reason: self.reason,
            ticket: self.ticket,
            // Whole seconds are what the text has.
            expires: Timestamp::from_second(self.expires.as_second()).unwrap_or(self.expires),
        }
    }
}

impl Hand {
    /// Has `ssh-keygen` sign a statement. It asks for a passphrase, a touch or a PIN by itself.
    pub(super) fn sign(&self, statement: &Statement) -> Result<Signed, CliError> {
        self.sign_text(statement.kind.namespace(), statement.text())
    }

    /// The same for any text.
    pub(super) fn sign_text(&self, namespace: &str, text: String) -> Result<Signed, CliError> {
        let failed = |why: String| {
            CliError::new(Exit::Failed, format!("ssh-keygen did not sign: {why}; nothing was recorded"))
        };
        // A file of its own, and not a pipe: where there is no terminal, ssh-keygen reads a PIN from standard input, and would
        // take it from the statement.
        let folder = tempfile::tempdir().map_err(|e| failed(e.to_string()))?;
        let file = folder.path().join("statement");
        super::write::to_file(&file, |out| out.write_all(text.as_bytes()))?;
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(&self.key).arg(&file);
        for secret in crate::provider::exec::withheld() {
            command.env_remove(secret);
        }
        // What it says goes to the person, and a result stays alone on standard output.
        let output = command.stdout(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|e| {
            failed(e.to_string()).hint("install OpenSSH's client (Debian: apt-get install openssh-client)")
        })?;
        if !output.status.success() {
            return Err(failed(format!("it ended with {}", output.status)).hint(format!(
                "try it without stanch: echo test | ssh-keygen -Y sign -n test -f {}",
                crate::text::shell_word(&self.key.display().to_string())
            )));
        }
        let signature = folder.path().join("statement.sig");
        let signature = std::fs::read_to_string(signature).map_err(|e| failed(e.to_string()))?;
        Ok(Signed { statement: text, signature })
    }
}

/// Shows what is to be signed, and asks.
pub(super) fn confirm(global: &Global, yes: bool, text: &str) -> Result<(), CliError> {
    eprintln!("{}", crate::text::sanitize_block(text));
    if yes {
        return Ok(());
    }
    if !can_ask(global) {
        return Err(CliError::new(
            Exit::Usage,
            "cannot ask for confirmation (no terminal); nothing was signed",
        )
        .hint("pass --yes"));
    }
    match ask("Sign this? [y/N]") {
        Some(answer) if is_yes(&answer) => Ok(()),
        _ => Err(CliError::new(Exit::Failed, "not confirmed; nothing was signed")),
    }
}

/// The beginning of a plan's approval files: `plan.json.approval-`.
pub(super) fn beside(plan: &Path) -> String {
    format!("{}.approval-", plan.display())
}

/// Reads an approval: a statement, and its signature in the file of the same name with `.sig`.
pub(super) fn read(path: &Path) -> Result<Signed, CliError> {
    use std::io::Read as _;
    let text = |path: &Path| {
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(1 << 16).read_to_string(&mut text));
        read.map(|_| text).map_err(|e| {
            CliError::new(Exit::Usage, format!("cannot read the approval in {}: {e}", path.display()))
                .hint("an approval is two files: the statement, and its signature in FILE.sig")
        })
    };
    let signature = PathBuf::from(format!("{}.sig", path.display()));
    Ok(Signed { statement: text(path)?, signature: text(&signature)? })
}
