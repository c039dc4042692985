//! The cadence, and the time zones that a runbook names.

use super::Context;
use crate::domain::Cadence;
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::Node;
use crate::runbook::read::words::{nearest, quote_or};

pub(super) fn check(context: &mut Context<'_>) {
    let Some(node) = context.root.get("cadence") else { return };
    let Some(text) = node.text() else { return };
    match text.parse::<Cadence>() {
        Ok(cadence) => context.found.extend(zone(node, cadence.zone())),
        Err(error) => {
            let message = format!("{} {error}", quote_or(text, "this"));
            context.add(Finding::error("bad-cadence", node.span, message).hint(error.hint()));
        }
    }
}

/// A zone that this machine does not know is misspelt. Where the machine knows none at all, whoever needs the zone
/// says so.
pub(super) fn zone(node: &Node, name: &str) -> Option<Finding> {
    if jiff::tz::TimeZone::get(name).is_ok() {
        return None;
    }
    let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.as_str().to_owned()).collect();
    if known.is_empty() {
        return None;
    }
    // There are more zones than are compared; the first letter is seldom the wrong one.
    let letter = name.get(..1).unwrap_or_default();
    let begin = |zone: &&str| zone.get(..1).is_some_and(|first| letter.eq_ignore_ascii_case(first));
    let hint = nearest(name, known.iter().map(String::as_str).filter(begin)).map_or_else(
        || "use a name of the IANA time zone database, such as Europe/Berlin or UTC".to_owned(),
        |near| format!("did you mean `{near}`?"),
    );
    let message = format!("there is no time zone {}", quote_or(name, "of this name"));
    Some(Finding::error("unknown-zone", node.span, message).hint(hint))
}
