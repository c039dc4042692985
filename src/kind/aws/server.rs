//! How a connection to AWS is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::{AwsClient, Settings};
use super::spec::Aws;
use crate::domain::Check;
use crate::kind::real::{Client, FamilyServer, RealProvider};
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

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<AwsClient, Self>(&name.into()).await?;
        Ok(super::preflight(&client, at.clock.as_ref()).await)
    }
}
