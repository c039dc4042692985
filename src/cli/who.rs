//! Who runs this process, as its surroundings say. None of it is trusted: it helps to find the person.

use crate::domain::{Job, Who};

/// Longer than any name or address that helps.
const LONGEST: usize = 300;

/// What the environment says, from a lookup of its variables.
pub(super) fn who(variable: &dyn Fn(&str) -> Option<String>) -> Who {
    let get = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty())?;
        // One that looks like a secret is left out.
        let safe = !crate::runbook::holds_secret(&value);
        safe.then(|| value.trim().chars().map(crate::text::printable).take(LONGEST).collect::<String>())
    };
    Who { login: ["LOGNAME", "USER"].into_iter().find_map(get), sudo_user: get("SUDO_USER"), job: job(&get) }
}

/// The job, by the variables that each CI system documents.
fn job(get: &dyn Fn(&str) -> Option<String>) -> Option<Job> {
    let is = |name: &str| get(name).is_some();
    if is("GITHUB_ACTIONS") {
        let link = || {
            Some(format!(
                "{}/{}/actions/runs/{}",
                get("GITHUB_SERVER_URL")?,
                get("GITHUB_REPOSITORY")?,
                get("GITHUB_RUN_ID")?
            ))
        };
        let of = get("GITHUB_WORKFLOW_REF").or_else(|| get("GITHUB_REPOSITORY"));
        let by = get("GITHUB_TRIGGERING_ACTOR").or_else(|| get("GITHUB_ACTOR"));
        return Some(Job { system: "GitHub".into(), by, of, link: link() });
    }
    if is("GITLAB_CI") {
        return Some(Job {
            system: "GitLab".into(),
            by: get("GITLAB_USER_LOGIN"),
            of: get("CI_PROJECT_PATH"),
            link: get("CI_JOB_URL"),
        });
    }
    if is("BUILDKITE") {
        let by = get("BUILDKITE_BUILD_CREATOR_EMAIL").or_else(|| get("BUILDKITE_BUILD_CREATOR"));
        return Some(Job {
            system: "Buildkite".into(),
            by,
            of: get("BUILDKITE_PIPELINE_SLUG"),
            link: get("BUILDKITE_BUILD_URL"),
        });
    }
    if is("JENKINS_URL") {
        return Some(Job {
            system: "Jenkins".into(),
            by: get("BUILD_USER_ID"),
            of: get("JOB_NAME"),
            link: get("BUILD_URL"),
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> String {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        who(&lookup).words()
    }

    #[test]
    fn each_ci_system_is_told_by_its_own_variables() {
        for (variables, expected) in [
            (&[("LOGNAME", "root"), ("SUDO_USER", "alice")][..], "login root, sudo by alice"),
            (
                &[
                    ("GITHUB_ACTIONS", "true"),
                    ("GITHUB_ACTOR", "alice"),
                    ("GITHUB_REPOSITORY", "octo/repo"),
                    ("GITHUB_SERVER_URL", "https://github.com"),
                    ("GITHUB_RUN_ID", "7"),
                ],
                "GitHub job of octo/repo by alice: https://github.com/octo/repo/actions/runs/7",
            ),
            (
                &[
                    ("GITLAB_CI", "true"),
                    ("GITLAB_USER_LOGIN", "bob"),
                    ("CI_PROJECT_PATH", "g/p"),
                    ("CI_JOB_URL", "https://gl/1"),
                ],
                "GitLab job of g/p by bob: https://gl/1",
            ),
            (
                &[
                    ("BUILDKITE", "true"),
                    ("BUILDKITE_BUILD_CREATOR", "C"),
                    ("BUILDKITE_BUILD_URL", "https://b/2"),
                ],
                "Buildkite job by C: https://b/2",
            ),
            (
                &[("JENKINS_URL", "https://j"), ("JOB_NAME", "rotate"), ("BUILD_URL", "https://j/3")],
                "Jenkins job of rotate: https://j/3",
            ),
            (&[], ""),
        ] {
            assert_eq!(of(variables), expected);
        }
    }

    #[test]
    fn what_looks_like_a_secret_or_steers_a_terminal_is_kept_out() {
        let secret = format!("hvs.{}", "CAESIJ0tQ3x5b2Z1aGl0c2VjcmV0dmFsdWU0Mg");
        assert_eq!(of(&[("LOGNAME", &secret), ("USER", "alice")]), "login alice");
        assert!(!of(&[("LOGNAME", "a\u{1b}[2Jb")]).contains('\u{1b}'));
        assert!(of(&[("LOGNAME", &"x".repeat(5000))]).len() < 400);
    }
}
