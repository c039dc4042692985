//! How a connection to AWS is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::{AwsClient, Settings};
use super::spec::Aws;
use crate::clock::Clock;
use crate::domain::Check;
use crate::kind::real::{Client, FamilyServer, RealProvider, invalid};
use crate::provider::CallError;

#[async_trait]
impl FamilyServer for Aws {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        let settings = Settings {
            region: self.region.clone(),
            account: self.account.clone(),
            profile: self.profile.clone(),
            endpoint_url: self.endpoint_url.clone(),
            ca_bundle: (at.env)("AWS_CA_BUNDLE").filter(|path| !path.is_empty()),
            keys: None,
        };
        Ok(Arc::new(AwsClient::new(settings, at.deadline).await?))
    }

    async fn preflight(&self, client: Client, clock: &dyn Clock) -> Vec<Check> {
        match client.downcast::<AwsClient>() {
            Ok(client) => super::preflight(&client, clock).await,
            Err(_) => vec![invalid("this is not the client of AWS").to_check("connection")],
        }
    }
}
