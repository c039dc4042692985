//! What a run needs before a phase may begin, and whether the approvals that it has are enough.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::signature::Signer;
use super::signers::Signers;
use super::statement::APPROVAL;
use crate::domain::{Period, Phase};

/// What a plan says of approvals. It is part of the plan's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approvals {
    /// The `allowed_signers` file, word by word: whoever approves the plan approves it with it.
    pub signers: String,
    /// What must be met. A phase may have several.
    pub required: Vec<Requirement>,
    /// Whether `--break-glass` may stand in for all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub break_glass: bool,
}

/// What one phase needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The phase that may not begin before.
    pub phase: Phase,
    /// How many people must approve. Never zero.
    pub count: u32,
    /// Who may, as principals.
    pub from: Vec<String>,
    /// What they are called together, for messages.
    pub roles: Vec<String>,
    /// How long an approval holds once it is on the record.
    pub within: Period,
    /// Whether a security key must have been touched.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub presence: bool,
    /// Whether a security key must have taken a PIN.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pin: bool,
}

/// An approval that was verified.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Who gave it.
    pub by: String,
    /// With which key.
    pub signer: Signer,
    /// The phases that it lets begin.
    pub phases: Vec<Phase>,
    /// Why.
    pub reason: String,
    /// Where that is written down.
    pub ticket: Option<String>,
    /// Until when, as it says itself.
    pub expires: Timestamp,
    /// Whether a security key was touched.
    pub present: bool,
    /// Whether a security key took a PIN.
    pub verified: bool,
}

/// A request that was verified: who asked for the run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asked.
    pub by: String,
    /// The fingerprint of the key.
    pub key: String,
}

/// What a run has in the way of approvals.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Who asked for the run.
    pub request: Option<Request>,
    /// The approvals, with when each came on the record.
    pub given: Vec<(Timestamp, Approval)>,
    /// Whether somebody went on without.
    pub broken: bool,
}

/// A requirement that is not met.
#[derive(Debug, Clone)]
pub struct Lack<'a> {
    /// The requirement.
    pub requirement: &'a Requirement,
    /// Who approved, and counts.
    pub have: Vec<&'a str>,
    /// Who may still approve.
    pub may: Vec<&'a str>,
}

impl Approvals {
    /// The requirements of a phase that are not met at a moment; without one, those that never were.
    pub fn lacks<'a>(
        &'a self,
        phase: Phase,
        standing: &'a Standing,
        now: Option<Timestamp>,
    ) -> Vec<Lack<'a>> {
        if standing.broken {
            return Vec::new();
        }
        let mut required = self.required.iter().filter(|required| required.phase == phase).peekable();
        if required.peek().is_none() {
            return Vec::new();
        }
        let signers = Signers::read(&self.signers);
        let people = People::of(&signers, standing);
        let lack = |required: &'a Requirement| {
            let counts = |(at, approval): &&(Timestamp, Approval)| {
                // Without a request, nothing says whom it must not be.
                standing.request.as_ref().is_some_and(|request| !people.same(&approval.by, &request.by))
                    && required.takes(*at, approval, now)
                    && signers.admit(&approval.by, &approval.signer, APPROVAL, now).is_ok()
            };
            let mut have: BTreeMap<usize, &str> = BTreeMap::new();
            for (_, approval) in standing.given.iter().filter(counts) {
                have.entry(people.person(&approval.by)).or_insert(&approval.by);
            }
            let met = have.len() >= required.count as usize && required.count > 0;
            let may = required.from.iter().map(String::as_str).filter(|name| {
                let asked = standing.request.as_ref().is_some_and(|request| people.same(name, &request.by));
                !asked && !have.contains_key(&people.person(name)) && signers.knows(name)
            });
            (!met).then(|| Lack {
                requirement: required,
                may: may.collect(),
                have: have.values().copied().collect(),
            })
        };
        required.filter_map(lack).collect()
    }

    /// What a phase needs.
    pub fn needs(&self, phase: Phase) -> impl Iterator<Item = &Requirement> {
        self.required.iter().filter(move |required| required.phase == phase)
    }

    /// Whether two principals are one person, as far as keys show.
    pub(super) fn is_same(&self, standing: &Standing, one: &str, two: &str) -> bool {
        People::of(&Signers::read(&self.signers), standing).same(one, two)
    }
}

impl Requirement {
    /// The requirement in words: `2 approvals from security, each at most 4h old`.
    pub fn words(&self) -> String {
        let count = crate::text::counted(u64::from(self.count), "approval");
        let mut words = format!("{count} from {}, at most {} old", self.roles.join(" or "), self.within);
        let how = match (self.presence, self.pin) {
            (false, false) => return words,
            (true, false) => "a security key that was touched",
            (false, true) => "a security key with a PIN",
            (true, true) => "a security key that was touched, with a PIN",
        };
        words.push_str(", signed with ");
        words.push_str(how);
        words
    }

    /// Whether an approval counts here at a moment.
    fn takes(&self, at: Timestamp, approval: &Approval, now: Option<Timestamp>) -> bool {
        approval.phases.contains(&self.phase)
            && self.from.contains(&approval.by)
            && now
                .is_none_or(|now| now <= crate::clock::add(at, self.within.get()) && now <= approval.expires)
            && (!self.presence || approval.present)
            && (!self.pin || approval.verified)
    }
}

/// Who is whom: principals that share a key are one person, and so are those that signed with one.
#[derive(Debug, Default)]
struct People {
    /// Of each name, principal or key, the place of the next one that is the same.
    next: Vec<usize>,
    names: BTreeMap<String, usize>,
}

impl People {
    fn of(signers: &Signers, standing: &Standing) -> Self {
        let mut people = Self::default();
        for (key, principals) in signers.shared() {
            principals.into_iter().for_each(|principal| people.join(principal, &key));
        }
        for (_, approval) in &standing.given {
            people.join(&approval.by, &approval.signer.fingerprint());
        }
        if let Some(request) = &standing.request {
            people.join(&request.by, &request.key);
        }
        people
    }

    fn at(&mut self, name: String) -> usize {
        let next = &mut self.next;
        *self.names.entry(name).or_insert_with(|| {
            next.push(next.len());
            next.len() - 1
        })
    }

    fn root(&self, mut at: usize) -> usize {
        while self.next[at] != at {
            at = self.next[at];
        }
        at
    }

    fn join(&mut self, principal: &str, key: &str) {
        let (a, b) = (self.at(format!("principal {principal}")), self.at(format!("key {key}")));
        let (a, b) = (self.root(a), self.root(b));
        self.next[a] = b;
    }

    /// The person that a principal is; one that nothing is known of is a person of its own.
    fn person(&self, principal: &str) -> usize {
        self.names.get(&format!("principal {principal}")).map_or(usize::MAX, |at| self.root(*at))
    }

    fn same(&self, one: &str, two: &str) -> bool {
        one == two || (self.person(one) == self.person(two) && self.person(one) != usize::MAX)
    }
}
