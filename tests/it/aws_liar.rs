//! An access key against an IAM that says yes and does nothing. Trusted: ministack, for refusing inactive and deleted
//! keys; what lies is in front of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::servers::{ministack, plain_http, serve};
use crate::worlds::World;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// It answers the deletion with success, and does not delete. The key stays inactive.
    Deletion,
    /// Neither the deletion nor the status is carried out, and no list shows the key any more.
    Everything,
}

/// ministack with IAM's answers about this key replaced.
async fn liar(old: String, lie: Lie) -> String {
    let deleted = Arc::new(AtomicBool::new(false));
    let router = axum::Router::new().fallback(move |request: Request| {
        let (old, deleted) = (old.clone(), Arc::clone(&deleted));
        async move {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
            let text = String::from_utf8_lossy(&body).into_owned();
            let asks = |action: &str| text.contains(&format!("Action={action}&"));
            let about_old = text.contains(&old);
            if about_old && asks("DeleteAccessKey") {
                deleted.store(true, Ordering::SeqCst);
                return yes("DeleteAccessKey");
            }
            if about_old && asks("UpdateAccessKey") && lie == Lie::Everything {
                return yes("UpdateAccessKey");
            }
            // The signature holds for the host that the client named.
            let sent = plain_http()
                .request(parts.method, format!("{}{}", ministack(), parts.uri))
                .headers(parts.headers)
                .body(body)
                .send();
            let got = sent.await.expect("ministack answers");
            let (status, mut headers) = (got.status(), got.headers().clone());
            headers.remove("content-length");
            headers.remove("transfer-encoding");
            let answer = got.bytes().await.expect("a body");
            if lie == Lie::Everything && asks("ListAccessKeys") && deleted.load(Ordering::SeqCst) {
                return (status, headers, without(&answer, &old)).into_response();
            }
            (status, headers, answer).into_response()
        }
    });
    serve(router).await
}

fn yes(action: &str) -> Response {
    let words = format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></{action}Response>"
    );
    (StatusCode::OK, [("x-amzn-requestid", "1"), ("content-type", "text/xml")], words).into_response()
}

/// A list of keys without this one.
fn without(list: &Bytes, key: &str) -> String {
    let list = String::from_utf8_lossy(list);
    let members = list.split_inclusive("</member>");
    members
        .map(|part| match part.find("<member>") {
            Some(at) if part.contains(key) => &part[..at],
            _ => part,
        })
        .collect()
}

async fn does_not_end_as_done(lie: Lie) {
    let world = World::aws().await;
    let old = world.existing().await.pop().expect("a key");
    let consumer = world.consumer().await;
    let tool = world.tool_through(&liar(old, lie).await);
    let runbook = world.runbook(&consumer.url, Some("overlap: { until: [adopted] }"));
    let runbook = tool.runbook(&(runbook + "limits: { deadline: 5s }\n"));
    let before = world.current().await;
    let ran = tool.done(&["run", runbook.to_str().expect("path"), "--env", "test", "--yes"]).await;
    assert!(tool.journal().is_some(), "{ran:?}");
    assert!(!matches!(ran.code, Some(0 | 15)), "{ran:?}");
    let status = tool.status();
    assert_ne!(status["end"], "done");
    let asked = status["vantages"].as_array().expect("a list");
    assert!(!asked.is_empty() && asked.iter().all(|at| at["proved"] == false), "{status}");
    assert_eq!(world.existing().await.len(), 2, "it did not delete");
    assert_eq!(world.accepts(&before).await, lie == Lie::Everything, "{ran:?}");
    world.is_silent(&tool, &ran, &before).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn a_deletion_that_did_not_happen_is_not_done() {
    does_not_end_as_done(Lie::Deletion).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs ministack: scripts/test"]
async fn a_key_that_no_list_shows_and_that_still_works_is_not_done() {
    does_not_end_as_done(Lie::Everything).await;
}
