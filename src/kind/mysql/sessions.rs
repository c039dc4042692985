//! The live sessions of a user. A server does not say which account let a session in, only its user name.

use super::account::text;
use super::client::MysqlClient;
use super::privileges::{demand, needed};
use crate::provider::CallError;
use crate::text::sanitize;

/// How many hosts are named.
const NAMED: usize = 5;

/// How many sessions there are, and from where.
///
/// # Errors
/// When the server cannot be asked, or would not show them (`PROCESS`): it hides others' sessions without a word.
pub(super) async fn sessions(client: &MysqlClient, user: &str) -> Result<(u64, Vec<String>), CallError> {
    demand(client, "the sessions of other users", &[needed("PROCESS", &[])]).await?;
    let sql = format!(
        "select substring_index(HOST, ':', 1), count(*) from information_schema.PROCESSLIST
         where binary USER = {} group by 1 order by 2 desc, 1",
        text(user)
    );
    let rows = client.rows("the question about the sessions of the user", &sql).await?;
    let (mut total, mut places) = (0, Vec::new());
    for row in rows {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        let (host, count) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let count: u64 = count.parse().unwrap_or_default();
        total += count;
        places.push(format!("{count} from {}", sanitize(&host)));
    }
    places.truncate(NAMED);
    Ok((total, places))
}

/// The numbers of its sessions.
///
/// # Errors
/// As for [`sessions`].
pub(super) async fn numbers(client: &MysqlClient, user: &str) -> Result<Vec<u64>, CallError> {
    demand(client, "the sessions of other users", &[needed("PROCESS", &[])]).await?;
    let sql = format!(
        "select ID from information_schema.PROCESSLIST where binary USER = {} order by 1",
        text(user)
    );
    let rows = client.rows("the question about the sessions of the user", &sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next()??.parse().ok()).collect())
}
