//! Whole rotations of a certificate: that the instances serve the new one, and that a relying party refuses the old one, is
//! seen in handshakes alone.

use std::sync::Arc;

use rustls::{ALL_VERSIONS, SupportedProtocolVersion};
use serde_json::Value;
use stanch::secret::Material;

use crate::relying_party::{is_revoked, serials};
use crate::tls_server::{Clients, Talk, TlsServer, certified, material, server_certificate};
use crate::tool::{Ran, Tool, search};
use crate::worlds::World;

/// A world with a certificate, instances that serve it, and a relying party that it is shown to.
struct Served {
    world: World,
    before: Value,
    instances: Vec<TlsServer>,
    party: TlsServer,
    /// Where the instances are told to read the store again.
    reload: String,
}

impl Served {
    /// With this many instances, of which the first ones do as they are told and read the store again.
    async fn start(instances: usize, that_reload: usize, clients: Option<Clients>) -> Self {
        let mut world = World::pki().await;
        let before = world.current().await;
        let first = material(&before);
        let World::Pki { vault, party, path, .. } = &mut world else { unreachable!("it is in a Vault") };
        let clients_own = serials(vault, &party.mount).await;
        let own = server_certificate(vault, &party.mount).await;
        let all = serials(vault, &party.mount).await;
        party.others.extend(all.into_iter().filter(|serial| !clients_own.contains(serial)));
        let verified =
            Clients::Verified(party.root.clone(), format!("{}/v1/{}/crl", vault.address, party.mount));
        let start = async |of: &Material, clients, talk| {
            let versions: &'static [&'static SupportedProtocolVersion] = ALL_VERSIONS;
            TlsServer::start(certified(of, of), clients, versions, talk).await
        };
        let relying = start(&own, clients.unwrap_or(verified), Talk::Answers(200)).await;
        let mut started = Vec::new();
        for _ in 0..instances {
            started.push(start(&first, Clients::Unasked, Talk::Nothing).await);
        }
        let told = (vault.clone(), path.clone(), started[..that_reload].to_vec());
        let router = axum::Router::new().fallback(move || {
            let (vault, path, instances) = told.clone();
            async move {
                let read = vault.api("GET", &format!("secret/data/{path}"), Value::Null).await;
                let current = material(&read["data"]["data"]);
                instances.iter().for_each(|instance| instance.reload(&current));
            }
        });
        let reload = crate::servers::serve(router).await;
        Self { before, instances: started, party: relying, reload, world }
    }

    /// Whose consumer has these addresses. Without `ca_cert` the check trusts what the connection trusts.
    fn runbook(&self) -> String {
        let World::Pki { party, path, folder, .. } = &self.world else { unreachable!("it is in a Vault") };
        let addresses: Vec<&str> = self.instances.iter().map(|one| one.address.as_str()).collect();
        format!(
            r#"version: 1
name: app-key
environments:
  test: {{}}
connections:
  vault: {{ type: vault, ca_cert: {} }}
credentials:
  app-key:
    issuer: {{ type: vault-pki, connection: vault, mount: {}, role: app, common_name: app.test, alt_names: [a.app.test], ttl: 24h }}
    scope: {{ max_ttl: 24h }}
    stores:
      - {{ connection: vault, type: kv2, mount: secret, path: {path} }}
    consumers:
      - name: web
        reload: {{ http: {{ url: "{}/-/reload" }} }}
        attest: {{ tls: {{ addresses: {addresses:?}, server_name: app.test }} }}
    accepts:
      - tls: {{ address: "{}", path: / }}
phases:
  overlap: {{ at_least: 1s, at_most: 4s, until: [adopted] }}
  verify: {{ times: 2, every: 100ms, at_most: 6s }}
  proof: {{ times: 3, every: 100ms, at_most: 6s }}
"#,
            folder.path().join("root.pem").display(),
            party.mount,
            self.reload,
            self.party.address,
        )
    }

    /// A run, with the log of everything. No private key is in it, or in what it leaves.
    async fn run(&self) -> (Tool, Ran) {
        let tool = self.world.tool();
        let runbook = tool.runbook(&self.runbook());
        let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes", "-vv"]).await;
        let mut secrets = vec![self.world.operator_secret().expect("it has one")];
        for value in [&self.before, &self.world.current().await] {
            let key = value["private_key"].as_str().expect("a key");
            secrets.extend(
                key.lines().filter(|line| !line.starts_with("---") && line.len() > 12).map(str::to_owned),
            );
        }
        assert!(secrets.len() > 2, "there is something to look for");
        for secret in &secrets {
            assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "in the output");
        }
        // What is refused before it begins leaves no record.
        if tool.journal().is_some() {
            search(&tool.state(), &secrets);
        }
        (tool, ran)
    }

    /// What went on while the run did: the old certificate still works.
    async fn is_still_accepted(&self) -> bool {
        self.world.accepts(&self.before).await
    }
}

/// The proof is of both kinds: the instances serve the new one, and the relying party refuses the old one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_certificate_is_rotated_by_what_handshakes_show() {
    let served = Served::start(2, 2, None).await;
    let (tool, ran) = served.run().await;
    let ran = ran.expect(0);
    served.world.is_rotated(&served.before).await;
    let status = tool.status();
    assert_eq!(status["end"], "done");
    assert!(status["consumers"].to_string().contains("2"), "{status}");
    // The log says that handshakes were made, and with whom.
    for address in served.instances.iter().map(|one| &one.address).chain([&served.party.address]) {
        assert!(ran.stderr.contains(address.as_str()), "{address}: {}", ran.stderr);
    }
    let mut places = status["vantages"].as_array().expect("places").iter();
    let party =
        places.find(|place| place["place"].as_str().is_some_and(|name| name.contains(&served.party.address)));
    assert_eq!(party.expect("the relying party")["proved"], true, "{status:#}");
}

/// The instances that go on serving the old certificate hold the run up before it is revoked, and are named.
async fn is_not_adopted(instances: usize, that_reload: usize) {
    let served = Served::start(instances, that_reload, None).await;
    let (tool, ran) = served.run().await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let (late, moved) = (&served.instances[that_reload], &served.instances[..that_reload]);
    assert!(
        said.contains(&format!("{that_reload} of {instances} instances use the new credential")),
        "{said}"
    );
    assert!(said.contains(&format!("{} uses another one", late.address)), "{said}");
    assert!(moved.iter().all(|one| !said.contains(&format!("{} uses another", one.address))), "{said}");
    assert!(served.is_still_accepted().await, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_server_that_does_not_reload_has_not_adopted() {
    is_not_adopted(1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn one_old_instance_of_two_is_named() {
    is_not_adopted(2, 1).await;
}

/// A relying party that takes any certificate never proves the old one dead.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_relying_party_that_accepts_everybody_proves_nothing() {
    let served = Served::start(1, 1, Some(Clients::Anyone)).await;
    let (tool, ran) = served.run().await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains(&served.party.address), "{ran:?}");
}

/// One that refuses any is found before anything is changed, by the old one that it should accept.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_relying_party_that_refuses_everybody_is_found_first() {
    let served = Served::start(1, 1, Some(Clients::Nobody)).await;
    let (_, ran) = served.run().await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert!(ran.stderr.contains("certificate_revoked"), "{ran:?}");
    assert_eq!(served.world.current().await, served.before, "nothing was changed");
    assert!(served.is_still_accepted().await);
}

/// One that asks for no certificate cannot say anything of one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_relying_party_that_asks_for_no_certificate_is_found_first() {
    let served = Served::start(1, 1, Some(Clients::Unasked)).await;
    let (_, ran) = served.run().await;
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    assert!(ran.stderr.contains("asks for no certificate"), "{ran:?}");
    assert_eq!(served.world.current().await, served.before, "nothing was changed");
}

/// One that begins to refuse everybody once the old one is revoked: the control fails, and no refusal counts.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Vault: scripts/test"]
async fn a_refusal_without_its_control_is_no_proof() {
    let served = Served::start(1, 1, None).await;
    let World::Pki { vault, party, .. } = &served.world else { unreachable!("it is in a Vault") };
    let (mount, watched) = (party.mount.clone(), vault.clone());
    let old = served.world.existing().await.remove(0);
    let turns = Arc::clone(&served.party.turned);
    let watching = tokio::spawn(async move {
        while !is_revoked(&watched, &mount, &old).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        *turns.lock().expect("lock") = Some(Clients::Nobody);
    });
    let (tool, ran) = served.run().await;
    assert!(watching.is_finished(), "it was revoked: {ran:?}");
    assert!(!matches!(ran.code, Some(0)), "{ran:?}");
    assert_ne!(tool.status()["end"], "done");
}

/// The sandbox has an instance for each address, and a relying party.
#[test]
fn the_sandbox_plays_every_address() {
    let tool = Tool::new();
    let runbook = tool.runbook(
        r#"version: 1
name: app-key
environments:
  sandbox: {}
connections:
  vault: { type: vault }
credentials:
  app-key:
    issuer: { type: vault-pki, connection: vault, role: app, common_name: app.test, ttl: 24h }
    scope: { max_ttl: 24h }
    stores:
      - { connection: vault, type: kv2, mount: secret, path: app }
    consumers:
      - name: web
        reload: { http: { url: "https://app.test/-/reload" } }
        attest: { tls: { addresses: ["a.app.test:443", "b.app.test:443", "[::1]:443"], starttls: postgres } }
    accepts:
      - tls: { address: "party.test:443", path: / }
phases:
  overlap: { at_least: 1s, until: [adopted] }
  proof: { times: 2, every: 100ms }
"#,
    );
    tool.run(&["run", runbook.to_str().expect("path"), "--env", "sandbox", "--yes"]).expect(0);
    let status = tool.status();
    assert_eq!((&status["consumers"][0]["instances"], &status["consumers"][0]["of"]), (&3.into(), &3.into()));
    assert!(status["vantages"].to_string().contains("check 1 (party.test:443)"), "{status:#}");
}
