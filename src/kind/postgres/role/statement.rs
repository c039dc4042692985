//! The statements that make, change and remove a role. Every name and value is quoted.

use postgres_protocol::escape::{escape_identifier, escape_literal};

use super::spec::{Attribute, PostgresRole};
use crate::provider::CallContext;

/// The settings whose values are lists of names, each quoted by itself: as `pg_dump` has them.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// What the description of a role says that was made by a step; of all roles of a run, what it begins with.
pub(super) fn tag(context: &CallContext) -> String {
    let CallContext { run, step, token, .. } = context;
    if step.is_empty() { format!("stanch {run} ") } else { format!("stanch {run} {step} {}", token.simple()) }
}

/// Makes a role, all of it or nothing: it has its description from the first moment on. `verifier` is what the server
/// keeps of the password; the password itself is never sent.
pub(super) fn create(spec: &PostgresRole, name: &str, verifier: &str, tag: &str) -> String {
    let role = escape_identifier(name);
    let attributes =
        spec.attributes.iter().map(|attribute| keyword(*attribute)).collect::<Vec<_>>().join(" ");
    let limit = spec.connection_limit.map(|limit| format!(" CONNECTION LIMIT {limit}")).unwrap_or_default();
    let mut sql =
        format!("CREATE ROLE {role} LOGIN {attributes}{limit} PASSWORD {};\n", escape_literal(verifier));
    for group in &spec.member_of {
        sql += &format!("GRANT {} TO {role};\n", escape_identifier(group));
    }
    for (setting, value) in &spec.settings {
        sql += &format!(
            "ALTER ROLE {role} SET {} TO {};\n",
            setting_name(setting),
            setting_value(setting, value)
        );
    }
    sql + &format!("COMMENT ON ROLE {role} IS {};\n", escape_literal(tag))
}

pub(super) fn keyword(attribute: Attribute) -> &'static str {
    match attribute {
        Attribute::CreateDb => "CREATEDB",
        Attribute::CreateRole => "CREATEROLE",
        Attribute::Replication => "REPLICATION",
        Attribute::BypassRls => "BYPASSRLS",
        Attribute::NoInherit => "NOINHERIT",
    }
}

/// Lets a role log in, or not.
pub(super) fn alter_login(name: &str, login: bool) -> String {
    format!("ALTER ROLE {} {}", escape_identifier(name), if login { "LOGIN" } else { "NOLOGIN" })
}

/// Makes the operator a member of a role, with its privileges. `version` is the server's, as a number.
pub(super) fn join(name: &str, version: i32) -> String {
    let with = if version >= 160_000 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
    format!("GRANT {} TO CURRENT_USER{with}", escape_identifier(name))
}

/// Takes back what [`join`] granted.
pub(super) fn leave(name: &str) -> String {
    format!("REVOKE {} FROM CURRENT_USER", escape_identifier(name))
}

/// Hands over what a role owns in one database.
pub(super) fn reassign(name: &str, to: &str) -> String {
    format!("REASSIGN OWNED BY {} TO {}", escape_identifier(name), escape_identifier(to))
}

/// Takes a role's privileges away in one database, and on what databases share. It drops whatever the role owns, so
/// that nothing may be owned any more: the first statement fails if something is, and with it the second.
pub(super) fn drop_privileges(name: &str) -> String {
    let (role, text) = (escape_identifier(name), escape_literal(name));
    let owned = escape_literal(&format!("role {name} still owns objects"));
    let body = escape_literal(&format!(
        "begin if exists (select from pg_shdepend d join pg_roles r on r.oid = d.refobjid
           where r.rolname = {text} and d.refclassid = 'pg_authid'::regclass
             and d.deptype = 'o' and d.classid <> 'pg_default_acl'::regclass
             and d.dbid in (0, (select oid from pg_database where datname = current_database())))
         then raise exception using message = {owned}, errcode = '2BP01'; end if; end"
    ));
    format!("DO {body};\nDROP OWNED BY {role}")
}

/// Drops a role.
pub(super) fn drop_role(name: &str) -> String {
    format!("DROP ROLE {}", escape_identifier(name))
}

/// A setting's name: extensions' have a dot in it.
fn setting_name(name: &str) -> String {
    name.split('.').map(escape_identifier).collect::<Vec<_>>().join(".")
}

fn setting_value(name: &str, value: &str) -> String {
    if !is_list(name) {
        return escape_literal(value);
    }
    let names = list(value);
    if names.is_empty() {
        "''".to_owned()
    } else {
        names.iter().map(|name| escape_literal(name)).collect::<Vec<_>>().join(", ")
    }
}

fn is_list(name: &str) -> bool {
    LISTS.contains(&name.to_ascii_lowercase().as_str())
}

/// The names of a list: unquoted ones in small letters, as the server reads them.
fn list(value: &str) -> Vec<String> {
    let (mut names, mut name, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut chars = value.chars().peekable();
    let mut push = |name: &mut String, was_quoted: &mut bool| {
        let plain = std::mem::take(name);
        let whole = if *was_quoted { plain } else { plain.trim().to_lowercase() };
        *was_quoted = false;
        if !whole.is_empty() {
            names.push(whole);
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                name.push('"');
            }
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => push(&mut name, &mut was_quoted),
            c if c.is_whitespace() && !quoted => {}
            c => name.push(c),
        }
    }
    push(&mut name, &mut was_quoted);
    names
}

/// Whether two values of a setting are one.
pub(super) fn same_setting(name: &str, one: &str, other: &str) -> bool {
    if is_list(name) { list(one) == list(other) } else { one == other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PostgresRole {
        serde_json::from_str(text).expect("an issuer")
    }

    #[test]
    fn names_and_values_are_quoted() {
        let spec = spec(
            r#"{"connection":"db","name":"a","member_of":["own\"er"],"attributes":["createdb","noinherit"],
                "settings":{"role":"it's","search_path":"App, \"a,b\"","ext.word":"x"},"connection_limit":3}"#,
        );
        let sql = create(&spec, "a\"; DROP ROLE b; --", "SCRAM-SHA-256$4096:x$y:z", "stanch run step");
        assert_eq!(
            sql,
            "CREATE ROLE \"a\"\"; DROP ROLE b; --\" LOGIN CREATEDB NOINHERIT CONNECTION LIMIT 3 PASSWORD 'SCRAM-SHA-256$4096:x$y:z';\n\
             GRANT \"own\"\"er\" TO \"a\"\"; DROP ROLE b; --\";\n\
             ALTER ROLE \"a\"\"; DROP ROLE b; --\" SET \"ext\".\"word\" TO 'x';\n\
             ALTER ROLE \"a\"\"; DROP ROLE b; --\" SET \"role\" TO 'it''s';\n\
             ALTER ROLE \"a\"\"; DROP ROLE b; --\" SET \"search_path\" TO 'app', 'a,b';\n\
             COMMENT ON ROLE \"a\"\"; DROP ROLE b; --\" IS 'stanch run step';\n"
        );
    }

    #[test]
    fn a_list_is_compared_by_its_names() {
        assert!(same_setting("search_path", "\"$user\", public", "\"$user\",public"));
        assert!(!same_setting("search_path", "a, b", "b, a"));
        assert!(!same_setting("search_path", "\"A\"", "a"));
        assert!(!same_setting("work_mem", "64MB", "65536kB"), "in doubt it is another");
        assert_eq!(setting_value("search_path", ""), "''");
        assert_eq!(setting_value("search_path", "\"\""), "''");
    }
}
