//! Login roles of PostgreSQL, against a real server.

use stanch::kind::postgres::role::{PostgresRole, RoleIssuer};

use crate::conformance::issuer_keeps_its_promises;
use crate::postgres_server::Pg;
use crate::servers::unique;

/// An issuer, as an operator who may create roles and nothing else.
async fn issuer(pg: &Pg, prefix: &str, more: &str) -> RoleIssuer {
    let (user, password) = pg.operator().await;
    let spec = format!(r#"{{"connection":"db","name":"{prefix}","member_of":["{prefix}_owner"]{more}}}"#);
    let spec: PostgresRole = serde_json::from_str(&spec).expect("an issuer");
    RoleIssuer::new(pg.client_as(&user, &password), spec).expect("an issuer")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL: scripts/test"]
async fn a_role_keeps_the_promises_of_an_issuer() {
    let (pg, prefix) = (Pg::shared(), unique("app"));
    pg.app(&prefix).await;
    let two_parts = issuer(&pg, &prefix, "").await;
    issuer_keeps_its_promises("postgres-role", &two_parts, "never-was").await;
    let url = r#","url":"postgresql://127.0.0.1:5432/app?sslmode=disable","end_sessions":"sunset""#;
    let one = issuer(&pg, &prefix, url).await;
    issuer_keeps_its_promises("postgres-role", &one, "never-was").await;
}
