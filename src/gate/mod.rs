//! The built-in gate, and how gates are watched.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};

use crate::domain::{Judgement, Verdict};
use crate::provider::{Attestation, CallError, Consumer};
use crate::secret::Material;

/// How many consumers are asked at once.
const AT_ONCE: usize = 32;

/// A consumer whose adoption counts, with the value that it should use.
#[derive(Clone)]
pub struct Watched {
    /// The credential's name.
    pub credential: String,
    /// The consumer's name.
    pub consumer: String,
    /// Whom to ask.
    pub ask: Arc<dyn Consumer>,
    /// The value that it should use.
    pub wanted: Arc<Material>,
}

/// How many instances of a consumer use the wanted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    /// The credential's name.
    pub credential: String,
    /// The consumer's name.
    pub consumer: String,
    /// How many use it.
    pub instances: usize,
    /// Of how many that were asked.
    pub of: usize,
    /// How many say that they use another value.
    pub others: usize,
    /// The first of those, where it has a name.
    pub other: Option<String>,
    /// The first that gave no answer.
    pub trouble: Option<String>,
}

/// Asks one consumer. An instance that gives no answer counts, and it is not a yes.
pub async fn adoption(watched: &Watched, patience: Duration) -> Adoption {
    let answers = match tokio::time::timeout(patience, watched.ask.attest()).await {
        Ok(answers) => answers,
        Err(_) => vec![Err(CallError::unknown("no answer in time"))],
    };
    let uses = |said: &Attestation| said.is_of(&watched.wanted);
    let (used, others): (Vec<&Attestation>, Vec<_>) = answers.iter().flatten().partition(|said| uses(said));
    Adoption {
        credential: watched.credential.clone(),
        consumer: watched.consumer.clone(),
        instances: used.len(),
        of: answers.len(),
        others: others.len(),
        other: others.iter().find_map(|said| said.instance().map(str::to_owned)),
        trouble: answers.iter().find_map(|a| a.as_ref().err().map(|e| e.message.clone())),
    }
}

impl Adoption {
    /// Which instance does not use the wanted value, as far as it is known, to put behind a sentence.
    pub fn behind(&self) -> Option<String> {
        let other = self.other.as_ref().map(|instance| format!("{instance} uses another one"));
        other.or_else(|| self.trouble.clone()).map(|why| format!("; {}: {why}", self.consumer))
    }
}

/// Asks all consumers, some at a time.
pub async fn adoptions(watched: &[Watched], patience: Duration) -> Vec<Adoption> {
    // A consumer that could not be asked, whatever the reason, counts as one that did not answer.
    let mut found: Vec<Adoption> = watched
        .iter()
        .map(|one| Adoption {
            credential: one.credential.clone(),
            consumer: one.consumer.clone(),
            instances: 0,
            of: 1,
            others: 0,
            other: None,
            trouble: Some("stanch crashed while asking".into()),
        })
        .collect();
    let mut asking = JoinSet::new();
    let mut take = |done: Option<Result<(usize, Adoption), JoinError>>| {
        if let Some(Ok((at, adoption))) = done {
            found[at] = adoption;
        }
    };
    for (at, one) in watched.iter().enumerate() {
        let one = one.clone();
        if asking.len() >= AT_ONCE {
            take(asking.join_next().await);
        }
        asking.spawn(async move { (at, adoption(&one, patience).await) });
    }
    while !asking.is_empty() {
        take(asking.join_next().await);
    }
    found
}

/// The verdict of the gate `adopted`. No consumer at all is never a pass.
pub fn adopted(found: &[Adoption]) -> Judgement {
    let (instances, of) = found.iter().fold((0, 0), |(i, n), a| (i + a.instances, n + a.of));
    let silent = found.iter().any(|a| a.of == 0);
    let verdict = if of > 0 && instances == of && !silent { Verdict::Pass } else { Verdict::Inconclusive };
    let mut detail = format!("{instances} of {of} instances use the new credential");
    if let Some(behind) = found.iter().find_map(Adoption::behind) {
        detail.push_str(&behind);
    }
    Judgement { verdict, detail }
}

/// The verdict of the gate `refused`, of what each place answered, `None` where none came in time, and whether its
/// refusal proves anything. An acceptance counts wherever it is.
pub fn refused(found: &[(bool, Option<Judgement>)]) -> Judgement {
    let places = || found.iter().filter(|(proves, _)| *proves).map(|(_, answer)| answer);
    let of = |wanted: Verdict| {
        found.iter().filter_map(|(_, answer)| answer.as_ref()).find(move |a| a.verdict == wanted)
    };
    if let Some(accepted) = of(Verdict::Fail) {
        return accepted.clone();
    }
    let passed = places().flatten().filter(|answer| answer.verdict == Verdict::Pass).count();
    let all = places().count();
    let trouble = places().find_map(|answer| match answer {
        None => Some("no answer in time"),
        Some(answer) => (answer.verdict != Verdict::Pass).then_some(answer.detail.as_str()),
    });
    let detail = format!("{passed} of {all} places refuse the old credential");
    match trouble {
        // Where nothing is proved the run says so at its end, and there is nothing to go on with.
        None => Judgement { verdict: Verdict::Pass, detail },
        Some(trouble) => Judgement { verdict: Verdict::Inconclusive, detail: format!("{detail}; {trouble}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(instances: usize, of: usize) -> Adoption {
        let (credential, consumer) = ("c".into(), "x".into());
        Adoption { credential, consumer, instances, of, others: 0, other: None, trouble: None }
    }

    #[test]
    fn an_acceptance_counts_anywhere_and_silence_is_no_refusal() {
        let answer = |verdict| Some(Judgement { verdict, detail: String::new() });
        let verdict = |found: &[(bool, Option<Judgement>)]| refused(found).verdict;
        let refuses = || (true, answer(Verdict::Pass));
        assert_eq!(verdict(&[refuses(), refuses()]), Verdict::Pass);
        assert_eq!(verdict(&[refuses(), (true, None)]), Verdict::Inconclusive);
        assert_eq!(verdict(&[refuses(), (true, answer(Verdict::Inconclusive))]), Verdict::Inconclusive);
        assert_eq!(verdict(&[refuses(), (false, answer(Verdict::Inconclusive))]), Verdict::Pass);
        for proves in [true, false] {
            assert_eq!(verdict(&[refuses(), (true, None), (proves, answer(Verdict::Fail))]), Verdict::Fail);
        }
    }

    #[test]
    fn only_all_of_some_is_a_pass() {
        assert_eq!(adopted(&[]).verdict, Verdict::Inconclusive);
        assert_eq!(adopted(&[found(0, 0)]).verdict, Verdict::Inconclusive);
        assert_eq!(adopted(&[found(1, 2)]).verdict, Verdict::Inconclusive);
        assert_eq!(adopted(&[found(2, 2), found(0, 0)]).verdict, Verdict::Inconclusive);
        assert_eq!(adopted(&[found(2, 2), found(1, 1)]).verdict, Verdict::Pass);
    }
}
