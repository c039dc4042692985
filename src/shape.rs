//! How well-known credentials look. One table: runbooks are searched by it, and `stanch identify` names a value by it.
//!
//! Prefixes and lengths are those that the services publish for secret scanners, such as *Supported secret scanning
//! patterns* of GitHub and *Token prefixes* of GitLab.

use std::ops::Range;
use std::sync::OnceLock;

use regex_lite::Regex;

/// How a kind of credential looks, and what that says.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What it is, with its service.
    pub name: &'static str,
    /// A text that occurs in every one of them: without it the pattern is not worth a search.
    needle: &'static str,
    /// The pattern. Group 1, where there is one, is the secret part.
    pattern: &'static str,
    /// The kind of issuer of stanch's that such credentials belong to.
    pub issuer: Option<&'static str>,
    /// Whether nothing but such a credential looks like that. What is not certain is only told of a value that a person
    /// calls a credential.
    pub certain: bool,
    /// How one is revoked, where stanch does not do it; or what else there is to know.
    pub kill: &'static str,
}

const fn sure(name: &'static str, needle: &'static str, pattern: &'static str, kill: &'static str) -> Shape {
    Shape { name, needle, pattern, issuer: None, certain: true, kill }
}

const fn ours(
    name: &'static str,
    issuer: &'static str,
    needle: &'static str,
    pattern: &'static str,
    kill: &'static str,
) -> Shape {
    Shape { issuer: Some(issuer), ..sure(name, needle, pattern, kill) }
}

const fn maybe(name: &'static str, needle: &'static str, pattern: &'static str, kill: &'static str) -> Shape {
    Shape { certain: false, ..sure(name, needle, pattern, kill) }
}

const VAULT: &str = "vault-token";
const AWS: &str = "iam-access-key";
const GITHUB: &str =
    "anyone may revoke it, also without being its owner: POST https://api.github.com/credentials/revoke";
const GITLAB: &str = "an owner revokes it: DELETE /api/v4/personal_access_tokens/ID. Do not use `rotate`: a retry with the old token revokes the new one";
const SLACK: &str = "the token itself revokes itself: `auth.revoke` of Slack's Web API. Otherwise: the app's page, Install App";
const STRIPE: &str = "roll it on the page Developers, API keys, and choose to expire the old key now";
const OPENAI: &str = "delete it on the page API keys, or by the admin API: DELETE /v1/organization/projects/PROJECT/api_keys/KEY_ID";
const OWNER: &str = "delete it on the owner's page for tokens; stanch has no issuer for it";
const KEY: &str = "if it is a line of authorized_keys, stanch init --kind ssh-key; else remove its public half wherever it is trusted (certificates, deploy keys); a key alone cannot be revoked";
/// What to do about a private key in PEM, which may be anything's.
const PEM: &str = "if it signs tokens, stanch init --kind jwt-signing-key; else revoke its certificate, or remove its public half from where it is trusted";

/// Every shape. Where several fit one text, the first counts.
#[rustfmt::skip]
pub const SHAPES: &[Shape] = &[
    ours("access key ID of AWS", AWS, "AKIA", r"\bAKIA[A-Z0-9]{16}\b", "the secret key is the other half; revoking the ID kills both"),
    sure("access key ID of a temporary session of AWS", "ASIA", r"\bASIA[A-Z0-9]{16}\b",
        "a session cannot be revoked: deny the role or user every request with an older aws:TokenIssueTime"),
    ours("service token of Vault or OpenBao", VAULT, "hvs.", r"\bhvs\.[A-Za-z0-9_-]{16,}", ""),
    sure("batch token of Vault", "hvb.", r"\bhvb\.[A-Za-z0-9_-]{16,}", "a batch token cannot be revoked: revoke the token that it was made with, or wait until it expires"),
    sure("recovery token of Vault", "hvr.", r"\bhvr\.[A-Za-z0-9_-]{16,}", "end the recovery mode: restart the server"),
    ours("service token of OpenBao, or of Vault before 1.10", VAULT, "s.", r"(?:^|[^A-Za-z0-9_./-])(s\.[A-Za-z0-9]{24,})", ""),
    sure("batch token of OpenBao, or of Vault before 1.10", "b.", r"(?:^|[^A-Za-z0-9_./-])(b\.[A-Za-z0-9]{24,})", "a batch token cannot be revoked: revoke the token that it was made with, or wait until it expires"),
    sure("personal access token (classic) of GitHub", "ghp_", r"\bghp_[A-Za-z0-9]{20,}", GITHUB),
    sure("OAuth access token of GitHub", "gho_", r"\bgho_[A-Za-z0-9]{20,}", GITHUB),
    sure("user access token of a GitHub App", "ghu_", r"\bghu_[A-Za-z0-9]{20,}", GITHUB),
    sure("installation access token of a GitHub App", "ghs_", r"\bghs_[A-Za-z0-9]{20,}", "it revokes itself: DELETE https://api.github.com/installation/token. It expires after an hour"),
    sure("refresh token of a GitHub App", "ghr_", r"\bghr_[A-Za-z0-9]{20,}", GITHUB),
    sure("fine-grained personal access token of GitHub", "github_pat_", r"\bgithub_pat_[A-Za-z0-9_]{20,}", GITHUB),
    sure("access token of GitLab", "glpat-", r"\bglpat-[A-Za-z0-9_-]{16,}", GITLAB),
    sure("deploy token of GitLab", "gldt-", r"\bgldt-[A-Za-z0-9_-]{16,}", "a maintainer revokes it: Settings, Repository, Deploy tokens"),
    sure("runner authentication token of GitLab", "glrt-", r"\bglrt-[A-Za-z0-9_-]{16,}", "reset it: POST /api/v4/runners/ID/reset_authentication_token"),
    sure("pipeline trigger token of GitLab", "glptt-", r"\bglptt-[A-Za-z0-9_-]{16,}", "a maintainer revokes it: Settings, CI/CD, Pipeline trigger tokens"),
    sure("CI job token of GitLab", "glcbt-", r"\bglcbt-[A-Za-z0-9_-]{16,}", "it dies with its job: cancel the job"),
    sure("webhook address of Slack", "hooks.slack.com/services/", r"hooks\.slack\.com/services/(T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{16,})", "remove it on the app's page, Incoming Webhooks"),
    sure("app-level token of Slack", "xapp-", r"\bxapp-[0-9]-[A-Z0-9]{8,}-[0-9]{8,}-[a-z0-9]{16,}", "revoke it on the app's page, Basic Information"),
    sure("token of Slack", "xox", r"\bxox[abeoprs][.-][A-Za-z0-9-]{10,}", SLACK),
    sure("secret key of Stripe", "sk_", r"\bsk_(?:live|test)_[A-Za-z0-9]{10,}", STRIPE),
    sure("restricted key of Stripe", "rk_", r"\brk_(?:live|test)_[A-Za-z0-9]{10,}", STRIPE),
    sure("signing secret of a Stripe webhook", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{24,}", "roll it on the endpoint's page; choose to expire the old secret now"),
    sure("token of npm", "npm_", r"\bnpm_[A-Za-z0-9]{30,}", "npm token revoke ID, as its owner (npm token list)"),
    sure("API token of PyPI", "pypi-AgE", r"\bpypi-AgE[A-Za-z0-9_-]{50,}", "remove it on the account's page; there is no API for that"),
    sure("API key of Google", "AIza", r"\bAIza[A-Za-z0-9_-]{35}", "gcloud services api-keys delete KEY, or regenerate it in the console"),
    sure("client secret of Google OAuth", "GOCSPX-", r"\bGOCSPX-[A-Za-z0-9_-]{20,}", "add a second secret in the console, then disable and delete this one"),
    sure("access token of Google OAuth", "ya29.", r"\bya29\.[A-Za-z0-9_-]{20,}", "POST https://oauth2.googleapis.com/revoke with the token in the body"),
    sure("API key of SendGrid", "SG.", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}", OWNER),
    sure("API key of Anthropic", "sk-ant-", r"\bsk-ant-[A-Za-z0-9_-]{20,}", "disable it in the console, or by the admin API"),
    sure("API key of OpenAI", "sk-", r"\bsk-(?:(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{20}T3BlbkFJ[A-Za-z0-9]{20})", OPENAI),
    sure("access token of Hugging Face", "hf_", r"\bhf_[A-Za-z0-9]{30,}", OWNER),
    sure("token of DigitalOcean", "do", r"\bdo[opr]_v1_[a-f0-9]{64}\b", OWNER),
    sure("access token of Shopify", "shp", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}\b", OWNER),
    sure("access token of Docker Hub", "dckr_", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}", OWNER),
    sure("client secret of Entra ID (Azure)", "Q~", r"\b[A-Za-z0-9_~.]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}", "az ad app credential delete --id APP --key-id KEY; tokens that it obtained live until they expire"),
    sure("key of an Azure Storage account", "AccountKey=", r"AccountKey=([A-Za-z0-9+/]{86}==)", "az storage account keys renew --account-name NAME --key primary (or secondary)"),
    sure("token of Terraform Cloud", ".atlasv1.", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_-]{60,}", OWNER),
    sure("token of Grafana", "gl", r"\bgl(?:sa|c)_[A-Za-z0-9+/=_-]{30,}", OWNER),
    sure("token of Sentry", "sntry", r"\bsntry[su]_[A-Za-z0-9+/=_-]{40,}", OWNER),
    sure("token of Databricks", "dapi", r"\bdapi[a-f0-9]{32}(?:-[0-9])?\b", OWNER),
    sure("key of Postman", "PMAK-", r"\bPMAK-[a-f0-9]{24}-[a-f0-9]{34}\b", OWNER),
    sure("API key of Linear", "lin_api_", r"\blin_api_[A-Za-z0-9]{32,}", OWNER),
    sure("token of a Telegram bot", ":AA", r"\b[0-9]{8,10}:AA[A-Za-z0-9_-]{33}\b", "send /revoke to @BotFather"),
    sure("API key of Mailgun", "key-", r"\bkey-[a-f0-9]{32}\b", OWNER),
    sure("identity of age", "AGE-SECRET-KEY-1", r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}", "encrypt everything again to another recipient; what was copied stays readable"),
    sure("private key of OpenSSH", "OPENSSH PRIVATE KEY-----", r"(?s)-----BEGIN OPENSSH PRIVATE KEY-----.*?(?:-----END OPENSSH PRIVATE KEY-----|\z)", KEY),
    sure("private key", "PRIVATE KEY-----", r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)", PEM),
    sure("JSON web token", "eyJ", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        "verifiers accept it until it expires: revoke the session or client at its issuer, or rotate the key that signed it"),
    sure("password in an address", "://", r"://[^\s/:@'\x22]*:([^\s/@'\x22$][^\s/@'\x22]*)@", "change it where that user is managed; end the sessions that it opened"),
    maybe("40 hexadecimal digits: perhaps an older token of GitHub, or an application key of Datadog", "", r"^[0-9a-f]{40}$", "find out which program used it"),
    maybe("secret access key of AWS", "", r"^[A-Za-z0-9+/]{40}$", "it is revoked by its access key ID, which is beside it: find that first"),
    Shape { issuer: Some("approle-secret-id"), ..maybe("UUID: perhaps the secret ID of an AppRole", "-", r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        "a role ID and many other identifiers look the same") },
    maybe("32 hexadecimal digits: perhaps a key of Datadog or New Relic, or a session", "", r"^[0-9a-f]{32}$", "find out which program used it"),
];

/// The pattern of each shape. Compiled when its needle is met first: a command that reads a runbook meets few.
static COMPILED: [OnceLock<Option<Regex>>; SHAPES.len()] = [const { OnceLock::new() }; SHAPES.len()];

/// A test compiles every pattern, so none is lost here.
fn compiled(shape: &Shape) -> Option<Regex> {
    Regex::new(shape.pattern).ok()
}

/// Where credentials of a certain shape stand in a text.
pub fn certain(text: &str) -> Vec<Range<usize>> {
    find(text, |shape| shape.certain).into_iter().map(|(range, _)| range).collect()
}

/// Every credential in a text that a person calls one, in its order: where it stands, and what it is.
pub fn all(text: &str) -> Vec<(Range<usize>, &'static Shape)> {
    find(text, |_| true)
}

fn find(text: &str, wanted: impl Fn(&Shape) -> bool) -> Vec<(Range<usize>, &'static Shape)> {
    let mut found: Vec<(Range<usize>, &'static Shape)> = Vec::new();
    let shapes = SHAPES.iter().zip(&COMPILED);
    for (shape, regex) in shapes.filter(|(shape, _)| wanted(shape) && text.contains(shape.needle)) {
        let Some(regex) = regex.get_or_init(|| compiled(shape)) else { continue };
        for captures in regex.captures_iter(text) {
            if let Some(hit) = captures.get(1).or_else(|| captures.get(0)) {
                found.push((hit.range(), shape));
            }
        }
    }
    // The sort is stable: of two shapes that begin at one place and are as long, the first in the table stays.
    found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    // One finding a secret, even where two shapes fit.
    found.dedup_by(|(next, _), (before, _)| next.start < before.end);
    found
}

/// The account in an access key's ID; `None` for one of the IDs from before 2019, which hold none, and of other shape.
/// The ID is base32, and the account is in its first six bytes.
pub fn account_of(id: &str) -> Option<String> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let body = id.get(4..).filter(|body| body.len() == 16)?;
    // Below this letter IDs were drawn at random.
    if body.as_bytes()[0] < b'Q' {
        return None;
    }
    let mut bits: u64 = 0;
    for byte in &body.as_bytes()[..10] {
        bits = bits << 5 | ALPHABET.iter().position(|letter| letter == byte)? as u64;
    }
    // Fifty bits: forty-eight of them are the six bytes.
    let account = ((bits >> 2) & 0x7fff_ffff_ff80) >> 7;
    Some(format!("{account:012}")).filter(|account| account.len() == 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_its_needle_is_in_what_it_finds() {
        let lost: Vec<_> = SHAPES.iter().filter(|shape| compiled(shape).is_none()).map(|s| s.name).collect();
        assert_eq!(lost, Vec::<&str>::new());
    }

    /// The worked example of the published description: *AWS Access Key ID formats*.
    #[test]
    fn an_access_key_names_its_account() {
        assert_eq!(account_of("ASIAQNZGKIQY56JQ7WML").as_deref(), Some("029608264753"));
        assert_eq!(account_of("AKIAIOSFODNN7EXAMPLE"), None);
        assert_eq!(account_of("AKIA"), None);
    }
}
