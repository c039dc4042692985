//! How a connection to MariaDB is made.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::MysqlClient;
use super::settings::Settings;
use super::spec::Mysql;
use crate::domain::Check;
use crate::kind::real::{Client, Environment, FamilyServer, RealProvider};
use crate::provider::CallError;
use crate::secret::Secret;

#[async_trait]
impl FamilyServer for Mysql {
    async fn client(&self, at: &RealProvider) -> Result<Client, CallError> {
        Ok(Arc::new(MysqlClient::new(Settings::resolve(self, at.env.as_ref())?, at.deadline)?))
    }

    async fn preflight(&self, name: &str, at: &RealProvider) -> Result<Vec<Check>, CallError> {
        let client = at.client::<MysqlClient, Self>(&name.into()).await?;
        Ok(super::preflight(&client, at.clock.as_ref()).await)
    }

    fn warnings(&self, name: &str, env: &Environment) -> Vec<String> {
        let plain = Settings::resolve(self, env.as_ref()).is_ok_and(|settings| settings.in_plain_text());
        let warning = || {
            format!(
                "WARNING: connection `{name}`: it is not encrypted (tls: false); a machine between stanch and MariaDB can read and change what is sent"
            )
        };
        plain.then(warning).into_iter().collect()
    }

    fn secrets(&self, env: &Environment) -> Vec<Secret> {
        let settings = Settings::resolve(self, env.as_ref());
        settings.ok().and_then(|settings| settings.password).into_iter().collect()
    }
}
