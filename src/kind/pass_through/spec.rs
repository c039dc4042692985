//! The words of a runbook about a store that is a program.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Observation, Scope, StoreTraits};
use crate::kind::spec::{Names, StoreKind, StoreLook, StoreSpec, after, as_written};
use crate::kind::{Issuer, Store};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::text::shell_word;

/// A program of yours that writes the credential to a place that stanch does not know: an appliance, a service, a password
/// manager.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PassThrough {
    /// The program and its arguments; no shell. stanch adds one argument: `observe`, `read` or `write`.
    #[schemars(length(min = 1))]
    pub argv: Vec<String>,
    /// What the program writes: the system, and the secret in it. The program gets it. Runs on one place exclude each other.
    pub place: String,
    /// Whether the program can read the value back.
    pub reads: bool,
    /// Whether the system itself refuses a write when the version is not the one that stanch saw.
    pub conditional: bool,
    /// The most bytes that the value may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<usize>,
    /// Which characters the value may have: `any`, `line` (no line breaks or other control characters), or `ascii` (the same, in
    /// ASCII).
    #[serde(default)]
    pub characters: Characters,
}

/// Which characters a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Characters {
    /// All of them.
    #[default]
    Any,
    /// All but control characters.
    Line,
    /// Those of ASCII that can be printed, and the space.
    Ascii,
}

impl PassThrough {
    pub(in crate::kind) const KIND: StoreKind = StoreKind {
        name: "pass-through",
        page: include_str!("page.md"),
        check,
        place: |store, _| Some(vec![store.text_of("place")?.to_owned()]),
        field: as_written,
    };

    /// The command with which a person asks the program.
    pub(super) fn by_hand(&self, operation: &str) -> String {
        let input = serde_json::json!({ "place": self.place }).to_string();
        let argv: Vec<String> = self.argv.iter().map(|word| shell_word(word)).collect();
        format!("printf '%s' {} | {} {operation}", shell_word(&input), argv.join(" "))
    }

    /// Why it does not take a value with this many bytes and these characters; `None` where it does.
    pub(super) fn unfit(&self, bytes: usize, text: &str) -> Option<String> {
        let wrong = |c: char| match self.characters {
            Characters::Any => false,
            Characters::Line => c.is_control(),
            Characters::Ascii => !matches!(c, ' '..='~'),
        };
        if let Some(most) = self.max_bytes.filter(|most| bytes > *most) {
            return Some(format!("has {bytes} bytes, and the place takes {most} (`max_bytes`)"));
        }
        text.contains(wrong).then(|| "has characters that the place does not take (`characters`)".to_owned())
    }
}

/// What is generated here has a length that is known before it is.
fn check(credential: &Entry, store: &Node, found: &mut Vec<Finding>) {
    let issuer = credential.value.get("issuer").map(|node| serde_json::from_value(node.to_json()));
    let (Some(Ok(Issuer::Random(random))), Ok(Store::PassThrough(spec))) =
        (issuer, serde_json::from_value(store.to_json()))
    else {
        return;
    };
    let Some(recipe) = crate::kind::spec::IssuerSpec::stand_in(&random, &Scope::default()).recipe else {
        return;
    };
    if let Some(why) = spec.unfit(recipe.length(), &recipe.characters()) {
        found.push(
            Finding::error("unfit-value", store.span, format!("a generated value {why}"))
                .hint("give the issuer another `length` or `alphabet`"),
        );
    }
}

impl StoreSpec for PassThrough {
    fn kind(&self) -> &'static StoreKind {
        &Self::KIND
    }

    /// What the runbook declares. A program has no versions that are not current, and destroys none.
    fn traits(&self) -> StoreTraits {
        let change = if self.conditional { Observation::Conditional } else { Observation::Readable };
        StoreTraits { stages: false, destroys: false, reads: self.reads, change }
    }

    fn target(&self) -> String {
        format!("pass-through {}", self.place)
    }

    fn stand_in(&self) -> String {
        format!("pass-through:{}", self.place)
    }

    fn look(&self, look: &StoreLook<'_>) -> String {
        let before = look.before.map(|version| format!(", which was {version} before")).unwrap_or_default();
        format!(
            "make sure that no `{}` of this step runs any more, since it may still write; then `{}` prints the version that is there now{before}; or look at the system itself: it took effect if the value was changed{}",
            self.argv.first().map_or("", String::as_str),
            self.by_hand("observe"),
            after(look.since)
        )
    }

    fn gaps(&self, name: &str) -> Vec<String> {
        let target = self.target();
        let program = self.argv.first().map_or("", String::as_str);
        let mut gaps = vec![format!(
            "{name}: stanch knows {target} only by what `{program}` says; whether it may write there shows at the write"
        )];
        if !self.conditional {
            gaps.push(format!(
                "{name}: a write to {target} has no condition: what another program writes there between stanch's look and its write is lost"
            ));
        }
        if !self.reads {
            gaps.push(format!(
                "{name}: stanch cannot read {target} and writes the whole value there: what else it holds is lost"
            ));
        }
        gaps
    }

    fn names(&self) -> Vec<Names<'_>> {
        vec![Names::Program(&self.argv)]
    }
}
