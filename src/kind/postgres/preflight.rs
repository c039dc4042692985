//! Is this server fit for a run, and who are we there.

use jiff::Timestamp;

use super::client::PgClient;
use super::spec::SslMode;
use crate::clock::Clock;
use crate::domain::{Check, ErrorKind};
use crate::kind::clocks::skew;
use crate::text::sanitize;

/// What the views and functions that are used here need.
const OLDEST: i32 = 120_000;

const FACTS: &str = "select current_setting('server_version_num')::int4, current_setting('server_version'),
       pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',
       session_user::text, (extract(epoch from clock_timestamp()) * 1000)::int8";

/// Looks, read-only, at the server and at the operator.
pub async fn preflight(client: &PgClient, clock: &dyn Clock) -> Vec<Check> {
    let (settings, place) = (client.settings(), client.place());
    let mut checks = Vec::new();
    if !settings.not_heeded.is_empty() {
        checks.push(Check::warn(
            "environment",
            format!(
                "stanch does not heed {}, which other tools of PostgreSQL's do",
                settings.not_heeded.join(", ")
            ),
        ));
    }
    let rows = client.rows("the question who and what it is", FACTS, &[]).await;
    let now = clock.now().wall;
    let row = match rows {
        Ok(rows) => match rows.into_iter().next() {
            Some(row) => row,
            None => {
                return vec![Check::fail(
                    "server",
                    ErrorKind::NoAnswer,
                    "it says nothing of itself",
                    "check `host`",
                )];
            }
        },
        Err(error) => {
            checks.push(error.to_check("server"));
            return checks;
        }
    };
    let (number, version, recovery, read_only): (i32, String, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    let (user, at): (String, i64) = (row.get(4), row.get(5));
    let version = sanitize(&version);
    let fails = |detail: String, hint: &str| Check::fail("server", ErrorKind::NotReady, detail, hint);
    checks.push(if number < OLDEST {
        fails(format!("{place} is PostgreSQL {version}; stanch needs 12 or newer"), "rotate there by hand")
    } else if recovery {
        fails(
            format!("{place} is a standby (in recovery), which takes no changes"),
            "set `host` of the connection to the primary",
        )
    } else if read_only {
        fails(
            format!("{place} is read-only by default (default_transaction_read_only)"),
            "find out why; a server that is being moved must not be changed",
        )
    } else {
        let how = match settings.sslmode {
            SslMode::VerifyFull => "TLS, with its certificate verified",
            SslMode::Disable => "plain text",
        };
        Check::pass("server", format!("{place} is PostgreSQL {version}, over {how}"))
    });
    checks.push(skew(&place, Timestamp::from_millisecond(at).ok(), now));
    checks.push(Check::pass("identity", format!("role {}", sanitize(&user))));
    checks
}
