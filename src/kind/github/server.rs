//! How a connection to GitHub is made: as one to any service with an API, with GitHub's own address and headers
//! (<https://docs.github.com/en/rest/using-the-rest-api/getting-started-with-the-rest-api>).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::spec::Github;
use crate::domain::Check;
use crate::kind::api::{Api, ApiClient, Settings};
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

impl Github {
    /// How it is reached: the runbook's words first, then the environment.
    ///
    /// # Errors
    /// When the address is none or not encrypted, or the variable's name is not one that programs do not inherit.
    pub fn settings(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Settings, CallError> {
        let address = self.address.clone().or_else(|| env("GITHUB_API_URL").filter(|url| !url.is_empty()));
        let headers = [
            ("Accept", "application/vnd.github+json"),
            ("X-GitHub-Api-Version", "2022-11-28"),
            // GitHub refuses requests without one.
            ("User-Agent", concat!("stanch/", env!("CARGO_PKG_VERSION"))),
        ];
        let api = Api {
            address: Some(address.unwrap_or_else(|| "https://api.github.com".to_owned())),
            variable: self.variable.clone(),
            header: "Authorization".to_owned(),
            prefix: None,
            headers: BTreeMap::from(headers.map(|(name, value)| (name.to_owned(), value.to_owned()))),
            ca_cert: self.ca_cert.clone(),
        };
        Settings::resolve_with(Some("GITHUB_TOKEN"), &api, env)
    }
}

#[async_trait]
impl FamilyServer for Github {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(ApiClient::new(self.settings(at.env.as_ref())?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<ApiClient, Self>(&name.into()).await?;
        Ok(client.preflight(at.clock.as_ref()).await)
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        let settings = self.settings(env.as_ref());
        settings.ok().and_then(|settings| settings.token).into_iter().collect()
    }
}
