//! Steps of the runbook's own: a program, a request, or a question.

use std::time::Duration;

use async_trait::async_trait;

use super::earlier::Earlier;
use super::job::{Job, bug, lost, nothing};
use super::{Effect, OWN_PATIENCE, Observed, applied};
use crate::domain::ErrorKind;
use crate::engine::yields::Yield;
use crate::engine::{Answer, safe};
use crate::provider::{CallError, Use};
use crate::runbook::model;
use crate::secret::Material;

pub(super) struct Own {
    name: String,
    /// What the new credential that it delivers is sealed as.
    delivers: Option<String>,
}

impl Own {
    pub(super) fn new(earlier: &Earlier<'_>, name: &str) -> Self {
        let plan = earlier.state.plan();
        let credential = plan.runbook.phases.own_step(name).and_then(|own| own.credential.as_ref());
        let delivers = credential.map(|credential| {
            let at = plan.credentials.iter().position(|planned| planned.name == *credential);
            // One that the plan does not have is not among the sealed secrets either.
            safe::incoming(credential, at.map_or(0, |at| earlier.round(at)))
        });
        Self { name: name.to_owned(), delivers }
    }
}

#[async_trait]
impl Effect for Own {
    fn limit(&self, _: Duration) -> Duration {
        OWN_PATIENCE
    }

    async fn perform(&self, job: &Job) -> Result<Yield, CallError> {
        let own = self.spec(job)?;
        if let Some(question) = &own.manual {
            return self.ask(job, question).await;
        }
        let call = match (&own.exec, &own.http) {
            (Some(exec), _) => model::Call::Exec(exec.clone()),
            (None, Some(http)) => model::Call::Http(http.clone()),
            (None, None) => return Ok(Yield::default()),
        };
        let sealed = |name: &String| {
            job.safe
                .get(name)
                .ok_or_else(|| lost("the new credential is not among the sealed secrets".into()))
        };
        let material = self.delivers.as_ref().map(sealed).transpose()?.map(|held| held.material);
        // It may have done what there is to take back, or handed out the new credential, before it failed.
        let matters = self.delivers.is_some() || !matches!(own.undo, None | Some(model::Undo::None));
        self.call(job, &call, material.as_deref(), matters).await
    }

    async fn undo(&self, job: &Job) -> Result<Yield, CallError> {
        let call = match &self.spec(job)?.undo {
            None | Some(model::Undo::None) => return Ok(Yield::default()),
            Some(model::Undo::Manual(question)) => return self.ask(job, question).await,
            Some(model::Undo::Exec(exec)) => model::Call::Exec(exec.clone()),
            Some(model::Undo::Http(http)) => model::Call::Http(http.clone()),
        };
        self.call(job, &call, None, false).await
    }

    async fn observe(&self, job: &Job) -> Observed {
        applied(self.is_in_effect(job).await?)
    }

    async fn observe_undo(&self, job: &Job) -> Observed {
        if self.spec(job)?.observe.is_none() {
            return applied(false);
        }
        applied(!self.is_in_effect(job).await?)
    }
}

impl Own {
    fn spec<'a>(&self, job: &'a Job) -> Result<&'a model::OwnStep, CallError> {
        let spec = job.plan.runbook.phases.of(job.step().phase);
        spec.and_then(|p| p.before.iter().chain(&p.after).find(|s| s.name == self.name))
            .ok_or_else(|| bug("the plan does not have this custom step"))
    }

    /// A custom step says by its exit status that it did not do its work, and a runbook uses that to stop a run. That is
    /// not enough where it `matters`, or where something can be asked afterwards.
    async fn call(
        &self,
        job: &Job,
        call: &model::Call,
        material: Option<&Material>,
        matters: bool,
    ) -> Result<Yield, CallError> {
        let matters = matters || self.spec(job)?.observe.is_some();
        let done = job.provider.call(call).await?.perform(&job.context, material).await.map(nothing);
        done.map_err(|e| if e.kind == ErrorKind::Declined && !matters { e.read_only() } else { e })
    }

    async fn ask(&self, job: &Job, question: &str) -> Result<Yield, CallError> {
        let answer = tokio::select! {
            biased;
            answer = job.operator.ask(&self.name, question) => answer,
            () = job.cancel.cancelled() => {
                return Err(CallError::rejected(ErrorKind::Cancelled, format!("stopped before you answered `{question}`")));
            }
        };
        match answer {
            Answer::Yes => Ok(Yield::default()),
            Answer::No => {
                Err(CallError::rejected(ErrorKind::Declined, format!("the answer to `{question}` was no")))
            }
            Answer::Nobody => {
                Err(CallError::rejected(ErrorKind::Unanswered, format!("`{question}` is not answered"))
                    .hint(format!("pass --confirm {} if the answer is yes", self.name)))
            }
        }
    }

    /// Whether it is in effect, as its `observe:` program says.
    async fn is_in_effect(&self, job: &Job) -> Result<bool, CallError> {
        let Some(observe) = self.spec(job)?.observe.clone() else {
            return Err(bug("the step cannot be observed"));
        };
        let nobody = &job.plan.runbook.credentials;
        let (name, credential) = nobody.first_key_value().ok_or_else(|| bug("the plan has no credential"))?;
        let probe = job
            .provider
            .probe(name, credential, &model::Probe::Exec(crate::kind::exec::ExecProbe(observe)))
            .await?;
        Ok(probe.attempt(&Material::default()).await? == Use::Accepted)
    }
}
