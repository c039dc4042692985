//! Who may do what, as the server's tables of privileges say: with roles, and roles of roles.

use std::collections::BTreeSet;

use super::account::text;
use super::client::MysqlClient;
use crate::provider::CallError;
use crate::text::sanitize;

/// One privilege: a word, and what it is on. Nothing is everything; else a database, a table or routine in it, a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Privilege {
    pub(super) word: String,
    pub(super) on: Vec<String>,
    /// What sort of routine it is on; empty for what is none.
    pub(super) routine: String,
    /// Whether it may be passed on.
    pub(super) grantable: bool,
}

impl Privilege {
    /// For messages.
    pub(super) fn shown(&self) -> String {
        let on: Vec<String> = self.on.iter().map(|part| sanitize(part)).collect();
        let on = match on.as_slice() {
            [] => "*.*".to_owned(),
            [database] => format!("{database}.*"),
            parts => parts.join("."),
        };
        let passed = if self.grantable { " with grant option" } else { "" };
        format!("{} on {on}{passed}", sanitize(&self.word))
    }

    /// Whether whoever has this has the other one as well. In doubt, not: databases may be named by a pattern.
    fn covers(&self, other: &Self) -> bool {
        let same_sort = self.routine == other.routine || self.on.len() < 2;
        let plain = |part: &String| part.replace("\\_", "_").replace("\\%", "%");
        let reaches = if self.on.len() == other.on.len() {
            self.on == other.on
        } else {
            self.on.len() < other.on.len()
                && self.on.iter().map(plain).eq(other.on.iter().take(self.on.len()).cloned())
        };
        self.word == other.word && self.grantable >= other.grantable && same_sort && reaches
    }
}

/// Those that none of the others covers.
pub(super) fn lacking<'a>(wanted: &'a [Privilege], had: &[Privilege]) -> Vec<&'a Privilege> {
    wanted.iter().filter(|wanted| !had.iter().any(|had| had.covers(wanted))).collect()
}

/// That roles are granted: to whom, which, and whether it may be passed on.
pub(super) struct Roles(Vec<(String, String, bool)>);

/// A role, as the tables of privileges name it.
fn grantee(role: &str) -> String {
    format!("'{role}'@''")
}

impl Roles {
    /// # Errors
    /// When the server cannot be asked.
    pub(super) async fn read(client: &MysqlClient) -> Result<Self, CallError> {
        let sql =
            "select concat('''', User, '''@''', Host, ''''), Role, Admin_option from mysql.roles_mapping";
        let rows = client.rows("the question which roles are granted", sql).await?;
        let word = |row: &[Option<String>], at: usize| row.get(at).cloned().flatten().unwrap_or_default();
        Ok(Self(rows.iter().map(|row| (word(row, 0), word(row, 1), word(row, 2) == "Y")).collect()))
    }

    /// The roles that are granted to an account or a role itself, and whether it may pass them on.
    pub(super) fn of(&self, grantee: &str) -> Vec<(&str, bool)> {
        let own = self.0.iter().filter(|(to, ..)| to == grantee);
        own.map(|(_, role, admin)| (role.as_str(), *admin)).collect()
    }

    /// A role, and all that it has by roles.
    pub(super) fn closure(&self, role: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::from([role.to_owned()]);
        let mut next = vec![role.to_owned()];
        while let Some(role) = next.pop() {
            for (more, _) in self.of(&grantee(&role)) {
                if all.insert(more.to_owned()) {
                    next.push(more.to_owned());
                }
            }
        }
        all
    }
}

/// The operator, and the roles that are in force for it.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn operator(client: &MysqlClient) -> Result<(String, Vec<String>), CallError> {
    let sql = "select current_user() union all
               select ROLE_NAME from information_schema.ENABLED_ROLES where ROLE_NAME is not null";
    let rows = client.rows("the question who stanch is", sql).await?;
    let mut names = rows.into_iter().filter_map(|row| row.into_iter().next().flatten());
    Ok((names.next().unwrap_or_default(), names.collect()))
}

/// All that accounts and roles have, each named as the tables name it, by grants to themselves.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn granted(
    client: &MysqlClient,
    account: Option<&str>,
    roles: impl IntoIterator<Item = &String>,
) -> Result<Vec<Privilege>, CallError> {
    let names: Vec<String> = account
        .map(str::to_owned)
        .into_iter()
        .chain(roles.into_iter().map(|role| grantee(role)))
        .map(|name| text(&name))
        .collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let these = format!("in ({})", names.join(", "));
    let sql = format!(
        "select PRIVILEGE_TYPE, IS_GRANTABLE, '', null, null, null from information_schema.USER_PRIVILEGES
           where binary GRANTEE {these} and PRIVILEGE_TYPE <> 'USAGE'
         union all select PRIVILEGE_TYPE, IS_GRANTABLE, '', TABLE_SCHEMA, null, null
           from information_schema.SCHEMA_PRIVILEGES where binary GRANTEE {these} and PRIVILEGE_TYPE <> 'USAGE'
         union all select PRIVILEGE_TYPE, IS_GRANTABLE, '', TABLE_SCHEMA, TABLE_NAME, null
           from information_schema.TABLE_PRIVILEGES where binary GRANTEE {these} and PRIVILEGE_TYPE <> 'USAGE'
         union all select PRIVILEGE_TYPE, IS_GRANTABLE, '', TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME
           from information_schema.COLUMN_PRIVILEGES where binary GRANTEE {these}
         union all select upper(Proc_priv), if(find_in_set('Grant', Proc_priv), 'YES', 'NO'), Routine_type, Db, Routine_name, null
           from mysql.procs_priv where binary concat('''', User, '''@''', Host, '''') {these}"
    );
    let rows = client.rows("the question what is granted", &sql).await?;
    let mut all = Vec::new();
    for row in rows {
        let mut fields = row.into_iter();
        let mut field = || fields.next().flatten();
        let (words, grantable, routine) = (
            field().unwrap_or_default(),
            field().is_some_and(|word| word == "YES"),
            field().unwrap_or_default(),
        );
        let on: Vec<String> = fields.flatten().collect();
        // Those of a routine stand in one field.
        let words = words.split(',').filter(|word| *word != "GRANT" || routine.is_empty());
        all.extend(words.map(|word| Privilege {
            word: word.to_owned(),
            on: on.clone(),
            routine: routine.clone(),
            grantable,
        }));
    }
    Ok(all)
}

/// A privilege that is needed here.
pub(super) fn needed(word: &str, on: &[&str]) -> Privilege {
    let on = on.iter().map(|part| (*part).to_owned()).collect();
    Privilege { word: word.to_owned(), on, routine: String::new(), grantable: false }
}

/// Refuses to go on where the operator lacks a privilege: a server that hides a thing from whoever may not see it says
/// the same as one that has none.
///
/// # Errors
/// [`crate::domain::ErrorKind::Denied`], with the statement that grants it.
pub(super) async fn demand(client: &MysqlClient, what: &str, wanted: &[Privilege]) -> Result<(), CallError> {
    let (me, roles) = operator(client).await?;
    let account = super::account::Account::read(&me);
    let had = granted(client, Some(&account.grantee()), &roles).await?;
    let lacking = lacking(wanted, &had);
    if lacking.is_empty() {
        return Ok(());
    }
    let words: Vec<String> = lacking.iter().map(|privilege| privilege.shown()).collect();
    let message = format!("{} may not see {what}: it lacks {}", account.shown(), words.join(", "));
    Err(CallError::rejected(crate::domain::ErrorKind::Denied, message).hint(grants(&lacking, &account)))
}

/// The statements that grant what is lacking.
pub(super) fn grants(lacking: &[&Privilege], account: &super::account::Account) -> String {
    let statements: Vec<String> = lacking
        .iter()
        .map(|privilege| {
            format!("GRANT {} TO {}", privilege.shown().replace(" on ", " ON "), sanitize(&account.quoted()))
        })
        .collect();
    format!("as an administrator: `{}`", statements.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privilege(word: &str, on: &[&str], grantable: bool) -> Privilege {
        Privilege { grantable, ..needed(word, on) }
    }

    #[test]
    fn what_is_wider_covers_what_is_narrower_and_nothing_else_does() {
        let select = |on: &[&str]| privilege("SELECT", on, false);
        for (had, wanted, covered) in [
            (select(&[]), select(&["shop"]), true),
            (select(&["shop"]), select(&["shop", "orders", "id"]), true),
            (select(&["my\\_shop"]), select(&["my_shop", "orders"]), true),
            // A pattern that matches more is not the name that it looks like.
            (select(&["my\\_shop"]), select(&["my_shop"]), false),
            (select(&["shop", "orders"]), select(&["shop"]), false),
            (select(&["shop", "orders", "id"]), select(&["shop", "orders"]), false),
            (select(&["other"]), select(&["shop", "orders"]), false),
            (privilege("INSERT", &[], false), select(&["shop"]), false),
            (select(&[]), privilege("SELECT", &["shop"], true), false),
            (privilege("SELECT", &[], true), select(&["shop"]), true),
        ] {
            assert_eq!(had.covers(&wanted), covered, "{} for {}", had.shown(), wanted.shown());
        }
    }

    #[test]
    fn a_table_is_no_routine_of_the_same_name() {
        let routine = Privilege { routine: "PROCEDURE".to_owned(), ..needed("EXECUTE", &["shop", "bill"]) };
        assert!(!needed("EXECUTE", &["shop", "bill"]).covers(&routine));
        assert!(needed("EXECUTE", &["shop"]).covers(&routine) && routine.covers(&routine));
    }

    #[test]
    fn roles_of_roles_count_and_circles_end() {
        let row = |to: &str, role: &str| (to.to_owned(), role.to_owned(), false);
        let roles =
            Roles(vec![row("'a'@''", "b"), row("'b'@''", "c"), row("'c'@''", "a"), row("'x'@'%'", "y")]);
        let found: Vec<String> = roles.closure("a").into_iter().collect();
        assert_eq!(found, ["a", "b", "c"]);
        assert_eq!(roles.of("'x'@'%'"), [("y", false)]);
    }
}
