//! Makes a failing schedule smaller until nothing can be left out.

use crate::play;
use crate::script::Script;

/// The smallest schedule found that breaks the same invariant.
pub(crate) fn smallest(mut script: Script, invariant: u8) -> Script {
    let fails = |script: &Script| {
        play::again(script.clone(), false).violation.is_some_and(|v| v.invariant == invariant)
    };
    loop {
        let before = serde_json::to_string(&script).map_or(0, |t| t.len());
        for smaller in candidates {
            let mut at = 0;
            while let Some(candidate) = smaller(&script, at) {
                if fails(&candidate) {
                    script = candidate;
                } else {
                    at += 1;
                }
            }
        }
        if serde_json::to_string(&script).map_or(0, |t| t.len()) >= before {
            return script;
        }
    }
}

/// Ways to make a schedule smaller: each leaves out its `at`th thing, `None` when there are no more.
#[expect(non_upper_case_globals, reason = "read as a list of functions")]
const candidates: [fn(&Script, usize) -> Option<Script>; 10] = [
    |s, at| {
        without(
            s,
            |s| s.calls.keys().nth(at).copied(),
            |s, key| {
                s.calls.remove(&key);
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| s.commits.keys().nth(at).copied(),
            |s, key| {
                s.commits.remove(&key);
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| s.sessions.keys().nth(at).copied(),
            |s, key| {
                s.sessions.remove(&key);
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| (at < s.own.len()).then_some(at),
            |s, at| {
                s.own.remove(at);
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| (s.credentials.len() > 1 && at < s.credentials.len()).then_some(at),
            |s, at| {
                s.credentials.remove(at);
                s.before =
                    s.before.filter(|(c, _)| *c != at).map(|(c, what)| (c - usize::from(c > at), what));
                for credential in &mut s.credentials {
                    credential.after.retain(|a| *a != at);
                    credential.after.iter_mut().for_each(|a| *a -= usize::from(*a > at));
                }
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| s.credentials.get(at).filter(|c| c.stores.len() > 1).map(|_| at),
            |s, at| {
                s.credentials[at].stores.pop();
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| s.credentials.get(at).filter(|c| !c.consumers.is_empty()).map(|_| at),
            |s, at| {
                s.credentials[at].consumers.pop();
            },
        )
    },
    |s, at| {
        without(
            s,
            |s| s.credentials.get(at).filter(|c| c.blind).map(|_| at),
            |s, at| s.credentials[at].blind = false,
        )
    },
    |s, at| without(s, |s| (at == 0 && s.gate).then_some(0), |s, _| s.gate = false),
    |s, at| without(s, |s| (at == 0 && s.watch).then_some(0), |s, _| s.watch = false),
];

fn without<K: Copy>(
    script: &Script,
    find: impl Fn(&Script) -> Option<K>,
    remove: impl Fn(&mut Script, K),
) -> Option<Script> {
    let mut smaller = script.clone();
    let key = find(script)?;
    remove(&mut smaller, key);
    Some(smaller)
}
