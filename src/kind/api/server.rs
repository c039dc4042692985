//! How a connection to a service is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::ApiClient;
use super::settings::Settings;
use super::spec::Api;
use crate::domain::Check;
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

#[async_trait]
impl FamilyServer for Api {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(ApiClient::new(Settings::resolve(self, at.env.as_ref())?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<ApiClient, Self>(&name.into()).await?;
        Ok(client.preflight(at.clock.as_ref()).await)
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        let settings = Settings::resolve(self, env.as_ref());
        settings.ok().and_then(|settings| settings.token).into_iter().collect()
    }
}
