//! Counts the sessions of a role.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::PgActivity;
use crate::domain::{Check, Judgement, Verdict};
use crate::kind::Connection;
use crate::kind::postgres::client::PgClient;
use crate::kind::postgres::handle::Handle;
use crate::kind::postgres::sessions::sessions;
use crate::kind::postgres::settings::Settings;
use crate::kind::real::{GateServer, RealProvider, invalid};
use crate::provider::{CallError, Gate};
use crate::text::{counted, sanitize};

struct Activity {
    client: PgClient,
    at_most: u32,
    times: u32,
    /// How many looks in a row found no more than allowed.
    row: AtomicU32,
}

impl GateServer for PgActivity {
    fn connect(&self, at: &RealProvider) -> Result<Arc<dyn Gate>, CallError> {
        let Connection::Postgres(spec) = at.connection(self.connection.name())? else {
            return Err(invalid("the connection of this gate is not of the type `postgres`"));
        };
        let client = PgClient::new(Settings::resolve(spec, at.env.as_ref())?, at.deadline)?;
        Ok(Arc::new(Activity { client, at_most: self.at_most, times: self.times, row: AtomicU32::new(0) }))
    }
}

impl Activity {
    async fn look(&self, role: &str) -> Result<Judgement, CallError> {
        let handle = Handle::read(role);
        let (total, programs) = sessions(&self.client, &handle).await?;
        let mut detail = format!("{} of {}", counted(total, "session"), sanitize(handle.name()));
        if !programs.is_empty() {
            detail = format!("{detail}: {}", programs.join(", "));
        }
        if total > u64::from(self.at_most) {
            self.row.store(0, Ordering::SeqCst);
            return Ok(Judgement { verdict: Verdict::Inconclusive, detail });
        }
        let row = self.row.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let enough = row >= self.times;
        let verdict = if enough { Verdict::Pass } else { Verdict::Inconclusive };
        let row = row.min(self.times);
        Ok(Judgement { verdict, detail: format!("{detail}, look {row} of {}", self.times) })
    }
}

#[async_trait]
impl Gate for Activity {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        // Whether sessions are shown, of any role.
        vec![match sessions(&self.client, &Handle::read("")).await {
            Ok(_) => Check::pass(name, "the sessions of PostgreSQL can be counted"),
            Err(error) => error.to_check(name),
        }]
    }

    async fn evaluate(&self) -> Judgement {
        Judgement { verdict: Verdict::Error, detail: "the old role is not known".to_owned() }
    }

    async fn evaluate_about(&self, outgoing: Option<&str>) -> Judgement {
        let Some(role) = outgoing else { return self.evaluate().await };
        self.look(role).await.unwrap_or_else(|error| {
            self.row.store(0, Ordering::SeqCst);
            Judgement { verdict: Verdict::Error, detail: error.message }
        })
    }
}
