//! The words of a runbook about a key that logs in by OpenSSH.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{IssuerTraits, Period, Scope};
use crate::kind::set::SetPlace;
use crate::kind::spec::{IssuerDoubt, IssuerKind, IssuerLook, IssuerSpec, Part, ScopeRules, StandIn};
use crate::runbook::read::finding::Finding;
use crate::runbook::read::tree::{Entry, Node};
use crate::secret::{Alphabet, Recipe};
use crate::text::shell_word;

/// A key that logs in by OpenSSH. Its public half is a line of one or several files of authorized keys. Each rotation adds
/// a new Ed25519 key beside the old one, and removes the old one in the end; all other lines stay as they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SshKey {
    /// Where the authorized keys are, as stanch writes them: each file that has the old key.
    #[schemars(length(min = 1))]
    pub authorized_keys: Vec<SetPlace>,
    /// The options of the new key's line (`restrict,from="10.0.0.0/8"`), an empty string for none. Without it, the new key
    /// gets the options of the old one: a line for each line of the old key that has options of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// How long it takes until every server goes by what stanch wrote: nothing where it is the file that the server reads.
    /// At most `7d`.
    #[serde(default, skip_serializing_if = "crate::kind::is_default")]
    pub propagation: Period,
    /// Gives stores `public_key` and `fingerprint` as well. Without it, `private_key` is the only part, and a file can hold
    /// it as `ssh` reads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public_parts: bool,
}

/// Nothing that takes longer can be waited for in an emergency.
const MAX_PROPAGATION: Period = Period::seconds(7 * 24 * 60 * 60);

impl SshKey {
    pub(super) const SECRET: Part = "private_key";
    pub(super) const PUBLIC: Part = "public_key";
    pub(super) const FINGERPRINT: Part = "fingerprint";

    /// The key pair is made here, and sealed before its public half is added.
    pub(super) const TRAITS: IssuerTraits = IssuerTraits::MADE_HERE;

    pub(in crate::kind) const KIND: IssuerKind = IssuerKind {
        name: "ssh-key",
        page: include_str!("page.md"),
        scaffold: include_str!("../../../../templates/runbooks/ssh-key.yaml"),
        parts: &[Self::SECRET],
        scope: ScopeRules::NEVER_EXPIRES,
        delivers: crate::kind::spec::never_delivers,
        bare: None,
        check,
    };
}

impl IssuerSpec for SshKey {
    fn kind(&self) -> &'static IssuerKind {
        &Self::KIND
    }

    fn parts(&self) -> &'static [Part] {
        if self.public_parts { &[Self::FINGERPRINT, Self::SECRET, Self::PUBLIC] } else { Self::KIND.parts }
    }

    fn connection(&self) -> Option<&str> {
        self.authorized_keys.iter().find_map(SetPlace::connection)
    }

    fn traits(&self) -> IssuerTraits {
        Self::TRAITS
    }

    fn finds_by_run(&self) -> bool {
        false
    }

    fn look(&self, look: &IssuerLook<'_>) -> String {
        let all: Vec<String> = self.authorized_keys.iter().map(SetPlace::how_to_read).collect();
        let read = all.join(" and ");
        match look.about {
            IssuerDoubt::Issued { known: _ } => format!(
                "{read}: it took effect if a line whose comment ends with `stanch:…` was not there before the run"
            ),
            IssuerDoubt::Life { handle, wanted } => {
                let key = handle.map_or_else(|| "of this step".to_owned(), shell_word);
                format!(
                    "{read}, and `ssh-keygen -l -f -` of each line: the key {key} is active while it has a line, disabled while its line begins with \
                     `#stanch-retired`, and gone when it has neither; it took effect if it is {wanted}"
                )
            }
        }
    }

    fn gaps(&self, name: &str, _: &Scope) -> Vec<String> {
        vec![
            format!(
                "{name}: sessions that were opened with the old key outlive it, an attacker's as well, and stanch cannot end them; so do the connections of \
                 `ControlMaster`, over which new sessions open without any key. End them on each server: find the key's fingerprint in the log of sshd, and \
                 kill the processes `sshd: USER` of these logins"
            ),
            format!(
                "{name}: a server that has the old key from elsewhere (another file, `AuthorizedKeysCommand`, an image, a configuration management) goes on \
                 accepting it; only a check `ssh` at that server shows it"
            ),
            format!(
                "{name}: a person who logged in with the old key may have left other keys, jobs or users behind; stanch does not look for them"
            ),
            format!(
                "{name}: each check with a dead key is a failed login in the server's log, and counts for what bans addresses (`PerSourcePenalties`, \
                 fail2ban); a ban hits the new key's checks as well, and they are then inconclusive"
            ),
        ]
    }

    fn settles(&self) -> Period {
        self.propagation
    }

    fn stand_in(&self, _: &Scope) -> StandIn {
        StandIn { recipe: Recipe::new(Alphabet::Alphanumeric, 40).ok(), ..StandIn::default() }
    }
}

fn check(credential: &Entry, issuer: &Node, found: &mut Vec<Finding>) {
    if let Some(time) = issuer.get("propagation")
        && time.text().and_then(|text| text.parse::<Period>().ok()).is_some_and(|time| time > MAX_PROPAGATION)
    {
        found.push(
            Finding::error(
                "long-propagation",
                time.span,
                format!("`propagation` is longer than {MAX_PROPAGATION}"),
            )
            .hint("let servers get the file more often first"),
        );
    }
    let asked = ["accepts", "rejects"]
        .iter()
        .any(|checks| credential.value.get(checks).is_some_and(|checks| !checks.items().is_empty()));
    if !asked {
        let at = issuer.entry("authorized_keys").map_or(issuer.span, |place| place.at);
        let message = "no check logs in, so nothing could prove that a server refuses the old key";
        found.push(
            Finding::error("no-login", at, message)
                .hint("add a check under `accepts` for each server: ssh: {host, user, host_keys}"),
        );
    }
}
