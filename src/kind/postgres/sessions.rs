//! The live sessions of a role.

use super::client::PgClient;
use super::handle::Handle;
use crate::provider::CallError;
use crate::text::sanitize;

/// How many programs are named.
const NAMED: usize = 5;

/// How many there are, and of which programs.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn sessions(client: &PgClient, role: &Handle<'_>) -> Result<(u64, Vec<String>), CallError> {
    let (own, value) = role.sessions();
    let sql = format!(
        "select application_name, coalesce(host(client_addr), 'this machine'), count(*)
         from pg_stat_activity where {own} group by 1, 2 order by 3 desc, 1, 2"
    );
    let rows = client.rows("the question about the role's sessions", &sql, &[&value]).await?;
    let (mut total, mut programs) = (0, Vec::new());
    for row in &rows {
        let (program, from, count): (String, String, i64) = (row.get(0), row.get(1), row.get(2));
        let count = u64::try_from(count).unwrap_or_default();
        total += count;
        let program =
            if program.is_empty() { "a program without a name".to_owned() } else { sanitize(&program) };
        programs.push(format!("{count} of {program} from {}", sanitize(&from)));
    }
    programs.truncate(NAMED);
    Ok((total, programs))
}
