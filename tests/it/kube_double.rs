//! A Secret of Kubernetes, where the API server does what the real one cannot be brought to: it lies, breaks off, echoes
//! what it was sent, and never lets a write through. What the real one does is in `kube.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stanch::domain::ErrorKind;
use stanch::kind::kubernetes::secret::SecretStore;
use stanch::kind::kubernetes::{KubeClient, Kubernetes, Settings};
use stanch::provider::layout::Layout;
use stanch::provider::{CallError, Promoted, Store as _};
use stanch::secret::{Material, Secret};

use crate::servers::{DEADLINE, context, serve};

const NEIGHBOUR: &str = "neighbour-of-the-canary";
const NEW: &str = "hunter2-hunter2-new";

/// How a write is answered.
#[derive(Clone, Copy)]
enum Mode {
    /// With a success, and nothing is done.
    Lies,
    /// It is done, and the answer is a failure of something else.
    Breaks,
    /// It is done, and the answer is another Secret.
    Other,
    /// With a log-in page.
    Page,
    /// Another manager wrote it just before, each time.
    Overtaken,
    /// It is refused, with what was sent in the words.
    Echoes,
    /// It is refused by something that does not speak as Kubernetes does.
    Refused,
    /// Nothing is asked but reads, and their answers have this at this place.
    Stranger(&'static str, &'static str),
}

struct Kept {
    mode: Mode,
    secret: Value,
    writes: usize,
}

type Shared = Arc<Mutex<Kept>>;

async fn answer(State(kept): State<Shared>, method: Method, body: Bytes) -> axum::response::Response {
    let mut kept = kept.lock().expect("lock");
    if method == Method::GET {
        let mut answer = kept.secret.clone();
        if let Mode::Stranger(field, value) = kept.mode {
            *answer.pointer_mut(field).expect("a field") = value.into();
        }
        return axum::Json(answer).into_response();
    }
    kept.writes += 1;
    let sent: Value = serde_json::from_slice(&body).expect("JSON");
    let mut after = kept.secret.clone();
    after["data"]["token"] = sent["data"]["token"].clone();
    after["metadata"]["resourceVersion"] = format!("{}", 100 + kept.writes).into();
    let status = |code: u16, reason: &str, message: String, field: &str| {
        let causes = json!([{ "reason": "FieldValueInvalid", "message": message, "field": field }]);
        let details = json!({ "causes": if field.is_empty() { json!([]) } else { causes } });
        let body = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message, "details": details });
        (StatusCode::from_u16(code).expect("a status"), axum::Json(body)).into_response()
    };
    match kept.mode {
        Mode::Lies => axum::Json(kept.secret.clone()).into_response(),
        Mode::Breaks => {
            kept.secret = after;
            (StatusCode::BAD_GATEWAY, "<html>").into_response()
        }
        Mode::Other => {
            kept.secret = after.clone();
            after["metadata"]["uid"] = "another".into();
            axum::Json(after).into_response()
        }
        Mode::Page => "<html>log in</html>".into_response(),
        Mode::Overtaken => status(409, "Conflict", "the object has been modified".to_owned(), ""),
        Mode::Echoes => {
            let value = sent["data"]["token"].as_str().expect("text");
            status(
                422,
                "Invalid",
                format!("data[token]: Invalid value: {value} {NEW}, beside {NEIGHBOUR}"),
                "data[token]",
            )
        }
        Mode::Stranger(..) => panic!("it was written"),
        Mode::Refused => (StatusCode::UNPROCESSABLE_ENTITY, format!("<html>{NEW}</html>")).into_response(),
    }
}

fn token(text: &str) -> Material {
    Material::single("token", Secret::new(text))
}

struct Double {
    store: SecretStore,
    kept: Shared,
}

impl Double {
    async fn start(mode: Mode) -> Self {
        let metadata = json!({ "name": "app", "namespace": "ns", "uid": "u", "resourceVersion": "1" });
        let secret = json!({ "kind": "Secret", "metadata": metadata, "data": { "token": STANDARD.encode("old"), "other": STANDARD.encode(NEIGHBOUR) } });
        let kept = Arc::new(Mutex::new(Kept { mode, secret, writes: 0 }));
        let url = serve(axum::Router::new().fallback(answer).with_state(Arc::clone(&kept))).await;
        Self { store: store(&url, DEADLINE), kept }
    }

    async fn promote(&self) -> Result<Promoted, CallError> {
        self.store.promote(&context(), &token(NEW), &token("old"), None).await
    }
}

/// A store on the Secret `ns/app` of this server.
pub(crate) fn store(url: &str, deadline: Duration) -> SecretStore {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("config");
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
         clusters: [{{name: c, cluster: {{server: '{url}'}}}}]\nusers: [{{name: u, user: {{token: canary-of-the-operator}}}}]\n"
    );
    std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), text.as_bytes())
        .expect("file");
    let path = path.display().to_string();
    let env = |name: &str| (name == "KUBECONFIG").then(|| path.clone());
    let settings = Settings::resolve(&Kubernetes { context: Some("c".to_owned()), address: None }, &env)
        .expect("settings");
    let client = Arc::new(KubeClient::new(settings, deadline).expect("client"));
    let layout = Layout::new(&["token"], Some("token"), &BTreeMap::new()).expect("layout");
    SecretStore::new(client, "ns", "app", layout, false).expect("a store")
}

#[tokio::test]
async fn a_success_without_the_new_value_is_in_doubt() {
    for mode in [Mode::Lies, Mode::Other, Mode::Page, Mode::Breaks] {
        let double = Double::start(mode).await;
        let error = double.promote().await.expect_err("no success");
        assert!(error.in_doubt, "{error:?}");
    }
}

/// A reply that is lost is settled by reading back: the second call finds the value, and writes nothing.
#[tokio::test]
async fn a_lost_reply_is_settled_by_reading_back() {
    let double = Double::start(Mode::Breaks).await;
    assert!(double.promote().await.expect_err("broken").in_doubt);
    let again = double.promote().await.expect("it is there");
    assert_eq!(again, Promoted { version: "101".to_owned(), was: None });
    assert_eq!(double.kept.lock().expect("lock").writes, 1, "it was written once");
}

#[tokio::test]
async fn a_secret_that_others_write_all_the_time_is_given_up_without_doubt() {
    let double = Double::start(Mode::Overtaken).await;
    let error = double.promote().await.expect_err("overtaken");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert!(error.message.contains("again and again"), "{error:?}");
}

#[tokio::test]
async fn a_refusal_that_echoes_the_value_is_named_without_it() {
    let double = Double::start(Mode::Echoes).await;
    let error = double.promote().await.expect_err("refused");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    let said = format!("{error:?}");
    assert!(said.contains("data[token]") && said.contains("admission webhook"), "{said}");
    assert!(!said.contains(NEIGHBOUR), "an admission webhook sees all of the Secret: {said}");
    assert!(!said.contains("hunter2") && !said.contains(&STANDARD.encode(NEW)), "{said}");
    let double = Double::start(Mode::Refused).await;
    let error = double.promote().await.expect_err("refused");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

/// A proxy or a cache may answer with another thing than was asked for.
#[tokio::test]
async fn another_object_in_the_place_of_the_secret_is_not_taken_for_it() {
    for (field, value) in [
        ("/kind", "ConfigMap"),
        ("/metadata/name", "other"),
        ("/metadata/namespace", "other"),
        ("/metadata/uid", ""),
        ("/metadata/resourceVersion", ""),
    ] {
        let double = Double::start(Mode::Stranger(field, value)).await;
        for error in [
            double.promote().await.expect_err(field),
            double.store.observe().await.expect_err(field),
            double.store.read(None).await.expect_err(field),
        ] {
            assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, false), "{field}: {error:?}");
        }
    }
}
