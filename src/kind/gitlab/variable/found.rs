//! A variable as GitLab has it, and which values it can have. Pure.

use serde_json::{Map, Value};

use crate::domain::ErrorKind;
use crate::provider::outcome::CallError;
use crate::secret::{Material, Secret};

/// What a write sends back as it was: what it leaves out may get GitLab's default.
const KEPT: [&str; 6] = ["variable_type", "protected", "masked", "raw", "environment_scope", "description"];
/// How many characters a value may have. GitLab publishes this for variables of an instance alone; a longer value is
/// accepted where GitLab already has one.
const MOST: usize = 10_000;
/// How many characters a masked value has at least.
const LEAST: usize = 8;

/// A variable, as GitLab has it.
pub(super) struct Found {
    pub(super) text: Secret,
    /// Those of [`KEPT`] that this GitLab has.
    kept: Map<String, Value>,
}

/// What GitLab answered, where that is the variable that was asked for.
pub(super) enum Answer {
    Readable(Found),
    /// GitLab never shows its value.
    Hidden,
}

impl Answer {
    /// `None` where something else answered, or with another variable.
    pub(super) fn of(body: &[u8], key: &str, scope: &str) -> Option<Self> {
        let mut fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let same_scope = fields.get("environment_scope").map_or(scope == "*", |found| found == scope);
        if fields.get("key").is_none_or(|found| found != key) || !same_scope {
            return None;
        }
        let hidden = fields.get("hidden") == Some(&Value::Bool(true));
        let value = fields.remove("value")?;
        fields.retain(|name, _| KEPT.contains(&name.as_str()));
        match value {
            Value::String(text) if !hidden => {
                Some(Self::Readable(Found { text: Secret::new(text), kept: fields }))
            }
            Value::String(_) | Value::Null => Some(Self::Hidden),
            _ => None,
        }
    }
}

impl Found {
    pub(super) fn is(&self, name: &str) -> bool {
        self.kept.get(name) == Some(&Value::Bool(true))
    }

    /// What is written so that it has this text, and everything else stays.
    pub(super) fn with(&self, text: &Secret) -> Secret {
        let mut body = self.kept.clone();
        body.insert("value".to_owned(), text.expose().into());
        Secret::new(Value::Object(body).to_string())
    }

    /// Whether everything but the value is as in another look.
    pub(super) fn is_kept(&self, before: &Self) -> bool {
        self.kept == before.kept
    }

    /// Refuses a text that GitLab would refuse, or that jobs would not get as it is. `value` is what of it is the
    /// credential.
    ///
    /// What can be masked is published in GitLab's `app/models/concerns/ci/maskable.rb` (`REGEX`, and
    /// `MASK_AND_RAW_REGEX` where `raw` is set) and in its documentation, *Mask a CI/CD variable*. That the value must
    /// not be the name of another variable is not checked here.
    pub(super) fn refuse_unfit(&self, text: &Secret, value: &Material) -> Result<(), CallError> {
        let refused = |message: String, hint: &str| {
            Err(CallError::rejected(ErrorKind::Invalid, message).hint(hint.to_owned()))
        };
        let (size, had) = (text.expose().chars().count(), self.text.expose().chars().count());
        if size > MOST.max(had) {
            let message = format!("the value would have {size} characters, and GitLab takes {MOST}");
            return refused(
                message,
                "keep the credential in a variable of its own, or in a secrets manager that jobs read",
            );
        }
        let (masked, raw) = (self.is("masked"), self.is("raw"));
        if masked && size < LEAST {
            let message = format!(
                "the value would have {size} characters, and GitLab masks none with fewer than {LEAST}"
            );
            return refused(
                message,
                "let the issuer make longer values, or make the variable visible (Settings > CI/CD > Variables); then plan again",
            );
        }
        if masked && text.expose().contains(char::is_whitespace) {
            return refused(
                "the value would have a space or several lines, and GitLab masks no such value".to_owned(),
                "make a variable for it that is not masked, of type `file` for a key in PEM, and let the jobs read that; then plan again",
            );
        }
        let maskable = |c: char| c.is_ascii_alphanumeric() || "_+=/@:.~-".contains(c);
        if masked && !raw && !text.expose().chars().all(maskable) {
            return refused(
                "the value would have a character that GitLab does not mask: letters, digits and `_+=/@:.~-` can be masked".to_owned(),
                "switch off *Expand variable reference* of the variable (`raw: true`), or let the issuer make values of letters and digits; then plan again",
            );
        }
        if !raw && value.parts().any(|(_, part)| part.expose().contains('$')) {
            return refused(
                "the value has a `$`, and GitLab replaces what follows it: jobs would get another value"
                    .to_owned(),
                "switch off *Expand variable reference* of the variable (`raw: true`), then plan again",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(text: &str, masked: bool, raw: bool) -> Found {
        let body = json!({
            "key": "K", "value": text, "variable_type": "env_var", "protected": true, "masked": masked, "raw": raw,
            "hidden": false, "environment_scope": "*", "description": null, "another": 1,
        });
        match Answer::of(body.to_string().as_bytes(), "K", "*") {
            Some(Answer::Readable(found)) => found,
            _ => panic!("it can be read"),
        }
    }

    #[test]
    fn a_write_sends_back_everything_that_is_to_stay() {
        let sent: Value =
            serde_json::from_str(found("old", true, false).with(&Secret::new("new")).expose()).expect("JSON");
        let wanted = json!({
            "value": "new", "variable_type": "env_var", "protected": true, "masked": true, "raw": false,
            "environment_scope": "*", "description": null,
        });
        assert_eq!(sent, wanted);
    }

    #[test]
    fn what_is_another_variable_or_hidden_is_told_apart() {
        let body = |more: Value| {
            let mut body = json!({ "key": "K", "value": "old", "environment_scope": "production" });
            more.as_object().expect("fields").iter().for_each(|(name, value)| body[name] = value.clone());
            body.to_string()
        };
        let of = |more: Value| Answer::of(body(more).as_bytes(), "K", "production");
        assert!(matches!(of(json!({})), Some(Answer::Readable(_))));
        for other in [json!({ "key": "L" }), json!({ "environment_scope": "*" }), json!({ "value": 1 })] {
            assert!(of(other.clone()).is_none(), "{other}");
        }
        for hidden in
            [json!({ "value": null }), json!({ "hidden": true }), json!({ "hidden": true, "value": null })]
        {
            assert!(matches!(of(hidden.clone()), Some(Answer::Hidden)), "{hidden}");
        }
        assert!(Answer::of(b"<html>", "K", "*").is_none() && Answer::of(b"[]", "K", "*").is_none());
        // Without scopes there is one variable, for every environment.
        let bare = json!({ "key": "K", "value": "old" }).to_string();
        assert!(
            Answer::of(bare.as_bytes(), "K", "*").is_some()
                && Answer::of(bare.as_bytes(), "K", "x").is_none()
        );
    }

    /// By the published expressions: `\A[a-zA-Z0-9_+=/@:.~-]{8,}\z`, and `\A\S{8,}\z` where the variable is raw.
    #[test]
    fn what_would_lose_its_mask_or_be_expanded_is_refused() {
        let long = "x".repeat(MOST + 1);
        let unfit = |found: &Found, text: &str| {
            let value = Material::single("value", Secret::new(text));
            found.refuse_unfit(&Secret::new(text), &value).err().map(|error| error.message)
        };
        for (text, masked, raw, words) in [
            ("Aa0_+=/@:.~-", true, false, None),
            ("7777777", true, false, Some("7 characters")),
            ("7777777", true, true, Some("7 characters")),
            ("7777777", false, false, None),
            ("four four", true, true, Some("a space")),
            ("four\nfour", true, true, Some("a space")),
            ("four\nfour", false, false, None),
            ("with-a-!", true, false, Some("does not mask")),
            ("with-a-!", true, true, None),
            ("with-an-é", true, false, Some("does not mask")),
            ("with-a-$HOME", false, false, Some("a `$`")),
            ("with-a-$HOME", true, true, None),
            ("with-a-$HOME", false, true, None),
            (&long, false, false, Some("10001 characters")),
        ] {
            let said = unfit(&found("old-value", masked, raw), text);
            match words {
                None => assert_eq!(said, None, "{text}"),
                Some(words) => {
                    assert!(said.as_deref().is_some_and(|said| said.contains(words)), "{text}: {said:?}")
                }
            }
            assert!(said.is_none_or(|said| !said.contains(text)), "{text} is quoted");
        }
        assert_eq!(unfit(&found(&long, false, false), &long), None, "GitLab has one as long");
    }
}
