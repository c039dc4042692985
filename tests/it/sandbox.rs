//! The sandbox keeps the promises that the real servers keep, in every guise that it takes.

use stanch::journal::StateDir;
use stanch::provider::Provider as _;
use stanch::provider::sandbox::Sandbox;
use stanch::runbook::model::Runbook;
use stanch::runbook::{Source, check};
use stanch::secret::{Material, Secret};

use crate::conformance::{StoreCase, issuer_keeps_its_promises, store_keeps_its_promises};

/// A credential for every guise of issuer and of store.
const GUISES: &str = r#"
version: 1
name: guises
environments: { sandbox: {} }
connections:
  world: { type: sandbox }
  vault: { type: vault }
  aws: { type: aws }
  github: { type: github }
credentials:
  plain:
    issuer: { type: sandbox, connection: world, policies: [read], ttl: 1h }
    scope: { max_ttl: 1h }
    stores:
      - { type: sandbox, connection: world, path: labelled, labels: true }
      - { type: sandbox, connection: world, path: numbered, labels: false }
  token:
    issuer: { type: vault-token, connection: vault, policies: [p], ttl: 1h }
    scope: { max_ttl: 1h }
    stores: [{ type: kv2, connection: vault, mount: secret, path: t, field: token, destroy_outgoing: true }]
  key:
    issuer: { type: iam-access-key, connection: aws, user: app }
    stores:
      - { type: secretsmanager, connection: aws, secret: s }
      - { type: github-actions-secret, connection: github, repository: shop/app, name: KEY }
    consumers: [{ name: job, attest: { sandbox: {} } }]
  generated:
    issuer: { type: random, apply: { exec: [tell] }, revoke: { exec: [tell] } }
    accepts: [{ exec: [ask] }]
    stores: [{ type: file, path: /nowhere/app.env, format: dotenv, key: KEY }]
"#;

async fn guises() -> (tempfile::TempDir, Sandbox, Runbook) {
    let folder = tempfile::tempdir().expect("folder");
    let state = StateDir::open(folder.path()).expect("state");
    let sandbox = Sandbox::open(&state.sandbox(), state.sealer().expect("sealer")).expect("sandbox");
    let checked = check(&Source { name: "guises".into(), text: GUISES.into() });
    let template = checked.runbook.unwrap_or_else(|| panic!("{:?}", checked.findings));
    (folder, sandbox, template.instantiate("sandbox").expect("sandbox"))
}

#[tokio::test]
async fn its_stores_conform() {
    let (_folder, sandbox, runbook) = guises().await;
    for (name, credential) in &runbook.credentials {
        sandbox.seed(name, credential).expect("seed");
        for index in 0..credential.stores.len() {
            let store = sandbox.store(name, credential, index).await.expect("store");
            // All hold one value, and the first of them can be read.
            let first = sandbox.store(name, credential, 0).await.expect("store");
            let old = first.read(None).await.expect("the seeded value");
            let new = Material::single("value", Secret::new("a-new-value-from-outside"));
            store_keeps_its_promises(
                "sandbox",
                StoreCase { store: store.as_ref(), old, new, nowhere: "999" },
            )
            .await;
        }
    }
}

#[tokio::test]
async fn its_issuers_conform() {
    // Not seeded: an access key's user may have two keys, and the suite makes two.
    let (_folder, sandbox, runbook) = guises().await;
    for (name, credential) in runbook.credentials.iter().filter(|(n, _)| *n != "generated") {
        let issuer = sandbox.issuer(name, credential).await.expect("issuer");
        issuer_keeps_its_promises("sandbox", issuer.as_ref(), "sbx-999999").await;
    }
}

#[tokio::test]
async fn a_third_access_key_is_refused() {
    let (_folder, sandbox, runbook) = guises().await;
    let issuer = sandbox.issuer("key", &runbook.credentials["key"]).await.expect("issuer");
    for _ in 0..2 {
        issuer.issue(&crate::servers::context(), None).await.expect("issue");
    }
    let third = issuer.issue(&crate::servers::context(), None).await.expect_err("a third");
    assert_eq!((third.kind, third.in_doubt), (stanch::domain::ErrorKind::Limit, false));
}

#[tokio::test]
async fn a_token_that_was_used_with_another_value_is_a_conflict() {
    let (_folder, sandbox, runbook) = guises().await;
    let credential = &runbook.credentials["key"];
    sandbox.seed("key", credential).expect("seed");
    let store = sandbox.store("key", credential, 0).await.expect("store");
    let (step, value) = (crate::servers::context(), |v: &str| Material::single("value", Secret::new(v)));
    store.stage(&step, &value("first-value")).await.expect("stage");
    let error = store.stage(&step, &value("other-value")).await.expect_err("another value");
    assert_eq!(error.kind, stanch::domain::ErrorKind::Conflict);
}
