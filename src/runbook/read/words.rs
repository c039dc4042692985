//! Names in messages: quoted where that is safe, and the nearest where one was mistyped.

use super::secrets::quotable;

/// Names that a misspelt one is compared with.
const MAX_COMPARED: usize = 200;

/// The nearest of some names, where one is near enough to be meant.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    if wanted.len() > 64 {
        return None;
    }
    names
        .into_iter()
        .take(MAX_COMPARED)
        .map(|name| (strsim::damerau_levenshtein(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1.max(name.chars().count().min(wanted.chars().count()) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// "did you mean", else what there is.
pub(crate) fn suggest<'a>(
    wanted: &str,
    names: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(name) = nearest(wanted, names.clone()) {
        return format!("did you mean `{name}`?");
    }
    let listed: Vec<String> =
        names.into_iter().filter(|name| quotable(name)).take(20).map(|name| format!("`{name}`")).collect();
    if listed.is_empty() { format!("{what}: none") } else { format!("{what}: {}", listed.join(", ")) }
}

/// A short word in quotes; anything that could be a secret is only described.
pub(crate) fn quote_or(text: &str, instead: &str) -> String {
    if quotable(text) { format!("`{text}`") } else { instead.to_owned() }
}
