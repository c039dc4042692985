//! What the schema cannot say of channels: what customers may read, where secrets come from, addresses.

use crate::runbook::read::finding::{Finding, LITERAL_SECRET};
use crate::runbook::read::tree::{Entry, Node, Value};
use crate::runbook::read::variables;
use crate::runbook::read::words::quote_or;

/// The fields of channels that are secrets.
const SECRETS: [&str; 5] = ["url", "token", "routing_key", "password", "key"];
/// Variables that hold what stanch itself works with: no channel gets them.
const OWN: [&str; 3] = ["VAULT_", "AWS_", "STANCH_"];
/// The longest name of a channel: it is part of file names.
const MAX_NAME: usize = 40;
/// More channels than these one run does not have.
const MAX_CHANNELS: usize = 64;

/// Everything that is wrong with the channels.
pub(crate) fn check(notify: &Node) -> Vec<Finding> {
    let mut found = literals(notify);
    let Some(channels) = notify.entry("channels") else { return found };
    if channels.value.entries().len() > MAX_CHANNELS {
        let message = format!("there are more than {MAX_CHANNELS} channels");
        found.push(Finding::error("too-many", channels.at, message));
        return found;
    }
    for channel in channels.value.entries() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if channel.key.is_empty() || channel.key.len() > MAX_NAME || !channel.key.chars().all(plain) {
            let message = format!("{} is not a name for a channel", quote_or(&channel.key, "this"));
            found.push(
                Finding::error("pattern", channel.at, message).hint(format!(
                    "write lower-case letters, digits and hyphens, at most {MAX_NAME} of them"
                )),
            );
        }
        audience(channel, &mut found);
        let via = channel.value.get("via").map(Node::entries).unwrap_or_default();
        via.iter().for_each(|kind| self::via(kind, &mut found));
    }
    found
}

/// Secrets that are written where only their place may be written.
pub(crate) fn literals(notify: &Node) -> Vec<Finding> {
    let channels = notify.get("channels").map(Node::entries).unwrap_or_default();
    let kinds = channels.iter().filter_map(|channel| channel.value.get("via")).flat_map(Node::entries);
    let fields = kinds.flat_map(|kind| kind.value.entries());
    let is_literal = |entry: &&Entry| {
        SECRETS.contains(&entry.key.as_str()) && matches!(entry.value.value, Value::Text(_) | Value::Int(_))
    };
    let finding = |entry: &Entry| {
        let message = "a secret of a channel must not be in this file; stanch does not repeat it here";
        Finding::error(LITERAL_SECRET, entry.value.span, message).hint(format!(
            "treat it as leaked if it is real, and name its place: `{}: {{ env: NAME }}` or `{}: {{ file: PATH }}`",
            entry.key, entry.key
        ))
    };
    fields.filter(is_literal).map(finding).collect()
}

fn audience(channel: &Entry, found: &mut Vec<Finding>) {
    let service = channel.value.entry("service");
    if channel.value.text_of("audience") != Some("customers") {
        if let Some(service) = service {
            let message = "only a channel for customers has a `service`";
            found.push(Finding::error("not-for-customers", service.at, message).hint("remove the field"));
        }
        return;
    }
    if channel.value.is_true("drills") {
        let at = channel.value.entry("drills").map_or(channel.at, |entry| entry.at);
        found.push(
            Finding::error("drill-to-customers", at, "a drill never reaches customers")
                .hint("remove `drills`, or give the channel another audience"),
        );
    }
    let Some(service) = service else {
        found.push(Finding::error("missing-field", channel.at, "the field `service` is missing here").hint(
            "write `service: TEXT`: what customers call the service that is affected, such as `Payments`",
        ));
        return;
    };
    if service.value.text().is_some_and(|text| !is_service(text) && !variables::has(text)) {
        let message = "this is not a name of a service that customers know";
        found.push(
            Finding::error("service-name", service.value.span, message)
                .hint("write up to eight words of letters and digits, such as `Payments API`: customers never read hosts, paths or addresses"),
        );
    }
}

/// Whether customers can call a service so: words, and neither a host, a path, an address nor a handle.
fn is_service(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || c == '\'');
    let words: Vec<&str> = text.split(' ').filter(|word| *word != "&").collect();
    text.chars().count() <= 60
        && text.starts_with(char::is_alphabetic)
        && words.len() <= 8
        && words.iter().all(|word| is_word(word))
}

fn via(kind: &Entry, found: &mut Vec<Finding>) {
    for field in kind.value.entries().iter().filter(|field| SECRETS.contains(&field.key.as_str())) {
        let Some(name) = field.value.entry("env") else { continue };
        if name.value.text().is_some_and(|text| OWN.iter().any(|own| text.starts_with(own))) {
            let message = "this variable holds a secret that stanch works with; a channel never gets it";
            found.push(
                Finding::error("own-secret", name.value.span, message)
                    .hint("keep the channel's own secret in a variable of its own"),
            );
        }
    }
    let Some(server) = kind.value.entry("server") else {
        return;
    };
    let Some(address) = server.value.text().filter(|text| !variables::has(text)) else { return };
    let (schemes, example): (&[&str], &str) = match kind.key.as_str() {
        "email" => (&["smtps", "smtp"], "smtps://mail.example.com"),
        "alertmanager" => (&["https", "http"], "https://alertmanager.example.com"),
        _ => (&["https", "http"], "https://events.eu.pagerduty.com"),
    };
    let mut wrong = |message: &str, hint: String| {
        found.push(Finding::error("address", server.value.span, message).hint(hint));
    };
    let Some((scheme, rest)) = address.split_once("://") else {
        return wrong("this is not an address", format!("write it as `{example}`"));
    };
    let host = rest.split('/').next().unwrap_or_default();
    if !schemes.contains(&scheme) || host.is_empty() || rest.contains(['@', '?', '#', ' ']) {
        return wrong(
            "this is not an address that a channel can have",
            format!("write it as `{example}`, without a user, a password or a query"),
        );
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_here = matches!(name, "localhost" | "[::1]") || name.starts_with("127.");
    // STARTTLS is required elsewhere; Alertmanager has no TLS of its own in most places, and gets no secret then.
    let has_token = kind.value.get("token").is_some();
    if scheme == "http" && !is_here && (kind.key != "alertmanager" || has_token) {
        wrong("a secret would be sent without encryption", "use https".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use crate::runbook::{Source, check_notify};

    /// The codes of the findings of a file with one channel.
    fn codes(channel: &str) -> Vec<&'static str> {
        let text = format!("channels:\n  ops: {channel}\n");
        let checked = check_notify(&Source { name: "notify.yaml".into(), text });
        assert!(checked.findings.iter().all(|finding| finding.at.line > 0), "{:?}", checked.findings);
        assert_eq!(checked.notify.is_some(), checked.findings.is_empty());
        checked.findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn what_is_wrong_with_a_channel_is_found() {
        for (channel, code) in [
            ("{audience: customers, via: {file: {path: x}}}", "missing-field"),
            ("{audience: customers, service: db01.prod, via: {file: {path: x}}}", "service-name"),
            ("{audience: customers, service: /x, via: {file: {path: x}}}", "service-name"),
            ("{audience: customers, service: X, drills: true, via: {file: {path: x}}}", "drill-to-customers"),
            ("{audience: management, service: X, via: {file: {path: x}}}", "not-for-customers"),
            ("{audience: everyone, via: {file: {path: x}}}", "not-one-of"),
            ("{audience: technicians, via: {fax: {path: x}}}", "unknown-field"),
            ("{audience: technicians, via: {slack-webhook: {url: 'https://x.example/y'}}}", "literal-secret"),
            ("{audience: technicians, via: {pagerduty: {routing_key: {env: VAULT_TOKEN}}}}", "own-secret"),
            ("{audience: technicians, via: {alertmanager: {server: 'am:9093'}}}", "address"),
            (
                "{audience: technicians, via: {slack: {channel: C1, token: {env: T}, server: 'http://x.example'}}}",
                "address",
            ),
            (
                "{audience: technicians, via: {email: {server: 'smtps://u@x.example', from: a@b.c, to: [a@b.c]}}}",
                "address",
            ),
        ] {
            assert!(codes(channel).contains(&code), "{channel}: {:?}", codes(channel));
        }
        for channel in [
            "{audience: customers, service: Payments & Billing, via: {file: {path: x}}}",
            "{audience: customers, service: Zahlungen für Händler, via: {file: {path: x}}}",
            "{audience: technicians, on: [opened, proved], drills: true, via: {exec: [./tell]}}",
            "{audience: technicians, via: {alertmanager: {server: 'http://am.internal:9093'}}}",
            "{audience: management, language: de, via: {email: {server: 'smtps://x.example', from: a@b.c, to: [a@b.c]}}}",
        ] {
            assert_eq!(codes(channel), [] as [&str; 0], "{channel}");
        }
    }

    /// A secret in the file is found, and no finding shows it.
    #[test]
    fn a_secret_is_masked_where_it_is_shown() {
        let url = concat!("https://hooks.slack.com/serv", "ices/T0AAAAAAA/B0AAAAAAA/canarycanarycanary");
        for via in [
            format!("{{slack-webhook: {{url: '{url}'}}}}"),
            "{webhook: {url: 'https://x.example/canarycanarycanary', key: {env: K}}}".to_owned(),
            "{slack: {channel: C1, token: canarycanarycanary}}".to_owned(),
        ] {
            let text = format!("channels:\n  ops:\n    audience: technicians\n    via: {via}\n");
            let source = Source { name: "notify.yaml".into(), text };
            let checked = check_notify(&source);
            assert!(checked.notify.is_none());
            let shown = crate::runbook::render(&checked.findings, &source, false, 200);
            assert!(shown.contains("literal-secret") && !shown.contains("canarycanary"), "{shown}");
        }
    }
}
