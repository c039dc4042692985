//! Is this server fit for a run, and who are we there.

use jiff::Timestamp;

use super::client::MysqlClient;
use super::wire::Row;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind};
use crate::kind::clocks::skew;
use crate::text::sanitize;

/// `CONNECTION ADMIN`, and what else is asked for here, is from this version on.
const OLDEST: (u16, u16) = (10, 5);

const FACTS: &str = "select @@version, @@version_comment, @@global.read_only, current_user(), round(unix_timestamp(now(6)) * 1000)";

/// Looks, read-only, at the server and at the operator.
pub async fn preflight(client: &MysqlClient, clock: &dyn Clock) -> Vec<Check> {
    let rows = client.rows("the question who and what it is", FACTS).await;
    let now = clock.now().wall;
    let row = match rows {
        Ok(rows) => rows.into_iter().next().unwrap_or_default(),
        Err(error) => return vec![error.to_check("server")],
    };
    let field = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    vec![
        server(client, &row),
        skew(&client.place(), field(4).parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()), now),
        Check::pass("identity", format!("user {}", sanitize(&field(3)))),
    ]
}

fn server(client: &MysqlClient, row: &Row) -> Check {
    let place = client.place();
    let field = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let (version, comment, read_only) = (field(0), field(1), field(2));
    let fails = |kind, detail: String, hint: &str| Check::fail("server", kind, detail, hint);
    let shown = sanitize(&version);
    if !version.contains("MariaDB") {
        return fails(
            ErrorKind::Unsupported,
            format!("{place} is not MariaDB: version {shown} ({})", sanitize(&comment)),
            "rotate there by hand: stanch was not tested with MySQL, whose statements about users differ",
        );
    }
    let mut numbers = version.split(['.', '-']).map(|part| part.parse::<u16>().unwrap_or_default());
    let number = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    if number < OLDEST {
        return fails(
            ErrorKind::NotReady,
            format!("{place} is MariaDB {shown}; stanch needs 10.5 or newer"),
            "rotate there by hand",
        );
    }
    if read_only != "0" {
        return fails(
            ErrorKind::NotReady,
            format!("{place} is read-only (read_only): a replica, or a server that is being moved"),
            "set `host` of the connection to the primary",
        );
    }
    let how = if client.settings().tls { "TLS, with its certificate verified" } else { "plain text" };
    Check::pass("server", format!("{place} is MariaDB {shown}, over {how}"))
}
