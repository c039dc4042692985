//! The file of passwords that `psql` reads: <https://www.postgresql.org/docs/current/libpq-pgpass.html>.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::fault::local;
use crate::provider::outcome::CallError;
use crate::provider::own_file::{self, SMALL};
use crate::secret::Secret;

/// The password for host, port, database and user; `None` where there is no file, or no line of it fits.
///
/// # Errors
/// When the file cannot be read, or others may read it: `psql` does not use such a file either.
pub(super) fn look_up(
    wanted: &[&str; 4],
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, CallError> {
    let named = env("PGPASSFILE").map(PathBuf::from);
    let Some(path) = named.or_else(|| Some(PathBuf::from(env("HOME")?).join(".pgpass"))) else {
        return Ok(None);
    };
    let Ok(found) = std::fs::metadata(&path) else { return Ok(None) };
    let place = path.display();
    if found.permissions().mode() & 0o077 != 0 {
        return Err(local(format!("{place} is open to other users of this machine, so that it is not used"))
            .hint(format!("chmod 600 {place}")));
    }
    let bytes =
        own_file::read(&path, SMALL).map_err(|error| local(format!("cannot read {place}: {error}")))?;
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    drop(zeroize::Zeroizing::new(bytes));
    Ok(text.lines().filter(|line| !line.starts_with('#')).find_map(|line| password(line, wanted)))
}

/// The password of a line that fits.
fn password(line: &str, wanted: &[&str; 4]) -> Option<Secret> {
    let mut rest = line.chars();
    for wanted in wanted {
        let (mut field, mut plain) = (String::new(), true);
        loop {
            match rest.next()? {
                ':' => break,
                '\\' => {
                    field.push(rest.next()?);
                    plain = false;
                }
                c => field.push(c),
            }
        }
        if field != *wanted && !(field == "*" && plain) {
            return None;
        }
    }
    // In the password, too, a backslash is before `:` and itself.
    let mut value = String::new();
    while let Some(c) = rest.next() {
        value.push(if c == '\\' { rest.next()? } else { c });
    }
    (!value.is_empty()).then(|| Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let of = |line: &str| {
            password(line, &["db.internal", "5432", "app", "ops"]).map(|s| s.expose().to_owned())
        };
        assert_eq!(of("db.internal:5432:app:ops:secret").as_deref(), Some("secret"));
        assert_eq!(of(r"*:*:*:ops:a\:b\\c").as_deref(), Some(r"a:b\c"));
        assert_eq!(of("*:*:*:*:p:q").as_deref(), Some("p:q"), "as psql takes it");
        for other in
            ["db:5432:app:ops:x", "*:*:*:root:x", r"\*:*:*:*:x", "*:*:*:*:", "*:*", "", "*:5433:*:*:x"]
        {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("pgpass");
        let mut file = std::fs::File::create(&path).expect("file");
        std::io::Write::write_all(&mut file, b"# mine\n*:*:*:*:secret-word\n").expect("file");
        let env = |name: &str| (name == "PGPASSFILE").then(|| path.display().to_string());
        let look = || look_up(&["h", "1", "d", "u"], &env);
        let mode = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        };
        mode(0o640);
        let error = look().expect_err("open to others");
        assert!(error.hint.expect("a hint").contains("chmod 600") && !error.message.contains("secret-word"));
        mode(0o600);
        assert!(look().expect("read").is_some_and(|found| found.expose() == "secret-word"));
        assert!(look_up(&["h", "1", "d", "u"], &|_| None).expect("no file").is_none());
    }
}
