//! How a user goes for good: no new session, no old one, nothing that runs in its name, no user. Its mark goes last, so that
//! whoever finds the user dropped still finds what is left.

use std::time::Duration;

use super::definers::defined;
use super::statement;
use crate::domain::ErrorKind;
use crate::kind::mysql::account::{Account, accounts, text};
use crate::kind::mysql::client::MysqlClient;
use crate::kind::mysql::sessions::numbers;
use crate::provider::CallError;
use crate::text::counted;

/// How long sessions that were told to end may take. They end at their next look for it.
const PATIENCE_MS: u64 = 5000;
const EVERY: Duration = Duration::from_millis(50);

/// Ends every session of a user that may not log in any more, and waits until none is left. A server does not say which account
/// let a session in: where another account has the same user name, its sessions end as well, and may come again.
pub(super) async fn end_sessions(client: &MysqlClient, account: &Account) -> Result<(), CallError> {
    let others = accounts(client, &account.user).await?.iter().any(|found| found.account != *account);
    let first = numbers(client, &account.user).await?;
    let start = client.now_ms();
    let mut left = first.clone();
    while !left.is_empty() {
        for number in &left {
            let ended =
                client.perform("the end of a session (KILL)", &format!("KILL CONNECTION {number}")).await;
            // A number that is not there any more is what is wanted.
            if let Err(error) = ended
                && error.kind != ErrorKind::NotFound
            {
                return Err(error.doubtful());
            }
        }
        left = numbers(client, &account.user).await.map_err(CallError::doubtful)?;
        if others {
            left.retain(|number| first.contains(number));
        }
        if left.is_empty() {
            break;
        }
        if client.now_ms().saturating_sub(start) >= PATIENCE_MS {
            return Err(CallError::unknown(format!(
                "{} of {} did not end within {} s; the user cannot log in any more",
                counted(left.len() as u64, "session"),
                account.shown(),
                PATIENCE_MS / 1000
            ))
            .hint("look at `State` in `SHOW PROCESSLIST`: a statement that is being rolled back ends when that is done"));
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

/// Removes a user, and all that came from it. Succeeds when that is so already.
///
/// # Errors
/// [`ErrorKind::Conflict`] when something runs in its name: that is never broken.
pub(super) async fn remove(client: &MysqlClient, account: &Account) -> Result<(), CallError> {
    if account.find(client).await?.is_some() {
        client.perform("ACCOUNT LOCK for the user", &statement::lock(account, true)).await?;
        end_sessions(client, account).await.map_err(CallError::doubtful)?;
        if let Some(kept) = defined(client, account).await.map_err(CallError::doubtful)? {
            let message = format!(
                "the user {} was not dropped: {kept}; it cannot log in, and its sessions are ended",
                account.shown()
            );
            return Err(CallError::rejected(ErrorKind::Conflict, message)
                .hint("do that, then resume")
                .doubtful());
        }
        client.perform("DROP USER", &statement::drop_user(account)).await.map_err(CallError::doubtful)?;
    }
    if accounts(client, &account.user).await.map_err(CallError::doubtful)?.is_empty() {
        // Dropped by someone else, a user leaves its sessions behind.
        end_sessions(client, account).await.map_err(CallError::doubtful)?;
    }
    for mark in marks(client, &account.user).await.map_err(CallError::doubtful)? {
        client
            .perform("DROP ROLE for the user's mark", &statement::drop_role(&mark))
            .await
            .map_err(CallError::doubtful)?;
    }
    Ok(())
}

/// The roles that mark a user as stanch's.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn marks(client: &MysqlClient, user: &str) -> Result<Vec<String>, CallError> {
    let all = roles(client, statement::MARK).await?;
    Ok(all.into_iter().filter(|role| statement::marked(role) == Some(user)).collect())
}

/// The roles whose names begin so.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn roles(client: &MysqlClient, prefix: &str) -> Result<Vec<String>, CallError> {
    let sql = format!(
        "select User from mysql.global_priv
         where Host = '' and json_value(Priv, '$.is_role') = '1' and left(User, {}) = {} order by 1",
        prefix.chars().count(),
        text(prefix)
    );
    let rows = client.rows("the question which users stanch made", &sql).await?;
    Ok(rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
}
