//! The promises of [`Issuer`] and [`Store`], as tests that every implementation passes.
//!
//! It keeps the sandbox from being an optimist: add every new issuer and store here, the sandbox's
//! as well. The callers below set a server up; the functions only use the traits.

use stanch::clock::{Clock as _, SystemClock};
use stanch::domain::{ErrorKind, Life, Observation};
use stanch::kind::{self, ISSUERS, STORES};
use stanch::provider::{CallContext, Issuer, Promoted, Store, Use};
use stanch::secret::{Material, Secret};

use crate::servers::{context, failures};

/// Whether a time that was told is of these minutes.
fn is_recent(at: Option<jiff::Timestamp>) -> Option<bool> {
    let now = SystemClock::new().now().wall;
    at.map(|at| now.duration_since(at).abs() < jiff::SignedDuration::from_mins(5))
}

/// A store that holds `old`, and what it is to hold.
pub(crate) struct StoreCase<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) old: Material,
    pub(crate) new: Material,
    /// A version that the store never had.
    pub(crate) nowhere: &'a str,
}

/// Everything that a store promises. `kind` is its name in the runbook: `kinds` looks for a call with each.
pub(crate) async fn store_keeps_its_promises(kind: &str, case: StoreCase<'_>) {
    assert!(kind::named(STORES, Some(kind)).is_some(), "there is no store {kind}");
    if !case.store.traits().reads {
        return unreadable_store_keeps_its_promises(kind, case).await;
    }
    let StoreCase { store, old, new, nowhere } = case;
    let traits = store.traits();
    assert_eq!(failures(&store.preflight().await), Vec::<String>::new());

    let first = store.observe().await.expect("observe").current.expect("a current version");
    assert!(store.read(None).await.expect("read").same_as(&old), "the current value is the old one");
    assert!(store.read(Some(&first)).await.expect("read").same_as(&old));
    let tells = ["kv2", "secretsmanager", "ssm-parameter", "kubernetes-secret", "file", "pass-through"]
        .contains(&kind);
    assert_eq!(is_recent(store.written(&first).await.expect("written")), tells.then_some(true), "{kind}");
    let error = store.read(Some(nowhere)).await.expect_err("there is no such version");
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");

    let step = context();
    let staged = if traits.stages { Some(stages(store, &old, &new).await) } else { None };
    let staged = staged.as_deref();
    if staged.is_none() {
        assert_eq!(store.stage(&step, &new).await.expect_err("no stages").kind, ErrorKind::Unsupported);
        assert_eq!(store.retire(&step, &first).await.expect_err("retire").kind, ErrorKind::Unsupported);
        assert_eq!(store.observe().await.expect("observe").current.as_ref(), Some(&first), "retired nothing");
        let blank = Material::single("token", Secret::new(" "));
        let error = store.promote(&step, &blank, &old, None).await.expect_err("blank");
        assert!(!error.in_doubt, "{error:?}");
    }

    let other = old.parts().fold(Material::default(), |m, (part, _)| m.with(part, Secret::new("another")));
    let error = store.promote(&step, &new, &other, staged).await.expect_err("it holds another value");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert!(store.read(None).await.expect("read").same_as(&old), "a conflict changed nothing");

    let error = store.refill(&step, &new).await.expect_err("there is a value");
    assert!(
        matches!(error.kind, ErrorKind::Conflict | ErrorKind::Unsupported) && !error.in_doubt,
        "{error:?}"
    );
    assert!(store.read(None).await.expect("read").same_as(&old), "what is there is not filled");

    let Promoted { version: second, was } = store.promote(&step, &new, &old, staged).await.expect("promote");
    assert_eq!(was.as_ref(), Some(&first));
    assert_ne!(second, first);
    let versions = store.observe().await.expect("observe");
    assert_eq!((versions.current.as_ref(), versions.pending.as_ref()), (Some(&second), None));
    assert!(store.read(None).await.expect("read").same_as(&new));
    assert!(store.read(Some(&second)).await.expect("read").same_as(&new));

    let again = store.promote(&step, &new, &old, staged).await.expect("it is current already");
    assert_eq!(again, Promoted { version: second.clone(), was: None });

    if traits.destroys {
        let error = store.destroy(&step, &second, &old).await.expect_err("it is current");
        assert!(!error.in_doubt, "{error:?}");
    }

    // The way back.
    let third = store.promote(&context(), &old, &new, Some(&first)).await.expect("back").version;
    assert!(store.read(None).await.expect("read").same_as(&old), "back at the old value");
    assert_eq!(store.observe().await.expect("observe").current.as_ref(), Some(&third));

    if traits.destroys {
        store.destroy(&context(), &second, &new).await.expect("destroy");
        let error = store.read(Some(&second)).await.expect_err("destroyed");
        assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
        store.destroy(&context(), &second, &new).await.expect("destroying twice is harmless");
        assert!(store.read(None).await.expect("read").same_as(&old));
    } else {
        let error = store.destroy(&step, &second, &old).await.expect_err("does not destroy");
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

/// What a store promises that never gives a value back, and is told by its version alone.
async fn unreadable_store_keeps_its_promises(kind: &str, case: StoreCase<'_>) {
    let StoreCase { store, old, new, .. } = case;
    assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
    let current = async || store.observe().await.expect("observe").current.expect("a current version");
    let knowing = |version: &String| CallContext { expected: Some(version.clone()), ..context() };
    let first = current().await;
    let told = is_recent(store.written(&first).await.expect("written"));
    assert_eq!(told, Some(true), "{kind}");
    for version in [None, Some(first.as_str())] {
        let error = store.read(version).await.expect_err("it cannot be read");
        assert_eq!((error.kind, error.in_doubt), (ErrorKind::Unsupported, false), "{error:?}");
    }
    let step = knowing(&first);
    assert_eq!(store.stage(&step, &new).await.expect_err("no stages").kind, ErrorKind::Unsupported);
    assert_eq!(store.destroy(&step, &first, &old).await.expect_err("destroy").kind, ErrorKind::Unsupported);
    let blank = Material::single("token", Secret::new(" "));
    assert!(!store.promote(&step, &blank, &old, None).await.expect_err("blank").in_doubt);
    let another = knowing(&"another version".to_owned());
    let error = store.promote(&another, &new, &old, None).await.expect_err("another version is expected");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");
    assert!(!store.refill(&step, &new).await.expect_err("it is there").in_doubt);
    assert_eq!(current().await, first, "nothing was changed so far");

    let Promoted { version: second, was } = store.promote(&step, &new, &old, None).await.expect("promote");
    assert_eq!((was.as_ref(), &current().await), (Some(&first), &second));
    assert_ne!(second, first);
    let error = store.promote(&step, &new, &old, None).await.expect_err("the version is another one now");
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    let third = store.promote(&knowing(&second), &old, &new, Some(&first)).await.expect("back").version;
    assert!(![&first, &second].contains(&&third), "each write has a version of its own");
    assert_eq!(current().await, third);
    let anyhow = store.promote(&context(), &old, &new, None).await.expect("whatever is there").version;
    assert_eq!(current().await, anyhow);
}

/// What stores with stages promise on top. Returns the version that is staged in the end.
async fn stages(store: &dyn Store, old: &Material, new: &Material) -> String {
    let first = store.observe().await.expect("observe").current;
    let step = context();
    let blank = Material::single("token", Secret::new(""));
    assert!(!store.stage(&step, &blank).await.expect_err("blank").in_doubt);

    let abandoned = store.stage(&step, new).await.expect("stage");
    assert_eq!(store.stage(&step, new).await.expect("the same call again"), abandoned);
    assert!(store.read(Some(&abandoned)).await.expect("read").same_as(new));
    assert!(store.read(None).await.expect("read").same_as(old), "staging changes nothing for readers");
    let versions = store.observe().await.expect("observe");
    assert_eq!((&versions.current, versions.pending.as_ref()), (&first, Some(&abandoned)));

    let error = store.stage(&context(), new).await.expect_err("another run's version is staged");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false), "{error:?}");

    store.retire(&step, &abandoned).await.expect("retire");
    store.retire(&step, &abandoned).await.expect("retiring twice is harmless");
    let versions = store.observe().await.expect("observe");
    assert_eq!((&versions.current, &versions.pending), (&first, &None));

    store.stage(&context(), new).await.expect("stage")
}

/// Everything that an issuer promises. `kind` is its name in the runbook: `kinds` looks for a call with each.
/// `nobody` is a handle that it never gave out.
pub(crate) async fn issuer_keeps_its_promises(kind: &str, issuer: &dyn Issuer, nobody: &str) {
    assert!(kind::named(ISSUERS, Some(kind)).is_some(), "there is no issuer {kind}");
    let traits = issuer.traits();
    assert_eq!(failures(&issuer.preflight(None).await), Vec::<String>::new());

    let before = issuer.existing().await.expect("existing");
    let step = context();
    // Another step of the same run: both tags count.
    let other = CallContext { run: step.run.clone(), step: "other/prepare/issue".to_owned(), ..context() };
    let candidate = issuer.candidate(&step);
    assert_eq!(candidate.is_none(), traits.mints, "a candidate exists where the server does not make one");

    let incoming = issuer.issue(&step, candidate.as_ref()).await.expect("issue");
    let tells =
        ["vault-token", "approle-secret-id", "vault-pki", "vault-database", "iam-access-key", "token-api"]
            .contains(&kind);
    let created = issuer.created(&incoming.identity.handle).await.expect("created");
    assert_eq!(is_recent(created), tells.then_some(true), "{kind}: {created:?}");
    let handle = incoming.identity.handle.as_str();
    assert!(!incoming.material.is_blank());
    assert!(!handle.contains(incoming.material.main().expect("a main part").expose()));
    for (part, value) in candidate.iter().flat_map(Material::parts) {
        let issued = incoming.material.part(part).is_some_and(|issued| issued.same_as(value));
        assert!(issued, "what was issued is the candidate, with what the server adds");
    }
    // What the run has sealed of a credential goes with each look for it.
    let holding = |step: &CallContext, material: &Material| CallContext {
        held: Some(std::sync::Arc::new(material.clone())),
        ..step.clone()
    };
    if let Some(candidate) = &candidate {
        let found = issuer.find(&holding(&step, candidate), &before).await.expect("find");
        if traits.issue == Observation::Listable {
            assert_eq!(found, [handle], "found by what was sealed before it was sent");
        }
    }
    let step = holding(&step, &incoming.material);
    if traits.issue == Observation::Listable {
        assert_eq!(issuer.find(&step, &before).await.expect("find"), [handle], "found by its tag");
    }
    if !traits.revokes {
        return;
    }
    accepts(issuer, &incoming.material).await;
    let standing = issuer.identify(&incoming.material).await.expect("identify").expect("it is known");
    assert_eq!((standing.identity.handle.as_str(), standing.life), (handle, Life::Active));
    assert_eq!(issuer.life(handle).await.expect("life"), Life::Active);
    issuer.inspect(handle).await.expect("inspect");

    let now = issuer.existing().await.expect("existing");
    if traits.issue == Observation::Listable {
        assert_eq!(
            issuer.find(&other, &now).await.expect("find"),
            Vec::<String>::new(),
            "not another step's"
        );
    }
    let second = if traits.coexists {
        let candidate = issuer.candidate(&other);
        let second = issuer.issue(&other, candidate.as_ref()).await.expect("a second one");
        assert_ne!(second.identity.handle, handle);
        let found = issuer.find(&holding(&other, &second.material), &now).await.expect("find");
        assert_eq!(found, [second.identity.handle.as_str()]);
        accepts(issuer, &incoming.material).await;
        Some(second)
    } else {
        None
    };

    if traits.disables {
        for _ in 0..2 {
            issuer.disable(&step, handle).await.expect("disable, twice");
            assert_eq!(issuer.life(handle).await.expect("life"), Life::Disabled);
        }
        keeps_out(kind, issuer, &incoming.material).await;
        for _ in 0..2 {
            issuer.enable(&step, handle).await.expect("enable, twice");
            assert_eq!(issuer.life(handle).await.expect("life"), Life::Active);
        }
        accepts(issuer, &incoming.material).await;
    } else {
        assert_eq!(issuer.disable(&step, handle).await.expect_err("disable").kind, ErrorKind::Unsupported);
        assert_eq!(issuer.enable(&step, handle).await.expect_err("enable").kind, ErrorKind::Unsupported);
    }

    for _ in 0..2 {
        issuer.revoke(&step, handle, Some(&incoming.material)).await.expect("revoke, twice");
        assert_eq!(issuer.life(handle).await.expect("life"), Life::Gone);
    }
    refuses(issuer, &incoming.material).await;
    assert_eq!(issuer.identify(&incoming.material).await.expect("identify"), None, "dead");
    if let Some(second) = second {
        accepts(issuer, &second.material).await;
        issuer.revoke(&other, &second.identity.handle, None).await.expect("revoke");
        refuses(issuer, &second.material).await;
    }
    assert_eq!(issuer.life(nobody).await.expect("life"), Life::Gone, "never existed");
    issuer.revoke(&step, nobody, None).await.expect("revoking what never was succeeds");
}

async fn accepts(issuer: &dyn Issuer, material: &Material) {
    assert_eq!(issuer.attempt(material).await.expect("an answer"), Use::Accepted);
}

async fn refuses(issuer: &dyn Issuer, material: &Material) {
    let answer = issuer.attempt(material).await.expect("an answer");
    assert!(matches!(answer, Use::Refused(_)), "{answer:?}");
}

/// MariaDB tells whoever has the right password that the account is locked. That is no acceptance, and proves nothing of the
/// password: it is no answer.
async fn keeps_out(kind: &str, issuer: &dyn Issuer, material: &Material) {
    if kind != "mysql-user" {
        return refuses(issuer, material).await;
    }
    let error = issuer.attempt(material).await.expect_err("locked");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::NoAnswer, false), "{error:?}");
}
