//! A request that carries the credential, as a check against a relying party.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::HeaderName;

use crate::domain::{Check, ErrorKind};
use crate::provider::http::call::ASK_TIMEOUT;
use crate::provider::http::transport::Transport;
use crate::provider::http::{bearer, main_part, safe_url, sensitive};
use crate::provider::outcome::CallError;
use crate::provider::{Probe, Use};
use crate::runbook::model::HttpMethod;
use crate::secret::Material;

/// Sends one request and reads its status. Only the statuses that the runbook names as refusals
/// are refusals: a server that answers 500 refuses nothing.
#[derive(Debug)]
pub struct HttpProbe {
    /// How requests are sent.
    pub transport: Arc<Transport>,
    /// The method.
    pub method: HttpMethod,
    /// The address.
    pub url: String,
    /// Whether the credential goes as `Authorization: Bearer`.
    pub bearer: bool,
    /// The header that carries it instead.
    pub header: Option<String>,
    /// The status that means *accepted*.
    pub expect: u16,
    /// The statuses that mean *refused*.
    pub refuse: Vec<u16>,
}

#[async_trait]
impl Probe for HttpProbe {
    async fn preflight(&self, name: &str) -> Vec<Check> {
        let found = self.transport.reach(&self.url).await;
        found.err().map(|error| error.to_check(name)).into_iter().collect()
    }

    async fn attempt(&self, material: &Material) -> Result<Use, CallError> {
        let what = format!("{} {}", self.method.name(), safe_url(&self.url));
        let invalid = || {
            CallError::rejected(ErrorKind::Invalid, format!("cannot make the request of the probe {what}"))
        };
        let mut request = http::Request::builder().method(self.method.name()).uri(&self.url);
        if self.bearer {
            let (header, value) = bearer(Some(material))?;
            request = request.header(header, value);
        }
        if let Some(header) = &self.header {
            let header: HeaderName = header.parse().map_err(|_| invalid())?;
            request =
                request.header(header, sensitive(main_part(Some(material))?.expose(), "the credential")?);
        }
        let request = request.body(Vec::new()).map_err(|_| invalid())?;
        let reply = self.transport.send(request, Some(ASK_TIMEOUT)).await.map_err(CallError::read_only)?;
        let status = reply.status.as_u16();
        // A status in both lists is a mistake in the runbook; it must not count as a death certificate.
        if status == self.expect {
            Ok(Use::Accepted)
        } else if self.refuse.contains(&status) {
            Ok(Use::Refused(format!("{what} answered {status}")))
        } else {
            let error = CallError::rejected(
                if status == 429 { ErrorKind::Throttled } else { ErrorKind::NoAnswer },
                format!("{what} answered {status}, which is neither acceptance nor refusal"),
            );
            Err(CallError { retry_after: reply.retry_after(), ..error })
        }
    }
}
