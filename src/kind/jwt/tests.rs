//! Keys and sets in memory. Whole rotations, with a verifier that caches, are in `tests/it/jwt.rs`.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, Validation, decode};
use serde_json::{Value, json};

use super::Algorithm;
use super::jwks::Jwks;
use super::key::thumbprint;
use crate::domain::{ErrorKind, Life};
use crate::kind::key_pair::KeyPair as SigningKey;
use crate::secret::Secret;

/// The example of RFC 7638, section 3.1.
#[test]
fn a_thumbprint_is_that_of_the_standard() {
    let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    let jwk = json!({ "kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29" });
    assert_eq!(thumbprint(&jwk).as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    assert_eq!(thumbprint(&json!({ "kty": "oct", "k": "x" })), None);
}

#[test]
fn a_verifier_takes_the_tokens_of_each_algorithm_by_the_published_key() {
    for (algorithm, name) in [
        (Algorithm::Es256, jsonwebtoken::Algorithm::ES256),
        (Algorithm::EdDsa, jsonwebtoken::Algorithm::EdDSA),
        (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256),
    ] {
        let pem = SigningKey::generate(algorithm.form()).expect("a key");
        let key = SigningKey::read(&pem).expect("it is read again");
        let member: Value = serde_json::from_str(&key.member()).expect("JSON");
        assert_eq!(member["kid"].as_str(), thumbprint(&member).as_deref(), "{name:?}");
        assert!(
            member.get("d").is_none() && member.get("p").is_none(),
            "{name:?}: the private half is published"
        );
        let claims = json!({ "aud": "api", "exp": jsonwebtoken::get_current_timestamp() + 60 });
        let token = key.token(&key.kid(), &claims).expect("a token");
        let jwk: Jwk = serde_json::from_value(member).expect("a JWK");
        let public = DecodingKey::from_jwk(&jwk).expect("a public key");
        let mut rules = Validation::new(name);
        rules.set_audience(&["api"]);
        let read = decode::<Value>(token.expose(), &public, &rules).expect("a valid token");
        assert_eq!((read.header.kid, read.claims), (Some(key.kid()), claims), "{name:?}");
        // Of another key it is not.
        let other = SigningKey::read(&SigningKey::generate(algorithm.form()).expect("a key")).expect("a key");
        let other: Jwk = serde_json::from_str(&other.member()).expect("a JWK");
        let public = DecodingKey::from_jwk(&other).expect("a public key");
        assert!(decode::<Value>(token.expose(), &public, &rules).is_err(), "{name:?}");
    }
}

#[test]
fn what_is_no_private_key_is_refused_and_not_quoted() {
    let body = "TUlHSEFnRUFNQk1HQnlxR1NNNDlBZ0VHQ0NxR1NNNDlBd0VIQkcwd2F3SUJBUVFn";
    let labelled = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for text in [
        "hunter2".to_owned(),
        String::new(),
        labelled("PRIVATE KEY"),
        labelled("RSA PRIVATE KEY"),
        labelled("ENCRYPTED PRIVATE KEY"),
    ] {
        let error = SigningKey::read(&Secret::new(text.clone())).err().expect("no key");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Invalid, false), "{error:?}");
        let said = format!("{error:?}");
        assert!(!said.contains("hunter2") && !said.contains(&body[..8]), "{said}");
    }
}

const TEXT: &str = r#"{ "version": 12345678901234567890123, "keys": [
  {"kty":"RSA", "kid":"a", "n":"0vx7", "e":"AQAB", "x5c": [ "MII" ], "num": 1.10},
  {"kty":"EC","crv":"P-256","kid":"old","x":"AA","y":"BB"} ], "note": "kept" }"#;

fn set(text: &str) -> Jwks {
    Jwks::read(text).expect("a set")
}

#[test]
fn one_key_goes_there_and_back_and_all_others_stay_as_written() {
    let mut one = set(TEXT);
    assert!(
        one.publish("new", r#"{"kty":"OKP","crv":"Ed25519","x":"CC","kid":"new"}"#, "call-1")
            .expect("published")
    );
    let text = one.text();
    for kept in [
        r#"{"kty":"RSA", "kid":"a", "n":"0vx7", "e":"AQAB", "x5c": [ "MII" ], "num": 1.10}"#,
        "12345678901234567890123",
        "\"note\": \"kept\"",
    ] {
        assert!(text.contains(kept), "{text}");
    }
    let mut again = set(&text);
    assert!(
        !again
            .publish("new", r#"{"kty":"OKP","crv":"Ed25519","x":"CC","kid":"new"}"#, "call-1")
            .expect("published"),
        "once is enough"
    );
    assert_eq!((again.issued_by("call-1"), again.issued_by("call-2")), (vec!["new".to_owned()], vec![]));

    assert!(again.retire("old").expect("retired"));
    let mut sunset = set(&again.text());
    assert_eq!(
        (sunset.life("old"), sunset.life("new"), sunset.life("none")),
        (Life::Disabled, Life::Active, Life::Gone)
    );
    let public: Value = serde_json::from_str(&sunset.text()).expect("JSON");
    assert_eq!(public["keys"].as_array().map(Vec::len), Some(2), "verifiers do not find it");
    assert!(!sunset.retire("old").expect("twice"), "it is retired already");
    assert!(sunset.restore("old").expect("restored") && !sunset.restore("old").expect("twice"));
    assert_eq!(sunset.life("old"), Life::Active);
    assert!(sunset.remove("new") && !sunset.remove("new"));
    let back: Value = serde_json::from_str(&sunset.text()).expect("JSON");
    assert_eq!(back, serde_json::from_str::<Value>(TEXT).expect("JSON"), "nothing of stanch is left");
    for error in [sunset.retire("none").expect_err("unknown"), sunset.restore("none").expect_err("unknown")] {
        assert_eq!(error.kind, ErrorKind::NotFound);
    }
}

#[test]
fn a_key_is_found_by_what_it_is_and_not_by_its_name() {
    let named =
        thumbprint(&json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "BB" })).expect("a thumbprint");
    let one = set(TEXT);
    assert_eq!((one.name_of(&named), one.name_of("other")), (Some("old"), None));
    assert!(one.offers("old", &named) && !one.offers("a", &named) && !one.offers("old", "other"));
    // Another key of the name of the new one is not overwritten.
    let mut one = set(TEXT);
    let error = one
        .publish("a", r#"{"kty":"EC","crv":"P-256","kid":"a","x":"D","y":"E"}"#, "call")
        .expect_err("taken");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false));
    assert_eq!(set(&one.text()).issued_by("call"), Vec::<String>::new());
}

#[test]
fn what_verifiers_read_differently_is_refused() {
    for (text, why) in [
        ("", "not a JWKS"),
        ("[]", "not a JWKS"),
        ("{}", "not a JWKS"),
        (r#"{"keys": {}}"#, "not a JWKS"),
        (r#"{"keys": [1]}"#, "not a JWKS"),
        (r#"{"keys": []} x"#, "not a JWKS"),
        (r#"{"keys": [], "keys": []}"#, "twice"),
        (r#"{"keys": [{"kid":"a"},{"kid":"a"}]}"#, "two keys"),
        (r#"{"keys": [], "stanch": 1}"#, "not stanch's own"),
        (r#"{"keys": [], "stanch": {"other": 1}}"#, "not stanch's own"),
    ] {
        let error = Jwks::read(text).expect_err(text);
        assert!(error.message.contains(why) && error.kind == ErrorKind::Invalid, "{text}: {error:?}");
    }
    assert_eq!(set(r#"{"keys": []}"#).len(), 0);
    assert_eq!(set(r#"{"keys": [{"kty":"oct","kid":"s","k":"x"}]}"#).exposed(), Some("s"));
    assert_eq!(set(TEXT).exposed(), None);
}

/// Removed under one name, a key would be valid under the other.
#[test]
fn a_key_under_two_names_is_refused() {
    let pem = SigningKey::generate(Algorithm::Es256.form()).expect("a key");
    let member: Value = serde_json::from_str(&SigningKey::read(&pem).expect("a key").member()).expect("JSON");
    let (mut alias, mut nameless) = (member.clone(), member.clone());
    alias["kid"] = "alias".into();
    nameless.as_object_mut().expect("an object").remove("kid");
    let old = json!({ "kid": "old-1", "kty": member["kty"], "crv": member["crv"], "x": member["x"], "y": member["y"] });
    for document in [
        json!({ "keys": [member, alias] }),
        json!({ "keys": [old, nameless] }),
        json!({ "keys": [alias], "stanch": { "retired": [member] } }),
    ] {
        let error = Jwks::read(&document.to_string()).expect_err("two names");
        assert!(error.message.contains("are the same public key"), "{error:?}");
    }
    Jwks::read(&json!({ "keys": [member], "stanch": { "retired": [member] } }).to_string())
        .expect("one name");
}
