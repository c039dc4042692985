//! What runs with a user's privileges, and breaks when the user is gone: views, triggers, routines and events that name it as
//! their definer.

use crate::kind::mysql::account::{Account, text};
use crate::kind::mysql::client::MysqlClient;
use crate::kind::mysql::privileges::{Privilege, demand, needed};
use crate::provider::CallError;
use crate::text::sanitize;

/// How many are named.
const NAMED: usize = 5;

/// What the operator needs in order to see all of them.
pub(super) fn sight() -> [Privilege; 3] {
    [needed("SHOW VIEW", &[]), needed("TRIGGER", &[]), needed("SELECT", &["mysql"])]
}

/// A sentence that names them and ends with what to do; `None` when there is nothing of the kind.
///
/// # Errors
/// When the server cannot be asked, or would not show all of them.
pub(super) async fn defined(client: &MysqlClient, account: &Account) -> Result<Option<String>, CallError> {
    demand(client, "what other users define", &sight()).await?;
    let definer = text(&account.handle());
    let sql = format!(
        "select 'view', concat(TABLE_SCHEMA, '.', TABLE_NAME) from information_schema.VIEWS where binary DEFINER = {definer}
         union all select 'trigger', concat(TRIGGER_SCHEMA, '.', TRIGGER_NAME) from information_schema.TRIGGERS where binary DEFINER = {definer}
         union all select lower(type), concat(db, '.', name) from mysql.proc where binary definer = {definer}
         union all select 'event', concat(db, '.', name) from mysql.event where binary definer = {definer}
         order by 1, 2 limit {}",
        NAMED + 1
    );
    let rows = client.rows("the question what the user defines", &sql).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let words = |row: &[Option<String>]| {
        row.iter().flatten().map(|word| sanitize(word)).collect::<Vec<_>>().join(" ")
    };
    let named: Vec<String> = rows.iter().take(NAMED).map(|row| words(row)).collect();
    let more = if rows.len() > NAMED { ", …" } else { "" };
    Ok(Some(format!(
        "it is the definer of {}{more}, which stop working when it is gone: create them again with another definer, as `SHOW CREATE …` \
         prints them (`CREATE OR REPLACE DEFINER = … VIEW | PROCEDURE | FUNCTION | TRIGGER …`, `ALTER DEFINER = … EVENT …`)",
        named.join(", ")
    )))
}
