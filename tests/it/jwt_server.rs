//! A service whose tokens are verified by a JWKS: the set is served, cached as its `Cache-Control` says, and used by a
//! verifier that is not the code under test.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::servers::{Vault, serve, unique};

/// Whom the tokens are for.
pub(crate) const AUDIENCE: &str = "app";

/// Where the set is, and the private key.
pub(crate) enum Place {
    Files(tempfile::TempDir),
    /// The set in one secret, the key in another.
    Vault {
        vault: Vault,
        set: String,
        key: String,
        operator: String,
    },
}

/// The set, who serves it, and who verifies by it.
pub(crate) struct Keys {
    pub(crate) place: Place,
    pub(crate) url: String,
    /// For how many seconds an answer may be used.
    pub(crate) max_age: u64,
    /// The document before anything was changed.
    pub(crate) first: Value,
    served: Arc<Served>,
}

/// What the server does.
struct Served {
    source: Source,
    max_age: u64,
    /// Serves this document whatever the set is.
    stale: Mutex<Option<String>>,
    /// What the set was, and since when. The verifier that the consumer's requests go to is always as late as it may be,
    /// as one that read the set right before it changed; the one that checks ask reads it each time, and so says nothing
    /// about the other.
    history: Mutex<Vec<(Instant, JwkSet)>>,
    /// Verifies nothing.
    gullible: AtomicBool,
    verified: AtomicU64,
}

enum Source {
    File(PathBuf),
    Vault(Vault, String),
}

impl Source {
    async fn text(&self) -> String {
        match self {
            Self::File(path) => std::fs::read_to_string(path).expect("the set"),
            Self::Vault(vault, path) => {
                let read = vault.api("GET", &format!("secret/data/{path}"), Value::Null).await;
                read["data"]["data"]["jwks"].as_str().expect("the set").to_owned()
            }
        }
    }
}

impl Served {
    async fn document(&self) -> String {
        match &*self.stale.lock().await {
            Some(text) => text.clone(),
            None => self.source.text().await,
        }
    }

    async fn set(&self) -> JwkSet {
        serde_json::from_str(&self.document().await).expect("a verifier reads the set")
    }

    /// The set as the verifier of the consumer's requests knows it.
    async fn known_late(&self) -> JwkSet {
        let mut history = self.history.lock().await;
        let set = self.set().await;
        if history.last().is_none_or(|(_, last)| *last != set) {
            history.push((Instant::now(), set));
        }
        // Changes are noticed when a request comes, up to this much late.
        let late = Duration::from_secs(self.max_age).saturating_sub(Duration::from_millis(500));
        let old_enough = history.iter().rposition(|(since, _)| *since + late <= Instant::now());
        history[old_enough.unwrap_or(0)].1.clone()
    }

    /// Whether a token is valid, by the key that its header names.
    async fn accepts(&self, late: bool, token: &str) -> bool {
        let set = if late { self.known_late().await } else { self.set().await };
        let valid = || {
            let header = decode_header(token).ok()?;
            let jwk = set.find(header.kid.as_deref()?)?;
            let mut rules = Validation::new(match jwk.common.key_algorithm?.to_string().as_str() {
                "ES256" => Algorithm::ES256,
                "EdDSA" => Algorithm::EdDSA,
                "RS256" => Algorithm::RS256,
                _ => return None,
            });
            rules.set_audience(&[AUDIENCE]);
            decode::<Value>(token, &DecodingKey::from_jwk(jwk).ok()?, &rules).ok()
        };
        valid().is_some()
    }

    fn router(self: Arc<Self>) -> axum::Router {
        let (set, check) = (Arc::clone(&self), self);
        let set = async move || {
            let lasts = format!("public, max-age={}", set.max_age);
            (
                [("cache-control", lasts), ("content-type", "application/jwk-set+json".to_owned())],
                set.document().await,
            )
        };
        let verify = |late: bool| {
            let this = Arc::clone(&check);
            get(async move |headers: HeaderMap| {
                let token =
                    headers.get("authorization").and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
                this.verified.fetch_add(1, Ordering::Relaxed);
                let believed = this.gullible.load(Ordering::Relaxed);
                match token {
                    Some(token) if believed || this.accepts(late, token).await => StatusCode::OK,
                    _ => StatusCode::UNAUTHORIZED,
                }
            })
        };
        axum::Router::new()
            .route("/check", verify(false))
            .route("/api", verify(true))
            .route("/jwks.json", get(set))
    }
}

/// A private key in PEM, and the JWK of its public half, made without the code under test.
fn pair(kid: &str) -> (String, Value) {
    let random = SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref()).expect("a key");
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half));
    let body = STANDARD.encode(made.as_ref());
    let lines: Vec<&str> =
        body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    (pem, json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": "ES256", "use": "sig", "kid": kid }))
}

impl Keys {
    /// In files: the set, and what the signer reads.
    pub(crate) async fn in_files(max_age: u64) -> Self {
        Self::new(None, max_age).await
    }

    /// In the shared Vault.
    pub(crate) async fn in_vault(max_age: u64) -> Self {
        Self::new(Some(Vault::shared()), max_age).await
    }

    async fn new(vault: Option<Vault>, max_age: u64) -> Self {
        // Its name is not stanch's, as that of a key which another program made.
        let kid = unique("made-by-hand");
        let (pem, jwk) = pair(&kid);
        let (_, neighbour) = pair("neighbour");
        let text = format!(
            "{{\"note\": \"kept, 1.10\", \"keys\": [\n  {{\"x5t\": \"of a neighbour\", {},\n  {jwk}],\n \"version\":12345678901234567890123}}\n",
            &neighbour.to_string()[1..]
        );
        let first = serde_json::from_str(&text).expect("JSON");
        let write = |path: PathBuf, text: &str| {
            let mut file = std::fs::File::create(path).expect("file");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("file");
        };
        let (place, source) = match vault {
            None => {
                let folder = tempfile::tempdir().expect("folder");
                let set = folder.path().join("jwks.json");
                write(set.clone(), &text);
                let first = json!({ "private_key": pem, "kid": kid }).to_string();
                write(folder.path().join("key.json"), &first);
                (Place::Files(folder), Source::File(set))
            }
            Some(vault) => {
                let (set, key) = (unique("set"), unique("key"));
                let document = json!({ "data": { "jwks": text, "owner": "kept" } });
                vault.api("POST", &format!("secret/data/{set}"), document).await;
                let first = json!({ "data": { "pem": pem, "kid": kid, "note": "kept" } });
                vault.api("POST", &format!("secret/data/{key}"), first).await;
                let rules = |path: &str| {
                    format!(
                        "path \"secret/data/{path}\" {{ capabilities = [\"read\", \"update\"] }}\n\
                         path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}\n"
                    )
                };
                let operator = vault.token(&(rules(&set) + &rules(&key))).await;
                let source = Source::Vault(vault.clone(), set.clone());
                (Place::Vault { vault, set, key, operator }, source)
            }
        };
        let served = Arc::new(Served {
            source,
            max_age,
            stale: Mutex::default(),
            history: Mutex::default(),
            gullible: AtomicBool::new(false),
            verified: AtomicU64::new(0),
        });
        let url = serve(Arc::clone(&served).router()).await;
        Self { place, url, max_age, first, served }
    }

    /// The document as it is.
    pub(crate) async fn document(&self) -> Value {
        serde_json::from_str(&self.served.source.text().await).expect("JSON")
    }

    /// From now on the present document is served, whatever becomes of the set.
    pub(crate) async fn freeze(&self) {
        let text = self.served.source.text().await;
        *self.served.stale.lock().await = Some(text);
    }

    /// From now on every token is accepted.
    pub(crate) fn believe_everything(&self) {
        self.served.gullible.store(true, Ordering::Relaxed);
    }

    /// How many tokens the verifier was shown.
    pub(crate) fn verified(&self) -> u64 {
        self.served.verified.load(Ordering::Relaxed)
    }

    /// The kids in a document's list that are no neighbour's.
    fn kids(list: &Value) -> Vec<String> {
        let kids = list.as_array().into_iter().flatten().filter_map(|key| key["kid"].as_str());
        kids.filter(|kid| *kid != "neighbour").map(str::to_owned).collect()
    }

    /// The keys by which tokens are valid.
    pub(crate) async fn valid(&self) -> Vec<String> {
        Self::kids(&self.document().await["keys"])
    }

    /// The keys that stanch took away from verifiers, and keeps.
    pub(crate) async fn retired(&self) -> Vec<String> {
        Self::kids(&self.document().await["stanch"]["retired"])
    }

    /// The private key and its kid, as the signer reads them.
    pub(crate) async fn current(&self) -> Value {
        match &self.place {
            Place::Files(folder) => {
                let text = std::fs::read_to_string(folder.path().join("key.json")).expect("file");
                serde_json::from_str(&text).expect("JSON")
            }
            Place::Vault { vault, key, .. } => {
                let read = vault.api("GET", &format!("secret/data/{key}"), Value::Null).await;
                let fields = &read["data"]["data"];
                json!({ "private_key": fields["pem"], "kid": fields["kid"], "note": fields["note"] })
            }
        }
    }

    /// Whether the verifier accepts a token of this key.
    pub(crate) async fn accepts(&self, value: &Value) -> bool {
        let part = |name: &str| value[name].as_str().expect("part");
        let body: String = part("private_key").lines().filter(|line| !line.starts_with("---")).collect();
        let key = jsonwebtoken::EncodingKey::from_ec_der(&STANDARD.decode(body).expect("base64"));
        let mut header = jsonwebtoken::Header::new(Algorithm::ES256);
        header.kid = Some(part("kid").to_owned());
        let exp = jsonwebtoken::get_current_timestamp() + 60;
        let token = jsonwebtoken::encode(&header, &json!({ "aud": AUDIENCE, "exp": exp }), &key);
        let token = token.expect("a token");
        let both = [self.served.accepts(false, &token).await, self.served.accepts(true, &token).await];
        assert_eq!(both[0], both[1], "the verifiers agree");
        both[0]
    }

    /// Panics unless all but stanch's own keys is as it was, to the digit.
    pub(crate) async fn neighbours_are_kept(&self) {
        let text = self.served.source.text().await;
        for kept in ["12345678901234567890123", "\"kept, 1.10\"", "\"x5t\": \"of a neighbour\""] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        let found = self.document().await;
        let neighbour = |document: &Value| {
            document["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == "neighbour").cloned()
        };
        assert_eq!(neighbour(&found), neighbour(&self.first));
        if let Place::Vault { vault, set, .. } = &self.place {
            let read = vault.api("GET", &format!("secret/data/{set}"), Value::Null).await;
            assert_eq!(read["data"]["data"]["owner"], "kept");
        }
    }

    /// Waits until each verifier knows the set as it is.
    async fn caught_up(&self) {
        while self.served.known_late().await != self.served.set().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Panics unless the document is as it was.
    pub(crate) async fn is_as_before(&self) {
        self.caught_up().await;
        let members = |document: &Value| -> (BTreeMap<String, Value>, BTreeMap<String, Value>) {
            let keys = document["keys"].as_array().expect("keys").iter();
            let keys = keys.map(|key| (key["kid"].to_string(), key.clone())).collect();
            let rest = document.as_object().expect("an object").iter().filter(|(name, _)| *name != "keys");
            (keys, rest.map(|(name, value)| (name.clone(), value.clone())).collect())
        };
        assert_eq!(members(&self.document().await), members(&self.first));
    }

    /// The issuer, as a runbook has it, and its checks.
    pub(crate) fn issuer(&self, more: &str) -> String {
        let set = match &self.place {
            Place::Files(folder) => format!("{{ file: {} }}", folder.path().join("jwks.json").display()),
            Place::Vault { set, .. } => {
                format!("{{ kv2: {{ connection: vault, mount: secret, path: {set}, field: jwks }} }}")
            }
        };
        let (url, cache) = (&self.url, self.max_age);
        format!(
            "issuer:\n      type: jwt-signing-key\n      set: {set}\n      cache: {cache}s\n      jwks: [\"{url}/jwks.json\"]\n      \
             token: {{ aud: {AUDIENCE} }}{more}\n    accepts:\n      - http: {{ url: \"{url}/check\", bearer: true }}"
        )
    }

    /// The store of the private key, as a runbook has it.
    pub(crate) fn store(&self) -> String {
        match &self.place {
            Place::Files(folder) => {
                format!("{{ type: file, path: {}, format: text }}", folder.path().join("key.json").display())
            }
            Place::Vault { key, .. } => format!(
                "{{ connection: vault, type: kv2, mount: secret, path: {key}, fields: {{ private_key: pem, kid: kid }} }}"
            ),
        }
    }
}
