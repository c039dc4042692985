//! A user's keys, as lists tell of them.

use super::*;
use crate::provider::http::transport::Reply;

/// A page of a list. IAM says whether another follows.
fn page(action: &str, more: bool) -> Reply {
    let body = format!(
        "<{action}Response xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><{action}Result>\
         <AccessKeyMetadata/><PolicyNames/><IsTruncated>{more}</IsTruncated><Marker>m</Marker></{action}Result></{action}Response>"
    );
    let mut headers = http::HeaderMap::new();
    headers.insert("x-amzn-requestid", http::HeaderValue::from_static("r"));
    Reply { status: http::StatusCode::OK, headers, body: body.into_bytes() }
}

fn issuer(replies: Vec<Reply>) -> AccessKeyIssuer {
    let client = AwsClient::answering(("AKIAOPERATOR", &Secret::new("key")), replies);
    AccessKeyIssuer::new(Arc::new(client), "app".to_owned())
}

/// The operator may not look at the user, so that its path is not known. The policy to add still names this
/// user alone: with `*` the operator could make keys of an administrator.
#[tokio::test]
async fn a_policy_for_a_user_that_cannot_be_looked_at_names_it_alone() {
    let denied = Reply {
        status: http::StatusCode::FORBIDDEN,
        body: "<ErrorResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><Error><Type>Sender</Type>\
               <Code>AccessDenied</Code><Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            .into(),
        ..page("GetUser", false)
    };
    let who = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
               <GetCallerIdentityResult><Arn>arn:aws-cn:iam::123456789012:user/ops</Arn><UserId>u</UserId>\
               <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    let who = || Reply { body: who.into(), ..page("GetCallerIdentity", false) };
    let again = Reply { headers: denied.headers.clone(), body: denied.body.clone(), ..denied };
    // GetUser, then who asks, then ListAccessKeys; then who asks and what it may do.
    let more = Reply { headers: again.headers.clone(), body: again.body.clone(), ..again };
    let keys = issuer(vec![denied, who(), again, who(), more]);
    let checks = keys.preflight(None).await;
    let hints: Vec<&str> = checks.iter().filter_map(|check| check.hint.as_deref()).collect();
    assert_eq!(hints.len(), 2, "{checks:?}");
    for hint in hints {
        assert!(hint.contains(r#""Resource":"arn:aws-cn:iam::123456789012:user/app""#), "{hint}");
        assert!(!hint.contains('*') && hint.contains("a user with a path needs its path"), "{hint}");
    }
}

/// A list of keys: id, and when it was made.
fn list(keys: &[(&str, Timestamp)]) -> Reply {
    let member = |(id, made): &(&str, Timestamp)| {
        format!(
            "<member><UserName>app</UserName><AccessKeyId>{id}</AccessKeyId><Status>Active</Status>\
             <CreateDate>{made}</CreateDate></member>"
        )
    };
    let members: String = keys.iter().map(member).collect();
    let body = format!(
        "<ListAccessKeysResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><ListAccessKeysResult>\
         <AccessKeyMetadata>{members}</AccessKeyMetadata><IsTruncated>false</IsTruncated>\
         </ListAccessKeysResult></ListAccessKeysResponse>"
    );
    Reply { body: body.into_bytes(), ..page("ListAccessKeys", false) }
}

/// The answer for a key that was never used.
fn unused() -> Reply {
    let body = "<GetAccessKeyLastUsedResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\">\
                <GetAccessKeyLastUsedResult><UserName>app</UserName><AccessKeyLastUsed>\
                <ServiceName>N/A</ServiceName><Region>N/A</Region></AccessKeyLastUsed>\
                </GetAccessKeyLastUsedResult></GetAccessKeyLastUsedResponse>";
    Reply { body: body.into(), ..page("GetAccessKeyLastUsed", false) }
}

/// Two tries to create a key, a minute apart.
fn tries() -> CallContext {
    CallContext {
        run: "run".to_owned(),
        step: "prepare/app/issue".to_owned(),
        token: uuid::Uuid::nil(),
        since: at("10:00:00"),
        last: at("10:01:00"),
        siblings: Vec::new(),
        before: Default::default(),
        expected: None,
        ahead: crate::provider::Ahead::default(),
        held: None,
        outgoing: None,
    }
}

fn at(time: &str) -> Timestamp {
    format!("2026-01-02T{time}Z").parse().expect("a time")
}

/// A key has no tag. What a person made before or after the requests of the run is not the run's own: what
/// `find` returns is revoked.
#[tokio::test]
async fn only_a_key_that_was_made_during_the_requests_is_taken_for_ours() {
    let old = ("AKIAOLD", at("08:00:00"));
    let before = ["AKIAOLD".to_owned()];
    for (made, ours) in [
        ("09:59:54", false),
        ("09:59:56", true),
        ("10:00:00", true),
        // The limit of a call counts from the last try, here without one of the runbook's: 30 s.
        ("10:01:34", true),
        ("10:01:36", false),
        ("10:40:00", false),
    ] {
        let keys = issuer(vec![list(&[old, ("AKIANEW", at(made))]), unused()]);
        let found = keys.find(&tries(), &before).await.expect("an answer");
        assert_eq!(!found.is_empty(), ours, "made at {made}: {found:?}");
    }
}

/// Two new keys look alike, and at least one of them is not of this run: none is taken for its own.
#[tokio::test]
async fn of_two_new_keys_none_is_taken_for_ours() {
    let two = [("AKIAONE", at("10:00:01")), ("AKIATWO", at("10:00:02"))];
    let error = issuer(vec![list(&two), unused()]).find(&tries(), &[]).await.expect_err("undecided");
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(error.message.contains("AKIAONE") && error.message.contains("AKIATWO"), "{error}");
    // One of them is known to be the new credential: then the other one is not of this run.
    let known = ["AKIAONE".to_owned()];
    let keys = issuer(vec![list(&two), unused()]);
    assert_eq!(keys.twins(&tries(), &known, &[]).await.expect("an answer"), Vec::<String>::new());
}

/// A key that the run does not know is named, and left alone.
#[tokio::test]
async fn a_key_of_somebody_else_is_named() {
    let keys = issuer(vec![list(&[("AKIANEW", at("10:00:01")), ("AKIAHAND", at("10:40:00"))])]);
    let named = keys.strangers(&["AKIANEW".to_owned()]).await.expect("an answer");
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(named[0].contains("user app") && named[0].contains("AKIAHAND (active)"), "{named:?}");
}

/// A server that says of every page that another follows, found by fuzzing.
#[tokio::test]
async fn a_list_without_an_end_is_given_up() {
    let keys = issuer(vec![page("ListAccessKeys", true)]);
    let error = keys.existing().await.expect_err("no end");
    assert!(error.message.contains("has no end") && !error.in_doubt, "{error}");
    let (attached, own) = ("ListAttachedUserPolicies", "ListUserPolicies");
    for endless in [vec![page(attached, true)], vec![page(attached, false), page(own, true)]] {
        assert_eq!(issuer(endless).policy_names().await.expect("unknown"), None);
    }
    let whole = issuer(vec![page(attached, true), page(attached, false), page(own, false)]);
    assert_eq!(whole.policy_names().await.expect("names"), Some(vec![]));
}
