//! How a connection to Vault is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::VaultClient;
use super::settings::Settings;
use super::spec::Vault;
use crate::domain::Check;
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

impl Vault {
    fn settings(&self, env: &Environment) -> Result<Settings, CallError> {
        let Self { address, namespace, ca_cert } = self;
        Settings::resolve(address.as_deref(), namespace.as_deref(), ca_cert.as_deref(), env.as_ref())
    }
}

#[async_trait]
impl FamilyServer for Vault {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(VaultClient::new(self.settings(&at.env)?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<VaultClient, Self>(&name.into()).await?;
        Ok(super::preflight(&client, at.clock.as_ref()).await)
    }

    fn warnings(&self, name: &str, env: &Environment) -> Vec<String> {
        let unverified = self.settings(env).is_ok_and(|settings| settings.skip_verify);
        let warning = || {
            format!(
                "WARNING: connection `{name}`: the server's certificate is not verified (VAULT_SKIP_VERIFY); a machine between stanch and Vault can read the credentials"
            )
        };
        unverified.then(warning).into_iter().collect()
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        // The token may come from a file.
        let settings = Settings::resolve(self.address.as_deref(), None, None, env.as_ref());
        settings.ok().and_then(|settings| settings.token).into_iter().collect()
    }

    fn roots(&self, env: &Environment) -> Result<Option<(Vec<u8>, String)>, CallError> {
        // A connection that cannot be set up says so itself.
        self.settings(env).map_or(Ok(None), |settings| settings.roots())
    }
}
