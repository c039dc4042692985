//! A secret id and a role, as Vault describes them and as the runbook asks for them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::domain::{ErrorKind, Period};
use crate::kind::vault::shape::{is_segment, mount};
use crate::kind::vault::token_info::{Login, network};
use crate::provider::Grant;
use crate::provider::outcome::CallError;
use crate::text::sanitize;

/// What every login carries beside the metadata of its secret id.
const ROLE: &str = "role_name";

/// What the runbook asks for.
#[derive(Debug, Clone)]
pub struct SecretIdSpec {
    /// The path of the auth method.
    pub mount: String,
    /// The role's name.
    pub role: String,
    /// The time to live; else the role's.
    pub ttl: Option<Duration>,
    /// How often it may be used to log in; 0 is without limit.
    pub num_uses: u32,
    /// The networks that it may be used from.
    pub cidr_list: Vec<String>,
}

impl SecretIdSpec {
    /// The same, if its names can be parts of a path.
    ///
    /// # Errors
    /// When they cannot.
    pub(super) fn checked(mut self) -> Result<Self, CallError> {
        // Vault keeps the names of roles in lower case.
        self.role = self.role.to_ascii_lowercase();
        let wrong = match (mount(&self.mount), is_segment(&self.role)) {
            (Some(mount), true) => return Ok(Self { mount, ..self }),
            (None, _) => format!("`{}` is not the path of an auth method", sanitize(&self.mount)),
            (Some(_), false) => format!("`{}` is not the name of a role", sanitize(&self.role)),
        };
        Err(CallError::rejected(ErrorKind::Invalid, wrong).hint("correct `mount` or `role` in the runbook"))
    }

    /// A path of the role.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("auth/{}/role/{}{rest}", self.mount, self.role)
    }

    /// Where its secret ids log in.
    pub(super) fn login(&self) -> String {
        format!("auth/{}/login", self.mount)
    }
}

pub(super) type Metadata = BTreeMap<String, String>;

/// What Vault says of a secret id.
#[derive(Debug, Deserialize)]
pub(super) struct SecretIdInfo {
    pub(super) secret_id_accessor: String,
    #[serde(default)]
    pub(super) metadata: Option<Metadata>,
    /// RFC 3339.
    #[serde(default)]
    pub(super) creation_time: String,
    /// 0 is without limit.
    #[serde(default)]
    pub(super) secret_id_num_uses: u64,
    /// Seconds; 0 is forever.
    #[serde(default)]
    pub(super) secret_id_ttl: u64,
    #[serde(default)]
    pub(super) cidr_list: Option<Vec<String>>,
}

impl SecretIdInfo {
    /// One of which only this is known.
    pub(super) fn of(accessor: &str, metadata: Metadata) -> Self {
        let (secret_id_accessor, metadata) = (accessor.to_owned(), Some(metadata));
        Self {
            secret_id_accessor,
            metadata,
            creation_time: String::new(),
            secret_id_num_uses: 0,
            secret_id_ttl: 0,
            cidr_list: None,
        }
    }

    /// The name of a secret id. Its logins carry its metadata and nothing else of it, and outlive it: what
    /// they are told by is part of the name, for when the secret id cannot be asked any more.
    pub(super) fn handle(&self) -> String {
        match digest(self.metadata.iter().flatten()) {
            none if none.is_empty() => self.secret_id_accessor.clone(),
            digest => format!("{}.{digest}", self.secret_id_accessor),
        }
    }
}

/// What tells the logins of a secret id with this metadata from others; empty where there is none.
fn digest<'a>(metadata: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    // A login's `role_name` is the role's, whatever the secret id says.
    let own: BTreeMap<_, _> = metadata.filter(|(key, _)| *key != ROLE).collect();
    let mut hash = Sha256::new();
    for (key, value) in &own {
        for text in [key, value] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text.as_bytes());
        }
    }
    if own.is_empty() { String::new() } else { hex::encode(&hash.finalize()[..8]) }
}

/// What the logins of one role have in common, whose secret ids have metadata with this digest.
pub(super) fn login_name(path: &str, role: &str, digest: &str) -> String {
    format!("{path} {role} {digest}")
}

/// The same of a token; `None` of one that no AppRole's login made.
pub(super) fn login(token: &Login) -> Option<String> {
    Some(login_name(&token.path, token.meta.get(ROLE)?, &digest(token.meta.iter())))
}

/// What Vault says of a role.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct AppRole {
    pub(super) bind_secret_id: bool,
    pub(super) local_secret_ids: bool,
    pub(super) secret_id_num_uses: u64,
    pub(super) secret_id_ttl: u64,
    pub(super) secret_id_bound_cidrs: Option<Vec<String>>,
    pub(super) token_policies: Option<Vec<String>>,
    pub(super) token_period: u64,
    pub(super) token_ttl: u64,
    pub(super) token_type: String,
}

/// What a secret id may really do, against what was asked for.
///
/// # Errors
/// [`ErrorKind::Declined`] when it cannot do what it is for.
pub(super) fn grant(info: &SecretIdInfo, role: &AppRole, spec: &SecretIdSpec) -> Result<Grant, CallError> {
    let mut policies = role.token_policies.clone().unwrap_or_default();
    policies.retain(|policy| policy != "default");
    policies.sort();
    let uses = info.secret_id_num_uses;
    if spec.num_uses == 0 && uses != 0 {
        return Err(CallError::rejected(
            ErrorKind::Declined,
            format!("the new secret id can be used {uses} more times only, and the runbook does not say so"),
        )
        .hint("set `secret_id_num_uses=0` on the role, or `num_uses` in the runbook"));
    }
    let (mut wider, mut notes) = (Vec::new(), Vec::new());
    if spec.num_uses > 0 && (uses == 0 || uses > u64::from(spec.num_uses)) {
        wider.push("it may be used more often than the runbook says".to_owned());
    }
    let bound: Vec<&str> = info.cidr_list.iter().flatten().map(|cidr| network(cidr)).collect();
    if !spec.cidr_list.is_empty() {
        if bound.is_empty() {
            wider.push("it may be used from every network".to_owned());
        }
        let asked: Vec<&str> = spec.cidr_list.iter().map(|cidr| network(cidr)).collect();
        for extra in bound.iter().filter(|cidr| !asked.contains(cidr)) {
            wider.push(sanitize(&format!("it may be used from {extra}, which was not asked for")));
        }
    } else if !bound.is_empty() {
        notes.push(sanitize(&format!("it may be used from {} only", bound.join(", "))));
    }
    let lives = Some(info.secret_id_ttl).filter(|ttl| *ttl > 0).map(Duration::from_secs);
    match (lives, spec.ttl) {
        (Some(lives), Some(asked)) if lives < asked => notes.push(format!(
            "the new secret id lives for {} only; {} was asked for",
            Period::seconds(lives.as_secs()),
            Period::seconds(asked.as_secs())
        )),
        _ => {}
    }
    if role.token_period > 0 {
        notes.push("its logins are periodic: renewed in time, they never expire".to_owned());
    }
    Ok(Grant { policies: Some(policies), ttl: lives, lives, audience: None, wider, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SecretIdSpec {
        SecretIdSpec {
            mount: "approle".to_owned(),
            role: "web".to_owned(),
            ttl: Some(Duration::from_secs(600)),
            num_uses: 0,
            cidr_list: vec!["10.0.0.1/32".to_owned()],
        }
    }

    fn info(text: &str) -> SecretIdInfo {
        serde_json::from_str(text).expect("a secret id")
    }

    #[test]
    fn names_that_would_lead_elsewhere_are_refused() {
        let checked = |mount: &str, role: &str| {
            SecretIdSpec { mount: mount.to_owned(), role: role.to_owned(), ..spec() }.checked()
        };
        assert_eq!(
            checked("/team/approle/", "Web").expect("plain").path("/x"),
            "auth/team/approle/role/web/x"
        );
        for (mount, role) in
            [("", "web"), ("a//b", "web"), ("..", "web"), ("approle", ""), ("approle", "a/b")]
        {
            assert!(checked(mount, role).is_err(), "{mount} {role}");
        }
        for bad in ["a?b", "a#b", "a b", "a%2fb", "../sys"] {
            assert!(checked("approle", bad).is_err() && checked(bad, "web").is_err(), "{bad}");
        }
    }

    /// A login is told by what it has of its secret id, whatever else either of them carries.
    #[test]
    fn a_login_has_the_digest_of_its_secret_id() {
        let handle =
            |metadata: &str| info(&format!(r#"{{"secret_id_accessor":"a","metadata":{metadata}}}"#)).handle();
        let login = |meta: &str| {
            let text =
                format!(r#"{{"accessor":"t","expire_time":null,"path":"auth/approle/login","meta":{meta}}}"#);
            Login::of(&serde_json::from_str(&text).expect("a token")).as_ref().and_then(login)
        };
        assert_eq!(handle("null"), "a");
        assert_eq!(handle("{}"), "a");
        let tagged = handle(r#"{"x":"1","role_name":"evil"}"#);
        let name = login_name("auth/approle/login", "web", tagged.strip_prefix("a.").expect("a digest"));
        assert_eq!(login(r#"{"role_name":"web","x":"1"}"#), Some(name));
        assert_ne!(handle(r#"{"ab":"c"}"#), handle(r#"{"a":"bc"}"#));
        assert_eq!(login(r#"{"x":"1"}"#), None, "made by another method");
        assert_eq!(login("null"), None);
    }

    #[test]
    fn what_is_wider_than_asked_is_named_and_what_is_useless_is_declined() {
        let role = AppRole {
            token_policies: Some(vec!["default".to_owned(), "app".to_owned()]),
            ..AppRole::default()
        };
        let fits = info(r#"{"secret_id_accessor":"a","secret_id_ttl":600,"cidr_list":["10.0.0.1"]}"#);
        let found = grant(&fits, &role, &spec()).expect("a grant");
        assert_eq!((&found.wider, &found.notes), (&Vec::new(), &Vec::new()));
        assert_eq!(found.policies, Some(vec!["app".to_owned()]));
        assert_eq!(found.ttl, Some(Duration::from_secs(600)));
        let open = info(r#"{"secret_id_accessor":"a","secret_id_ttl":0}"#);
        let found = grant(&open, &role, &SecretIdSpec { num_uses: 9, ..spec() }).expect("a grant");
        assert_eq!((found.wider.len(), found.ttl), (2, None), "{found:?}");
        let few = info(r#"{"secret_id_accessor":"a","secret_id_num_uses":5}"#);
        assert_eq!(grant(&few, &role, &spec()).expect_err("few").kind, ErrorKind::Declined);
    }
}
