//! What has changed in the world since a plan was made.

use crate::domain::Life;
use crate::plan::{Observed, Outgoing, Plan};

/// The first difference between what a plan saw and what is there now, in a sentence.
pub fn drift(plan: &Plan, now: &Observed) -> Option<String> {
    for (planned, seen) in plan.credentials.iter().zip(&now.credentials) {
        for (at, (was, is)) in planned.stores.iter().zip(&seen.stores).enumerate() {
            // A neighbour in the same secret may have been written. Where the issuer can name the credential,
            // it is compared below.
            let told = planned.issuer.tries && was.traits.reads;
            if was.versions.current != is.versions.current && !told {
                let word = |v: &Option<String>| v.clone().unwrap_or_else(|| "none".into());
                return Some(format!(
                    "credential `{}`, store {}: the plan saw version {} as current; the current version is now {}",
                    planned.name,
                    at + 1,
                    word(&was.versions.current),
                    word(&is.versions.current)
                ));
            }
            if was.place != is.place {
                return Some(format!(
                    "credential `{}`, store {}: its name now leads to a different place",
                    planned.name,
                    at + 1
                ));
            }
        }
        let (identity, disabled) = match &seen.outgoing {
            Outgoing::Known(s) | Outgoing::Named(s) => (Some(&s.identity), s.life != Life::Active),
            Outgoing::Gone { .. } | Outgoing::Waived(_) => (None, false),
        };
        let name = &planned.name;
        if planned.outgoing.as_ref() != identity {
            return Some(match identity {
                Some(_) => {
                    format!("credential `{name}`: its stores hold a different credential than the plan saw")
                }
                None => format!("credential `{name}`: its issuer no longer knows the old credential"),
            });
        }
        if planned.disabled != disabled {
            let now = if disabled { "disabled" } else { "enabled" };
            return Some(format!(
                "credential `{name}`: another client {now} the old credential since the plan was made"
            ));
        }
    }
    None
}
