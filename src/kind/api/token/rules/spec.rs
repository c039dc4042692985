//! What the schema cannot say of the calls: each mistake with the path of the field that has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::calls::spec::{Calls, Change, Query, Sign};
use super::super::template::spec::{Piece, pieces, texts, variables};

/// A mistake in the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kind) struct Mistake {
    /// The fields that lead to it, from the calls on.
    pub(in crate::kind) at: Vec<&'static str>,
    pub(in crate::kind) message: String,
    pub(in crate::kind) hint: String,
}

/// What stanch itself fills in, beside `with`.
pub(in crate::kind) const TAG: &str = "tag";
pub(in crate::kind) const ID: &str = "id";
pub(in crate::kind) const DATE: &str = "expires.date";
pub(in crate::kind) const TIME: &str = "expires.time";
const RESERVED: [&str; 4] = [TAG, ID, DATE, TIME];

/// One call, as far as it is filled in.
struct Filled<'a> {
    name: &'static str,
    path: &'a str,
    query: &'a Query,
    body: Option<&'a BTreeMap<String, Value>>,
    /// What may be filled in beside `with`.
    more: &'static [&'static str],
}

impl Filled<'_> {
    fn texts(&self) -> Vec<(&'static str, &str)> {
        let query = self.query.values().map(|text| ("query", text.as_str()));
        let body = self.body.into_iter().flat_map(|body| body.values()).flat_map(texts);
        std::iter::once(("path", self.path)).chain(query).chain(body.map(|text| ("body", text))).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.texts().iter().any(|(_, text)| variables(text).iter().any(|known| known == name))
    }
}

fn changed<'a>(name: &'static str, call: &'a Change) -> Filled<'a> {
    let Change { method: _, path, query, over: _, body } = call;
    Filled { name, path, query, body: Some(body), more: &[ID] }
}

fn filled(calls: &Calls) -> Vec<Filled<'_>> {
    let Calls { create, inspect, revoke, disable, enable, list, itself, coexists: _ } = calls;
    let mut all = vec![
        Filled {
            name: "create",
            path: &create.path,
            query: &create.query,
            body: Some(&create.body),
            more: &[TAG, DATE, TIME],
        },
        Filled { name: "inspect", path: &inspect.path, query: &inspect.query, body: None, more: &[ID] },
        Filled { name: "self", path: &itself.path, query: &itself.query, body: None, more: &[] },
        changed("revoke", revoke),
    ];
    all.extend(disable.as_ref().map(|call| changed("disable", call)));
    all.extend(enable.as_ref().map(|call| changed("enable", call)));
    all.extend(list.as_ref().map(|list| Filled {
        name: "list",
        path: &list.path,
        query: &list.query,
        body: None,
        more: &[],
    }));
    all
}

/// The values of `with` that the calls need.
pub(in crate::kind) fn needs(calls: &Calls) -> BTreeSet<String> {
    let all = filled(calls);
    let names = all.iter().flat_map(|call| {
        let own = |name: &String| !RESERVED.contains(&name.as_str());
        call.texts().into_iter().flat_map(|(_, text)| variables(text)).filter(own).collect::<Vec<_>>()
    });
    names.collect()
}

/// Whether `create` fills this in.
pub(in crate::kind) fn creates_with(calls: &Calls, name: &str) -> bool {
    filled(calls).iter().any(|call| call.name == "create" && call.has(name))
}

/// Every mistake.
pub(in crate::kind) fn mistakes(calls: &Calls) -> Vec<Mistake> {
    let mut found = Vec::new();
    for call in filled(calls) {
        texts_of(&call, &mut found);
    }
    pointers(calls, &mut found);
    lives(calls, &mut found);
    lists(calls, &mut found);
    found
}

fn push(found: &mut Vec<Mistake>, at: &[&'static str], message: impl Into<String>, hint: impl Into<String>) {
    found.push(Mistake { at: at.to_vec(), message: message.into(), hint: hint.into() });
}

fn texts_of(call: &Filled<'_>, found: &mut Vec<Mistake>) {
    let path = call.path;
    if !path.starts_with('/') || path.contains(['?', '#', '\\', ' ']) || path.split('/').any(|s| s == "..") {
        push(
            found,
            &[call.name, "path"],
            "this is not a path of the API",
            "begin it with `/`, and write what follows a `?` under `query`",
        );
    }
    for (field, text) in call.texts() {
        if pieces(text).contains(&Piece::Open) {
            push(found, &[call.name, field], "this `{` has no `}`", "write `{{` for a literal `{`");
        }
        for name in variables(text) {
            let known = RESERVED.contains(&name.as_str());
            if known && (!call.more.contains(&name.as_str()) || (field != "body" && name != ID)) {
                push(
                    found,
                    &[call.name, field],
                    format!("`{{{name}}}` cannot be used here"),
                    "`{id}` belongs in the calls for one token, the others in the body of `create`",
                );
            }
        }
    }
    if call.more.contains(&ID) && !call.has(ID) {
        push(
            found,
            &[call.name],
            "this call does not say which token it is about",
            "write `{id}` in its path, for example /tokens/{id}",
        );
    }
}

/// Pointers that are none.
fn pointers(calls: &Calls, found: &mut Vec<Mistake>) {
    let Calls { create, inspect, revoke, disable, enable, list, itself, coexists: _ } = calls;
    let sign = |sign: &Option<Sign>| sign.as_ref().map(|sign| sign.at.clone());
    let over = |change: Option<&Change>| {
        change.and_then(|change| change.over.as_ref()).and_then(|over| over.at.clone())
    };
    let list = |pick: fn(&super::super::calls::spec::List) -> Option<String>| list.as_ref().and_then(pick);
    let all: [(&[&'static str], Option<String>); 22] = [
        (&["create", "secret"], Some(create.secret.clone())),
        (&["create", "id"], Some(create.id.clone())),
        (&["inspect", "alive", "at"], Some(inspect.alive.at.clone())),
        (&["inspect", "disabled", "at"], sign(&inspect.disabled)),
        (&["inspect", "gone", "at"], sign(&inspect.gone)),
        (&["inspect", "created"], inspect.created.clone()),
        (&["inspect", "expires"], inspect.expires.clone()),
        (&["inspect", "scopes"], inspect.scopes.clone()),
        (&["inspect", "last_used"], inspect.last_used.clone()),
        (&["revoke", "over", "at"], over(Some(revoke))),
        (&["disable", "over", "at"], over(disable.as_ref())),
        (&["enable", "over", "at"], over(enable.as_ref())),
        (&["self", "id"], itself.id.clone()),
        (&["self", "accepted", "at"], sign(&itself.accepted)),
        (&["self", "disabled", "at"], sign(&itself.disabled)),
        (&["list", "items"], list(|list| list.items.clone())),
        (&["list", "id"], list(|list| Some(list.id.clone()))),
        (&["list", "name"], list(|list| Some(list.name.clone()))),
        (&["list", "shows"], list(|list| list.shows.clone())),
        (&["list", "next", "at"], list(|list| list.next.as_ref()?.at.clone())),
        (&["list", "next", "more"], list(|list| list.next.as_ref()?.more.clone())),
        (&["list", "next", "pages"], list(|list| list.next.as_ref()?.pages.clone())),
    ];
    for (at, pointer) in all {
        if pointer.is_some_and(|pointer| !pointer.starts_with('/')) {
            push(found, at, "this is not a JSON pointer", "begin it with `/`, for example /data/id");
        }
    }
}

/// What decides between alive, disabled and gone.
fn lives(calls: &Calls, found: &mut Vec<Mistake>) {
    let inspect = &calls.inspect;
    if inspect.gone.is_none() && inspect.gone_status.is_empty() {
        push(
            found,
            &["inspect"],
            "`inspect` cannot tell a token that is gone from one that is alive",
            "add `gone`, for example {at: /revoked, is: true}, or `gone_status: [404]`",
        );
    }
    if inspect.gone_status.iter().any(|status| ![404, 410].contains(status)) {
        push(
            found,
            &["inspect", "gone_status"],
            "of these statuses only 404 and 410 can mean that a token is gone",
            "a 401 or a 403 is about the operator, and a 5xx says nothing",
        );
    }
    if !inspect.gone_status.is_empty() && calls.list.is_none() {
        push(
            found,
            &["inspect", "gone_status"],
            "a status alone does not prove that a token is gone: a proxy may have answered",
            "add `list`: the status counts where the list does not have the token",
        );
    }
    let signs = [
        ("alive", Some(&inspect.alive)),
        ("disabled", inspect.disabled.as_ref()),
        ("gone", inspect.gone.as_ref()),
    ];
    let signs: Vec<(&str, &Sign)> =
        signs.into_iter().filter_map(|(name, sign)| Some((name, sign?))).collect();
    for (n, (first, a)) in signs.iter().enumerate() {
        for (second, b) in &signs[n + 1..] {
            if a.at != b.at || a.values().iter().any(|value| b.values().contains(value)) {
                push(
                    found,
                    &["inspect"],
                    format!("one response can be both `{first}` and `{second}`"),
                    "give both the same pointer, with different values",
                );
            }
        }
    }
    match (&calls.disable, &calls.enable) {
        (Some(_), None) | (None, Some(_)) => {
            let there = if calls.disable.is_some() { "disable" } else { "enable" };
            push(
                found,
                &[there],
                "one of `disable` and `enable` is here without the other",
                "add the other one, or remove it: what cannot be enabled again is not disabled reversibly",
            );
        }
        (Some(_), Some(_)) if inspect.disabled.is_none() => push(
            found,
            &["inspect"],
            "`inspect` cannot tell a token that is disabled from one that is alive",
            "add `disabled`, for example {at: /status, is: disabled}",
        ),
        _ => {}
    }
    if calls.itself.disabled.is_some() && (inspect.disabled.is_none() || calls.itself.id.is_none()) {
        push(
            found,
            &["self", "disabled"],
            "a success alone does not show that a token is disabled",
            "add `id` here, and `disabled` to `inspect`: both must say so",
        );
    }
    for refuse in &calls.itself.refuse {
        if !(400..=499).contains(refuse) || [408, 429].contains(refuse) {
            push(
                found,
                &["self", "refuse"],
                format!("the status {refuse} does not mean that the server refuses the token"),
                "name the status of a token that is not valid: usually 401",
            );
        }
    }
}

fn lists(calls: &Calls, found: &mut Vec<Mistake>) {
    let shows = calls.list.as_ref().is_some_and(|list| list.shows.is_some());
    if calls.itself.id.is_none() && !shows {
        push(
            found,
            &["self"],
            "nothing says which token the old one is",
            "add `id` here, or `shows` to `list`",
        );
    }
    let next = calls.list.as_ref().and_then(|list| list.next.as_ref());
    let Some(next) = next else { return };
    let ways = [&next.header, &next.at, &next.pages].into_iter().flatten().count();
    if ways != 1 || (next.more.is_some() && next.at.is_none()) {
        push(
            found,
            &["list", "next"],
            "it is not clear how the next page is asked for",
            "write exactly one of `header`, `at` (with or without `more`) and `pages`",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::calls::spec::Preset;
    use super::*;

    /// Also shows that each file is what its type demands.
    #[test]
    fn the_presets_have_no_mistakes() {
        for preset in Preset::ALL {
            let known = preset.known();
            assert_eq!(mistakes(&known.calls), [], "{}", preset.name());
            assert!(creates_with(&known.calls, TAG) && known.calls.list.is_some(), "{}", preset.name());
            assert!(!known.gaps.is_empty() && !known.server.is_empty(), "{}", preset.name());
            assert_eq!(serde_json::to_value(preset).expect("a word"), preset.name());
        }
        let needs = needs(&Preset::GitlabProjectToken.known().calls);
        assert_eq!(needs.into_iter().collect::<Vec<_>>(), ["access_level", "project", "scopes"]);
    }

    #[test]
    fn each_mistake_is_found_at_its_field() {
        let right = serde_json::json!({
            "create": {"path": "/t", "body": {"name": "{tag}"}, "secret": "/s", "id": "/id"},
            "inspect": {"path": "/t/{id}", "alive": {"at": "/a", "is": true}, "gone": {"at": "/a", "is": [false, null]}},
            "revoke": {"method": "DELETE", "path": "/t/{id}"},
            "self": {"path": "/self", "id": "/id"}
        });
        let with = |pointer: &str, key: &str, value: Value| -> Vec<String> {
            let mut calls = right.clone();
            calls
                .pointer_mut(pointer)
                .and_then(Value::as_object_mut)
                .expect("an object")
                .insert(key.into(), value);
            let calls: Calls = serde_json::from_value(calls).expect("calls");
            mistakes(&calls).iter().map(|mistake| mistake.at.join(".")).collect()
        };
        assert_eq!(mistakes(&serde_json::from_value(right.clone()).expect("calls")), []);
        let sign = |at: &str, is: Value| serde_json::json!({"at": at, "is": is});
        let disable = serde_json::json!({"method": "PUT", "path": "/t/{id}"});
        for (pointer, key, value, at) in [
            ("/create", "path", "t".into(), "create.path"),
            ("/create", "path", "/t?x=1".into(), "create.path"),
            ("/create", "path", "/a/../t".into(), "create.path"),
            ("/create", "path", "/{id}".into(), "create.path"),
            ("/create", "path", "/{tag}".into(), "create.path"),
            ("/create", "path", "/{x".into(), "create.path"),
            ("/create", "secret", "token".into(), "create.secret"),
            ("/inspect", "path", "/t".into(), "inspect"),
            ("/inspect", "gone", Value::Null, "inspect"),
            ("/inspect", "gone", sign("/a", true.into()), "inspect"),
            ("/inspect", "gone", sign("/b", false.into()), "inspect"),
            ("/inspect", "gone_status", vec![404].into(), "inspect.gone_status"),
            ("/inspect", "expires", "".into(), "inspect.expires"),
            ("/revoke", "path", "/t".into(), "revoke"),
            ("", "disable", disable.clone(), "disable"),
            ("", "enable", disable.clone(), "enable"),
            ("/self", "refuse", vec![500].into(), "self.refuse"),
            ("/self", "disabled", sign("/a", false.into()), "self.disabled"),
            ("/self", "id", Value::Null, "self"),
        ] {
            assert_eq!(with(pointer, key, value.clone()), [at], "{pointer} {key} {value}");
        }
        let list = |next: Value| serde_json::json!({"path": "/t", "id": "/id", "name": "/n", "next": next});
        for (next, at) in [
            (serde_json::json!({"query": "p"}), &["list.next"][..]),
            (serde_json::json!({"query": "p", "header": "h", "pages": "/p"}), &["list.next"]),
            (serde_json::json!({"query": "p", "pages": "/p", "more": "/m"}), &["list.next"]),
            (serde_json::json!({"query": "p", "at": "/p", "more": "/m"}), &[]),
        ] {
            assert_eq!(with("", "list", list(next.clone())), at, "{next}");
        }
        assert_eq!(
            with("/inspect", "gone_status", vec![401].into()).len(),
            2,
            "not a status that says it, and no list"
        );
    }
}
