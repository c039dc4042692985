//! `stanch policy waive`: lets a runbook break a rule until a moment.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;
use jiff::Timestamp;
use serde_json::json;

use super::super::context::words;
use super::super::sign::SignArgs;
use super::super::write::to_file;
use super::super::{CliError, Exit, Global, findings, print, print_json, sign};
use super::held::{ENDING, PolicyArgs, WAIVERS, admit};
use crate::approve::{WAIVER, Waiver};
use crate::clock::{Clock as _, SystemClock, add};
use crate::domain::Period;
use crate::policy::{Rule, Waivers};
use crate::runbook::{Source, check};

/// Let a runbook break a rule until a moment: sign that with your SSH key.
#[derive(Debug, Args)]
pub(super) struct WaiveArgs {
    /// The runbook.
    runbook: PathBuf,
    /// The rule.
    #[arg(long, value_parser = PossibleValuesParser::new(Rule::names()))]
    rule: String,
    /// Why. It is signed and recorded.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long it holds, such as 30d. Default, and at most: what the policy allows.
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<Period>,
    /// Write it to this file, and the signature to FILE.sig. Default: waivers/RUNBOOK-RULE.waiver beside the policy.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    sign: SignArgs,
    /// Sign without asking.
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(super) fn main(global: &Global, args: &WaiveArgs) -> Result<Exit, CliError> {
    let reason = words("--reason", &args.reason)?;
    if reason.is_empty() {
        return Err(CliError::new(Exit::Usage, "--reason is empty; nothing was signed")
            .hint("pass --reason TEXT, with why the rule is waived"));
    }
    let source = Source::read(&args.runbook)?;
    let checked = check(&source);
    let Some(template) = checked.runbook else {
        return Err(findings::report(&source, &checked.findings, global.json));
    };
    let loaded = args.policy.load(&args.runbook, global.json)?.ok_or_else(|| {
        CliError::new(Exit::Usage, "there is no policy for this runbook; nothing was signed")
            .hint("name it: --policy FILE")
    })?;
    let Some(rules) = &loaded.policy.waivers else {
        let message = format!("{} lets no one waive a rule; nothing was signed", loaded.path.display());
        return Err(CliError::new(Exit::Usage, message).hint("its section `waivers` says who may"));
    };
    let signers = loaded.signers(rules)?;
    let hand = args.sign.hand(&signers)?;
    let now = SystemClock::new().now().wall;
    let waiver = Waiver {
        rule: args.rule.clone(),
        runbook: template.name().to_owned(),
        by: hand.by.clone(),
        reason,
        signed: whole(now),
        expires: whole(add(whole(now), lasts(args, rules)?.get())),
    };
    // Before a key is touched for it.
    if !rules.from.contains(&waiver.by) {
        let message = format!("{} may not waive rules of this policy; nothing was signed", waiver.by);
        return Err(
            CliError::new(Exit::Failed, message).hint(format!("those who may: {}", rules.from.join(", ")))
        );
    }
    let held = loaded.hold_template(&template, template.environments(), &PolicyArgs::default())?;
    if !held.violations.iter().any(|violation| violation.rule.name() == args.rule) {
        eprintln!("{} keeps the rule `{}`, or it is waived already", template.name(), args.rule);
    }
    sign::confirm(global, args.yes, &waiver.text())?;
    let signed = hand.sign_text(WAIVER, waiver.text())?;
    admit(rules, &signers, template.name(), &signed, now).map_err(|why| {
        CliError::new(Exit::Failed, format!("the waiver would not count: {why}; nothing was written"))
    })?;
    let name = format!("{WAIVERS}/{}-{}.{ENDING}", template.name(), args.rule);
    let file = args.output.clone().unwrap_or_else(|| loaded.beside(&name));
    if let (None, Some(folder)) = (&args.output, file.parent()) {
        std::fs::create_dir_all(folder).map_err(|e| {
            CliError::new(Exit::Failed, format!("cannot make {}: {e}; nothing was written", folder.display()))
        })?;
    }
    let signature = PathBuf::from(format!("{}.sig", file.display()));
    to_file(&file, |out| out.write_all(signed.statement.as_bytes()))?;
    to_file(&signature, |out| out.write_all(signed.signature.as_bytes()))?;
    if global.json {
        print_json(&json!({
            "rule": waiver.rule, "runbook": waiver.runbook, "by": waiver.by, "expires": waiver.expires,
            "file": file, "signature": signature,
        }))?;
    } else {
        print(&format!(
            "Waived `{}` for {} as {}, until {:.0}. The waiver is in {} and {}; commit both.",
            waiver.rule,
            waiver.runbook,
            waiver.by,
            waiver.expires,
            file.display(),
            signature.display()
        ))?;
    }
    Ok(Exit::Done)
}

fn lasts(args: &WaiveArgs, rules: &Waivers) -> Result<Period, CliError> {
    match args.lasts {
        Some(lasts) if lasts > rules.within => Err(CliError::new(
            Exit::Usage,
            format!("a waiver may hold for at most {}; nothing was signed", rules.within),
        )
        .hint(format!("pass --for {}, or less", rules.within))),
        Some(lasts) => Ok(lasts),
        None => Ok(rules.within),
    }
}

/// Whole seconds are what the text has.
fn whole(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}
