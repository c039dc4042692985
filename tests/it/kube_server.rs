//! A namespace in the real API server of Kubernetes, set up and asked by other means than the code under test.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::servers::{DEADLINE, server, unique};

const JSON: &str = "application/json";
/// What stanch needs for one Secret, and to see its namespace.
pub(crate) const VERBS: [&str; 2] = ["get", "patch"];

/// A namespace, as the cluster's administrator sees it.
#[derive(Clone)]
pub(crate) struct Namespace {
    pub(crate) url: String,
    /// The file of the certificates that it is trusted by.
    pub(crate) ca: PathBuf,
    administrator: String,
    http: reqwest::Client,
    pub(crate) name: String,
}

impl Namespace {
    /// A new one.
    pub(crate) async fn new() -> Self {
        let ca = PathBuf::from(server("STANCH_TEST_KUBERNETES_CA"));
        let pem = std::fs::read(&ca).expect("certificates");
        let roots = reqwest::Certificate::from_pem_bundle(&pem).expect("certificates");
        let http = reqwest::Client::builder().no_proxy().tls_certs_only(roots).timeout(DEADLINE);
        let this = Self {
            url: server("STANCH_TEST_KUBERNETES_URL"),
            ca,
            administrator: server("STANCH_TEST_KUBERNETES_TOKEN"),
            http: http.build().expect("client"),
            name: unique("app"),
        };
        let metadata = json!({ "name": this.name });
        this.done("POST", "/api/v1/namespaces", &json!({ "metadata": metadata })).await;
        this
    }

    /// One request as the administrator.
    pub(crate) async fn ask(&self, method: &str, path: &str, kind: &str, body: &Value) -> (u16, Value) {
        let request = self.http.request(method.parse().expect("method"), format!("{}{path}", self.url));
        let request = request.bearer_auth(&self.administrator).header("content-type", kind);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = request.body(body).send().await.expect("Kubernetes answers");
        let (status, text) = (answer.status().as_u16(), answer.text().await.expect("body"));
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// The same; panics when it is refused.
    pub(crate) async fn done(&self, method: &str, path: &str, body: &Value) -> Value {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { JSON };
        let (status, answer) = self.ask(method, path, kind, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// The path of something in the namespace.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}/{rest}", self.name)
    }

    /// Makes a Secret with these texts, as `kubectl create` does.
    pub(crate) async fn secret(&self, name: &str, texts: &Value) -> Value {
        self.secret_with(name, json!({ "stringData": texts })).await
    }

    /// The same, with more fields; those of `metadata` as well.
    pub(crate) async fn secret_with(&self, name: &str, mut fields: Value) -> Value {
        fields["metadata"]["name"] = name.into();
        self.done("POST", &self.path("secrets?fieldManager=kubectl-create"), &fields).await
    }

    pub(crate) async fn get(&self, name: &str) -> Value {
        self.done("GET", &self.path(&format!("secrets/{name}")), &Value::Null).await
    }

    /// The texts of a Secret.
    pub(crate) async fn texts(&self, name: &str) -> Value {
        let found = self.get(name).await;
        let data = found["data"].as_object().expect("data").iter();
        data.map(|(key, value)| {
            let bytes = STANDARD.decode(value.as_str().expect("text")).expect("base64");
            (key.clone(), Value::from(String::from_utf8_lossy(&bytes)))
        })
        .collect()
    }

    /// Changes fields of a Secret, as this manager.
    pub(crate) async fn patch(&self, name: &str, manager: &str, fields: &Value) {
        let path = self.path(&format!("secrets/{name}?fieldManager={manager}"));
        self.done("PATCH", &path, fields).await;
    }

    /// Applies texts server-side, as a controller does that declares what they are to be.
    pub(crate) async fn apply(&self, name: &str, manager: &str, texts: &Value) -> (u16, Value) {
        let path = self.path(&format!("secrets/{name}?fieldManager={manager}"));
        let data: Value = texts
            .as_object()
            .expect("texts")
            .iter()
            .map(|(key, text)| (key.clone(), Value::from(STANDARD.encode(text.as_str().expect("text")))))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let body =
            json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "data": data });
        self.ask("PATCH", &path, "application/apply-patch+yaml", &body).await
    }

    /// The token of a new service account that may do this, each a resource with a name and verbs.
    pub(crate) async fn account(&self, rules: &[(&str, &str, &[&str])]) -> String {
        let name = unique("operator");
        let metadata = json!({ "name": name });
        self.done("POST", &self.path("serviceaccounts"), &json!({ "metadata": metadata })).await;
        let rules: Vec<Value> = rules
            .iter()
            .map(|(resource, name, verbs)| {
                json!({ "apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": verbs })
            })
            .collect();
        let rbac = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{}", self.name);
        let role = json!({ "metadata": metadata, "rules": rules });
        self.done("POST", &format!("{rbac}/roles"), &role).await;
        let binding = json!({
            "metadata": metadata,
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
            "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.name }],
        });
        self.done("POST", &format!("{rbac}/rolebindings"), &binding).await;
        let path = self.path(&format!("serviceaccounts/{name}/token"));
        let made = self.done("POST", &path, &json!({ "spec": {} })).await;
        made["status"]["token"].as_str().expect("a token").to_owned()
    }

    /// The token of an operator of one Secret.
    pub(crate) async fn operator(&self, secret: &str) -> String {
        self.account(&[("secrets", secret, &VERBS), ("namespaces", &self.name, &["get"])]).await
    }

    /// A kubeconfig, as a file holds it.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        let (url, ca) = (&self.url, self.ca.display());
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n\
             clusters: [{{name: test, cluster: {{server: '{url}', certificate-authority: {ca}}}}}]\n\
             users: [{{name: test, user: {{token: {token}}}}}]\n"
        )
    }
}
