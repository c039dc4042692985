//! How a command finds the policy, and holds a runbook against it.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::super::{CliError, Exit, findings, sign, windows};
use crate::approve::{NotWaived, Signed, Waiver, waives};
use crate::clock::{Clock as _, SystemClock};
use crate::plan::{Governed, Plan, Waived};
use crate::policy::{Checked, Policy, Rule, Violation, Waivers, check, violations};
use crate::runbook::read::tree::{self, Node};
use crate::runbook::{Source, Template, holds_secret};

/// What the file is called in the root of a repository.
pub(super) const NAME: &str = "policy.yaml";
/// Where waivers are, beside the policy.
pub(super) const WAIVERS: &str = "waivers";
/// What their names end in.
pub(super) const ENDING: &str = "waiver";
/// More waivers than anyone has reviewed.
const MOST_WAIVERS: usize = 1000;

/// Which policy counts, and which waivers.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct PolicyArgs {
    /// Hold the runbook against this policy. Default: STANCH_POLICY, else policy.yaml in the root of the runbook's
    /// repository; outside of one, beside the runbook.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Use this waiver: a statement, with its signature in FILE.sig. Repeatable. Those in the directory `waivers` beside
    /// the policy are found without it.
    #[arg(long, value_name = "FILE")]
    waiver: Vec<PathBuf>,
}

/// A policy without mistakes.
pub(in crate::cli) struct Loaded {
    pub(super) policy: Policy,
    pub(super) path: PathBuf,
    sha256: String,
}

/// What the policy says of a runbook.
pub(in crate::cli) struct Held {
    /// The rules that it does not keep, and that nobody waived.
    pub(in crate::cli) violations: Vec<Violation>,
    /// What it adds to a plan.
    pub(in crate::cli) governed: Governed,
}

/// Finds the mistakes in a policy.
pub(super) fn checked(source: &Source) -> Checked {
    let now = SystemClock::new().now().wall;
    check(source, &|window| windows::is_past(window, now))
}

impl PolicyArgs {
    /// The policy that counts for a runbook's file; none where there is none.
    pub(in crate::cli) fn load(&self, runbook: &Path, json: bool) -> Result<Option<Loaded>, CliError> {
        let path = self.named().or_else(|| in_root(runbook));
        if path.is_none() && !self.waiver.is_empty() {
            return Err(CliError::new(
                Exit::Usage,
                "--waiver does not apply: there is no policy for this runbook",
            )
            .hint("name it: --policy FILE"));
        }
        path.map(|path| read(&path, json)).transpose()
    }

    /// The policy that was named.
    fn named(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os("STANCH_POLICY").filter(|v| !v.is_empty()).map(PathBuf::from);
        self.policy.clone().or_else(variable)
    }

    /// Holds a saved plan against the policy as it is now. One that was made under another policy is stale.
    pub(in crate::cli) fn refuse_saved(&self, plan: &Plan, json: bool) -> Result<(), CliError> {
        if plan.drill.is_some() {
            return Ok(());
        }
        let made_under = plan.policy.as_ref().map(|policy| PathBuf::from(&policy.file));
        let directory = plan.directory.as_ref().map(|directory| Path::new(directory).join("runbook"));
        // What was named when the plan was made does not count against the policy of the repository.
        let path = self.named().or_else(|| in_root(&directory?)).or(made_under);
        let Some(path) = path else { return Ok(()) };
        let loaded = read(&path, json)?;
        if plan.policy.as_ref().map(|policy| &policy.sha256) != Some(&loaded.sha256) {
            let message =
                format!("the plan is stale: it was not made under the policy in {}", path.display());
            return Err(CliError::new(Exit::Stale, message)
                .hint("nothing was changed; make a new plan: stanch plan RUNBOOK --env ENV"));
        }
        let runbook = serde_json::to_string(&plan.runbook).unwrap_or_default();
        let Ok(tree) = tree::parse(&runbook) else { return Ok(()) };
        let signed = plan.waived().iter().map(|waived| waived.signed.clone()).collect();
        let held = loaded.hold(&plan.runbook.name, &[tree], self, signed)?;
        match held.violations.first() {
            None => Ok(()),
            Some(violation) => Err(CliError::new(
                Exit::BadRunbook,
                format!("the plan does not keep the policy: {}; nothing was changed", violation.words()),
            )
            .hint("a waiver may have expired: have it waived again, and make a new plan")),
        }
    }
}

/// The policy of the repository that a file is in; outside of one, the policy beside the file. Not one in between: whoever
/// writes a runbook could put it there.
fn in_root(file: &Path) -> Option<PathBuf> {
    // A link counts where it is, and where it leads to.
    let places = [std::path::absolute(file).ok(), file.canonicalize().ok()];
    places.into_iter().flatten().find_map(|file| {
        let folder = file.parent()?;
        let root = folder.ancestors().find(|above| is_repository(above)).unwrap_or(folder);
        let path = root.join(NAME);
        // One that leads nowhere, or is a directory, is one with a mistake.
        path.symlink_metadata().is_ok().then_some(path)
    })
}

/// Whether a directory is the root of a repository, or of a work tree of one.
fn is_repository(folder: &Path) -> bool {
    let git = folder.join(".git");
    git.is_file() || git.join("HEAD").exists()
}

fn read(path: &Path, json: bool) -> Result<Loaded, CliError> {
    let source = Source::read(path)?;
    let sha256 = hex::encode(Sha256::digest(&source.text));
    let found = checked(&source);
    let Some(policy) = found.policy else { return Err(findings::report(&source, &found.findings, json)) };
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Loaded { policy, path, sha256 })
}

impl Loaded {
    /// Holds a runbook against the policy, in these of its environments.
    pub(in crate::cli) fn hold_template<'a>(
        &self,
        template: &Template,
        environments: impl IntoIterator<Item = &'a str>,
        args: &PolicyArgs,
    ) -> Result<Held, CliError> {
        let trees: Vec<Node> = environments.into_iter().filter_map(|name| template.tree(name)).collect();
        self.hold(template.name(), &trees, args, Vec::new())
    }

    fn hold(
        &self,
        name: &str,
        trees: &[Node],
        args: &PolicyArgs,
        signed: Vec<Signed>,
    ) -> Result<Held, CliError> {
        let mut found: Vec<Violation> = Vec::new();
        for violation in trees.iter().flat_map(|tree| violations(&self.policy, tree)) {
            if !found.contains(&violation) {
                found.push(violation);
            }
        }
        let waivers = self.waivers(name, args, signed, !found.is_empty())?;
        let mut waived: Vec<Waived> = Vec::new();
        found.retain(|violation| {
            let Some((waiver, signed)) = waivers.iter().find(|(w, _)| w.rule == violation.rule.name()) else {
                return true;
            };
            if !waived.iter().any(|known| known.rule == waiver.rule) {
                let Waiver { rule, by, reason, expires, .. } = waiver.clone();
                waived.push(Waived { rule, by, reason, expires, signed: signed.clone() });
            }
            false
        });
        let Policy { revision, windows, freezes, .. } = self.policy.clone();
        let (file, sha256) = (self.path.display().to_string(), self.sha256.clone());
        let governed = Governed { revision, file, sha256, windows, freezes, waived };
        Ok(Held { violations: found, governed })
    }

    /// The waivers for a runbook that count now: those that were named, and, where some are needed, those that are found.
    fn waivers(
        &self,
        runbook: &str,
        args: &PolicyArgs,
        signed: Vec<Signed>,
        needed: bool,
    ) -> Result<Vec<(Waiver, Signed)>, CliError> {
        let now = SystemClock::new().now().wall;
        let Some(rules) = &self.policy.waivers else {
            if args.waiver.is_empty() {
                return Ok(Vec::new());
            }
            let message =
                format!("{} lets no one waive a rule, so --waiver does not apply", self.path.display());
            return Err(CliError::new(Exit::Usage, message).hint("its section `waivers` says who may"));
        };
        if !needed && args.waiver.is_empty() {
            return Ok(Vec::new());
        }
        let signers = self.signers(rules)?;
        let count = |signed: &Signed| admit(rules, &signers, runbook, signed, now);
        let mut all = Vec::new();
        for path in &args.waiver {
            let signed = sign::read(path)?;
            match count(&signed) {
                Ok(waiver) => all.push((waiver, signed)),
                Err(why) => {
                    let message =
                        format!("the waiver in {} is refused: {why}; nothing was changed", path.display());
                    return Err(CliError::new(Exit::Failed, message)
                        .hint("have it waived again: stanch policy waive RUNBOOK --rule RULE"));
                }
            }
        }
        all.extend(signed.into_iter().filter_map(|signed| Some((count(&signed).ok()?, signed))));
        for path in self.found() {
            let told = |why: &str| eprintln!("{}: not used: {why}", path.display());
            match sign::read(&path) {
                Err(error) => told(&error.sentences()),
                Ok(signed) => match count(&signed) {
                    Ok(waiver) => all.push((waiver, signed)),
                    // Most are for other runbooks.
                    Err(NotWaived::OtherRunbook { .. }) => {}
                    Err(why) => told(&why.to_string()),
                },
            }
        }
        Ok(all)
    }

    /// The text of the file of signers of those who waive.
    pub(super) fn signers(&self, rules: &Waivers) -> Result<String, CliError> {
        use std::io::Read as _;
        let path = self.beside(&rules.signers);
        let mut text = String::new();
        let read = std::fs::File::open(&path).and_then(|f| f.take(1 << 20).read_to_string(&mut text));
        read.map(|_| text).map_err(|e| {
            let message =
                format!("cannot read the file of signers {}: {e}; nothing was changed", path.display());
            CliError::new(Exit::BadRunbook, message)
                .hint("correct `waivers.signers` of the policy: a path from its own directory")
        })
    }

    /// A path from the policy's own directory.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(name)
    }

    fn found(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.beside(WAIVERS)) else { return Vec::new() };
        let mut found: Vec<PathBuf> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
            .take(MOST_WAIVERS)
            .collect();
        found.sort();
        found
    }
}

/// Whether a waiver counts.
pub(super) fn admit(
    rules: &Waivers,
    signers: &str,
    runbook: &str,
    signed: &Signed,
    now: Timestamp,
) -> Result<Waiver, NotWaived> {
    let waiver = waives((signers, &rules.from, rules.within), runbook, signed, now)?;
    if Rule::named(&waiver.rule).is_none() {
        let rule = crate::text::sanitize(&waiver.rule);
        return Err(NotWaived::Unreadable(format!("there is no rule `{rule}`")));
    }
    // It stands in the plan and in the journal, word by word.
    if holds_secret(&signed.statement) {
        return Err(NotWaived::Unreadable("its text contains what looks like a secret".into()));
    }
    Ok(waiver)
}
