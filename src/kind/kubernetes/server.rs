//! How a connection to a cluster is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::KubeClient;
use super::settings::Settings;
use super::spec::Kubernetes;
use crate::domain::Check;
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

#[async_trait]
impl FamilyServer for Kubernetes {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(KubeClient::new(Settings::resolve(self, at.env.as_ref())?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<KubeClient, Self>(&name.into()).await?;
        Ok(client.preflight(at.clock.as_ref()).await)
    }

    fn warnings(&self, name: &str, env: &Environment) -> Vec<String> {
        let unverified = Settings::resolve(self, env.as_ref()).is_ok_and(|settings| settings.skip_verify);
        let warning = || {
            format!(
                "WARNING: connection `{name}`: the server's certificate is not verified (insecure-skip-tls-verify); a machine between stanch and Kubernetes can read the credentials"
            )
        };
        unverified.then(warning).into_iter().collect()
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        let Ok(settings) = Settings::resolve(self, env.as_ref()) else { return Vec::new() };
        let token = settings.login.token().ok().flatten();
        token.into_iter().chain(settings.identity).collect()
    }
}
