//! Who runs a process, as its surroundings say.

use serde::{Deserialize, Serialize};

/// Who runs a process. All of it is what the environment says: it helps to find the person, and proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The name that the system has for the user of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The user that `sudo` was called by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_user: Option<String>,
    /// The job of a CI system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
}

/// A job of a CI system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The system.
    pub system: String,
    /// Who started it, as the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What it works on: a repository, a pipeline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Where to look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

impl Who {
    /// Whether the surroundings say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Cleans every text.
    pub fn scrub(&mut self, clean: &dyn Fn(&str) -> String) {
        let Self { login, sudo_user, job } = self;
        let mut texts: Vec<&mut String> = [login, sudo_user].into_iter().flatten().collect();
        if let Some(Job { system, by, of, link }) = job {
            texts.push(system);
            texts.extend([by, of, link].into_iter().flatten());
        }
        for text in texts {
            *text = clean(text);
        }
    }

    /// In words: `login root, sudo by alice, GitHub job of octo/repo by alice: https://…`.
    pub fn words(&self) -> String {
        let mut parts = Vec::new();
        parts.extend(self.login.as_ref().map(|login| format!("login {login}")));
        parts.extend(self.sudo_user.as_ref().map(|user| format!("sudo by {user}")));
        parts.extend(self.job.as_ref().map(|job| {
            let part = |word: &str, text: &Option<String>| {
                text.as_ref().map(|text| format!("{word}{text}")).unwrap_or_default()
            };
            format!(
                "{} job{}{}{}",
                job.system,
                part(" of ", &job.of),
                part(" by ", &job.by),
                part(": ", &job.link)
            )
        }));
        parts.join(", ")
    }
}
