//! What each kind can do, as a function of the runbook's words alone.
//!
//! The plan's file says it too, since the engine reads the plan; but a hand may have edited that file, so
//! it is compared with this when the plan is loaded.

use crate::domain::{IssuerTraits, Observation, StoreTraits};
use crate::runbook::model::{Issuer, Store};

/// The parts that an issuer's credentials are made of. Stores and probes rely on these names.
pub fn part_names(issuer: &Issuer) -> &'static [&'static str] {
    match issuer {
        Issuer::Sandbox { .. } | Issuer::Random { .. } => &["value"],
        Issuer::VaultToken { .. } => &["token"],
        Issuer::IamAccessKey { .. } => &["access_key_id", "secret_access_key"],
    }
}

/// What an issuer can do; `sandbox` where the embedded one plays it.
pub fn issuer_traits(issuer: &Issuer, sandbox: bool) -> IssuerTraits {
    let minting = IssuerTraits {
        mints: true,
        disables: false,
        revokes: true,
        coexists: true,
        tries: true,
        issue: Observation::Listable,
        change: Observation::Readable,
    };
    match issuer {
        Issuer::Sandbox { coexist, can_disable, .. } => {
            IssuerTraits { disables: *can_disable, coexists: *coexist != Some(1), ..minting }
        }
        Issuer::VaultToken { .. } => minting,
        Issuer::IamAccessKey { .. } => IssuerTraits { disables: true, ..minting },
        Issuer::Random { apply, revoke, .. } => {
            let told = |call: bool| if call { Observation::Opaque } else { Observation::Idempotent };
            IssuerTraits {
                mints: false,
                tries: false,
                revokes: revoke.is_some(),
                // An authority that can be told to drop the old value holds both until then. One that
                // cannot has replaced the old by the new.
                coexists: revoke.is_some() || apply.is_none(),
                issue: if sandbox { Observation::Listable } else { told(apply.is_some()) },
                change: if sandbox { Observation::Readable } else { told(revoke.is_some()) },
                ..minting
            }
        }
    }
}

/// The connection whose issuer finds whatever carries a run's tag in one look, for all credentials at once;
/// `None` where each credential has to be looked at by itself.
pub fn finds_by_run(issuer: &Issuer) -> Option<&str> {
    match issuer {
        Issuer::VaultToken { connection, .. } => Some(connection),
        Issuer::Sandbox { .. } | Issuer::IamAccessKey { .. } | Issuer::Random { .. } => None,
    }
}

/// What a store can do.
pub fn store_traits(store: &Store) -> StoreTraits {
    let (stages, destroys) = match store {
        Store::Sandbox { labels, .. } => (*labels, false),
        // AWS removes a version that carries no label by itself.
        Store::Secretsmanager { .. } => (true, false),
        Store::Kv2 { destroy_outgoing, .. } => (false, *destroy_outgoing),
        Store::File { .. } => (false, false),
    };
    let change = if stages { Observation::Token } else { Observation::Conditional };
    StoreTraits { stages, destroys, change }
}
