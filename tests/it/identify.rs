//! `stanch identify`: by shape, offline; and what its issuer says.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::servers::Vault;
use crate::tool::{Ran, Tool};

/// Letters and digits that no dictionary has, as many as asked.
fn filler(letters: &str, n: usize) -> String {
    letters.chars().cycle().take(n).collect()
}

/// A made-up value of each shape, with a word of its name and the kind that stanch has for it.
fn samples() -> Vec<(String, &'static str, Option<&'static str>)> {
    let mixed = |n| filler("a1B2c3D4e5F6g7H8j9", n);
    let hex = |n| filler("0a1b2c3d4e5f6978", n);
    let upper = |n| filler("QZ7WERTYUIOP2345", n);
    let of = |prefix: &str, rest: String| format!("{prefix}{rest}");
    vec![
        (of("AKIA", upper(16)), "access key ID of AWS", Some("iam-access-key")),
        (of("ASIA", upper(16)), "temporary session of AWS", None),
        (of("hvs.", mixed(24)), "service token of Vault", Some("vault-token")),
        (of("hvb.", mixed(40)), "batch token of Vault", None),
        (of("hvr.", mixed(24)), "recovery token", None),
        (of("s.", mixed(24)), "service token of OpenBao", Some("vault-token")),
        (of("b.", mixed(30)), "batch token of OpenBao", None),
        (of("ghp_", mixed(36)), "(classic) of GitHub", None),
        (of("gho_", mixed(36)), "OAuth access token of GitHub", None),
        (of("ghu_", mixed(36)), "user access token of a GitHub App", None),
        (of("ghs_", mixed(36)), "installation access token", None),
        (of("ghr_", mixed(36)), "refresh token of a GitHub App", None),
        (of("github_pat_", mixed(60)), "fine-grained", None),
        (of("glpat-", mixed(20)), "access token of GitLab", None),
        (of("gldt-", mixed(20)), "deploy token of GitLab", None),
        (of("glrt-", mixed(20)), "runner authentication", None),
        (of("glptt-", hex(40)), "pipeline trigger", None),
        (of("glcbt-", mixed(24)), "CI job token", None),
        (of("https://hooks.slack.com/services/T", format!("{}/B{}/{}", upper(8), upper(8), mixed(24))), "webhook address of Slack", None),
        (of("xapp-1-A", format!("{}-1234567890123-{}", upper(9), hex(32))), "app-level token of Slack", None),
        (of("xoxb-", format!("123456789012-{}", mixed(24))), "token of Slack", None),
        (of(concat!("sk_", "live_"), mixed(24)), "secret key of Stripe", None),
        (of(concat!("rk_", "live_"), mixed(24)), "restricted key of Stripe", None),
        (of("whsec_", mixed(32)), "Stripe webhook", None),
        (of("npm_", mixed(36)), "token of npm", None),
        (of("pypi-AgEIcHlwaS5vcmc", mixed(80)), "API token of PyPI", None),
        (of("AIza", mixed(35)), "API key of Google", None),
        (of("GOCSPX-", mixed(28)), "client secret of Google", None),
        (of("ya29.", mixed(60)), "access token of Google", None),
        (of("SG.", format!("{}.{}", mixed(22), mixed(43))), "SendGrid", None),
        (of("sk-ant-", mixed(60)), "Anthropic", None),
        (of("sk-proj-", mixed(48)), "API key of OpenAI", None),
        (of("hf_", mixed(34)), "Hugging Face", None),
        (of("dop_v1_", hex(64)), "DigitalOcean", None),
        (of("shpat_", hex(32)), "Shopify", None),
        (of("dckr_pat_", mixed(27)), "Docker Hub", None),
        (of("a1B8Q~", mixed(34)), "Entra ID", None),
        (of("AccountKey=", format!("{}==", mixed(86))), "Azure Storage", None),
        (format!("{}.atlasv1.{}", mixed(14), mixed(67)), "Terraform Cloud", None),
        (of("glsa_", mixed(32)), "Grafana", None),
        (of("sntrys_", mixed(64)), "Sentry", None),
        (of("dapi", hex(32)), "Databricks", None),
        (of("PMAK-", format!("{}-{}", hex(24), hex(34))), "Postman", None),
        (of("lin_api_", mixed(40)), "Linear", None),
        (format!("123456789:AA{}", mixed(33)), "Telegram", None),
        (of("key-", hex(32)), "Mailgun", None),
        (of("AGE-SECRET-KEY-1", upper(58)), "identity of age", None),
        (format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----", mixed(70)), "private key of OpenSSH", None),
        (format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----", mixed(64)), "private key", None),
        ("eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIiwiZXhwIjoxODAwMDAwMDAwfQ.c2ln".to_owned(), "JSON web token", None),
        (format!("postgres://app:{}@db.example/app", mixed(20)), "password in an address", None),
        ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(), "secret access key of AWS", None),
        ("0b2f4c9e-7f58-4d8a-9a55-1f2a3b4c5d6e".to_owned(), "UUID", Some("approle-secret-id")),
        (hex(32), "32 hexadecimal", None),
        (hex(40), "40 hexadecimal", None),
    ]
}

fn identify(tool: &Tool, arguments: &[&str], input: &str) -> Ran {
    let mut command = tool.command(&[&["identify"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // One that refuses its input early may be gone.
    let _ = child.stdin.take().expect("input").write_all(input.as_bytes());
    Ran::of(child.wait_with_output().expect("it ends"))
}

/// Nothing is sent, for the environment names servers that would answer nobody; nothing is printed of the value.
#[test]
fn every_shape_is_named_offline_and_no_value_is_printed() {
    let closed = crate::servers::closed_port();
    let tool = Tool::new()
        .with("VAULT_ADDR", &format!("http://{closed}"))
        .with("AWS_ENDPOINT_URL", &format!("http://{closed}"));
    let all = samples();
    assert!(all.len() >= 40);
    for (value, name, kind) in all {
        let ran = identify(&tool, &["--json"], &format!("{value}\n")).expect(0);
        let found: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{name}: {found}");
        assert!(found[0]["what"].as_str().is_some_and(|what| what.contains(name)), "{name}: {found}");
        assert_eq!(found[0]["kind"].as_str(), kind, "{name}: {found}");
        assert_eq!(found[0]["issuer"], Value::Null, "{name}: nobody was asked");
        let text = identify(&tool, &[], &value).expect(0);
        // An access key's ID is its name.
        if !value.starts_with("AKIA") && !value.starts_with("ASIA") {
            for secret in value.split(['\n', '.', '/', '@', '=']).filter(|part| part.len() >= 16) {
                assert!(!format!("{text:?}{ran:?}").contains(secret), "{name}: {text:?}");
            }
        }
    }
    assert!(tool.journal().is_none(), "and nothing was recorded");
}

#[test]
fn a_runbook_that_rotates_it_is_named_and_what_is_none_is_said() {
    let tool = Tool::new();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let runbook = root.join("runbooks/vault-dev-server.yaml").display().to_string();
    let token = format!("hvs.{}", filler("a1B2c3D4e5F6g7H8j9", 24));
    let ran = identify(&tool, &[&runbook], &format!("export VAULT_TOKEN={token}")).expect(0);
    assert!(ran.stdout.contains(&format!("{runbook} rotates such credentials: app-token")), "{ran:?}");
    assert!(
        ran.stdout.contains("--strategy contain") && ran.stdout.contains("stanch revoke vault-token"),
        "{ran:?}"
    );
    let both = format!("{token}\nAKIA{}\n", filler("QZ7WERTYUIOP2345", 16));
    let ran = identify(&tool, &["--json"], &both).expect(0);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).expect("JSON").as_array().map(Vec::len), Some(2));
    let ran = identify(&tool, &[], "colour: blue").expect(1);
    assert!(ran.stdout.contains("no known shape"), "{ran:?}");
    for (input, why) in [("", "is empty"), (&"x".repeat(70_000), "64 KiB")] {
        assert!(identify(&tool, &[], input).expect(2).stderr.contains(why));
    }
    // A value is never an argument.
    let ran = identify(&tool, &[&token], "");
    assert_ne!(ran.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn the_issuer_says_whose_it_is() {
    let vault = Vault::shared();
    let body = json!({ "policies": ["default"], "ttl": "1h", "display_name": "payments" });
    let made = vault.api("POST", "auth/token/create-orphan", body).await;
    let (token, accessor) = (&made["auth"]["client_token"], &made["auth"]["accessor"]);
    let (token, accessor) = (token.as_str().expect("token"), accessor.as_str().expect("accessor"));
    let tool = Tool::new().with("VAULT_ADDR", &vault.address).with("VAULT_TOKEN", &vault.root);
    let ran = identify(&tool, &["--ask"], token).expect(0);
    for said in [accessor, "payments", "it has no policy of its own", "it is active"] {
        assert!(ran.stdout.contains(said), "{said}: {ran:?}");
    }
    assert!(ran.stdout.contains(&format!("stanch revoke vault-token {accessor}")), "{ran:?}");
    assert!(!format!("{ran:?}").contains(token));
    assert!(vault.accepts(token).await, "it was only asked about");
    tool.done(&["revoke", "vault-token", accessor, "--reason", "x", "--yes"]).await.expect(0);
    let ran = identify(&tool, &["--ask"], token).expect(0);
    assert!(ran.stdout.contains("its issuer does not know it"), "{ran:?}");
    // By its handle the run is found that killed it: an access key's ID, or what `--ask` told before.
    let run = tool.newest();
    assert!(run.starts_with("revoke-vault-token"), "{run}");
}
