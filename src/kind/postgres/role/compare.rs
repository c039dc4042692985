//! What the old role has and a new one would not: attributes, memberships, settings, objects, privileges, default
//! privileges, policies. Compared on the server and not assumed: a role that can log in and may do less is an outage.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Row;

use super::spec::{Attribute, PostgresRole};
use super::statement::{keyword, same_setting};
use crate::kind::postgres::client::PgClient;
use crate::provider::CallError;
use crate::text::sanitize;

/// How many objects of a sort are named.
const NAMED: usize = 5;

/// A role as `pg_roles` has it.
pub(super) struct Role {
    pub(super) superuser: bool,
    pub(super) attributes: Vec<Attribute>,
    pub(super) connection_limit: Option<u32>,
    /// Until when its password is accepted, and whether that time is over.
    pub(super) valid_until: Option<(String, bool)>,
    /// The roles that it is a member of itself.
    pub(super) member_of: Vec<String>,
    /// The same, where it may pass the membership on, or does not get the privileges by it.
    pub(super) odd_memberships: Vec<String>,
}

/// What pg_roles says of a role; `None` when there is none of this name.
pub(super) async fn role(client: &PgClient, name: &str, version: i32) -> Result<Option<Role>, CallError> {
    // Since version 16 a membership says by itself whether its privileges are had, and may be set.
    let odd = if version >= 160_000 {
        "m.admin_option or not m.inherit_option or not m.set_option"
    } else {
        "m.admin_option"
    };
    let sql = format!(
        "select r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, r.rolbypassrls,
                not r.rolinherit, r.rolconnlimit, nullif(r.rolvaliduntil, 'infinity')::text,
                array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
                      where m.member = r.oid group by 1 order by 1),
                array(select g.rolname::text from pg_auth_members m join pg_roles g on g.oid = m.roleid
                      where m.member = r.oid and ({odd}) group by 1 order by 1),
                coalesce(r.rolvaliduntil < now(), false)
         from pg_roles r where r.rolname = $1"
    );
    let rows = client.rows("the question about the role", &sql, &[name]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let all = [
        Attribute::CreateDb,
        Attribute::CreateRole,
        Attribute::Replication,
        Attribute::BypassRls,
        Attribute::NoInherit,
    ];
    Ok(Some(Role {
        superuser: row.get(0),

        attributes: all.into_iter().enumerate().filter(|(at, _)| row.get(at + 1)).map(|(_, a)| a).collect(),
        connection_limit: u32::try_from(row.get::<_, i32>(6)).ok(),
        valid_until: row.get::<_, Option<String>>(7).map(|until| (until, row.get(10))),
        member_of: row.get(8),
        odd_memberships: row.get(9),
    }))
}

/// Every difference, as what to do about it.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn differences(
    client: &PgClient,
    spec: &PostgresRole,
    name: &str,
    role: &Role,
    version: i32,
) -> Result<Vec<String>, CallError> {
    let mut found = plain_differences(spec, role);
    found.extend(settings(client, spec, name).await?);
    let members = members(client, name).await?;
    if !members.is_empty() {
        found.push(format!(
            "these are members of it, and would lose what it gives them: {}; make them members of a role of `member_of`, then `REVOKE` the old role from them",
            members.join(", ")
        ));
    }
    // Other databases are looked at where something in them depends on the role.
    for database in databases(client, name).await? {
        let rows = |sql: String| {
            let database = database.clone();
            async move {
                let groups = spec.member_of.join("\n");
                client.rows_in(&database, "the question what the role has", &sql, &[name, &groups]).await
            }
        };
        let place = |what: &str, rows: &[Row]| {
            let named: Vec<String> = rows.iter().take(NAMED).map(|row| sanitize(row.get(0))).collect();
            let more = if rows.len() > NAMED { ", …" } else { "" };
            format!("{what} in the database {} ({}{more})", sanitize(&database), named.join(", "))
        };
        if spec.reassign_to.is_none() {
            let owned = rows(objects()).await?;
            if !owned.is_empty() {
                found.push(format!(
                    "it owns {}: give these to a role of `member_of` (`REASSIGN OWNED BY … TO …`), or set `reassign_to`",
                    place("objects", &owned)
                ));
            }
        }
        let mappings = rows(mappings()).await?;
        if !mappings.is_empty() {
            found.push(format!(
                "it has {}, which no other role can be given: make one for each new role, or one for PUBLIC, then `DROP USER MAPPING FOR {} SERVER …`",
                place("user mappings", &mappings),
                sanitize(&escape_identifier(name))
            ));
        }
        let defaults = rows(default_privileges()).await?;
        if !defaults.is_empty() {
            found.push(format!(
                "it has {}: what a new role creates would not get them; let `settings: {{role: GROUP}}` make a role of `member_of` the creator, and give that the default privileges",
                place("default privileges of its own", &defaults)
            ));
        }
        let own = rows(privileges(version, Which::Lacking)).await?;
        if !own.is_empty() {
            found.push(format!(
                "it has {} that no role of `member_of` has: grant these to one",
                place("privileges", &own)
            ));
        }
        let fixed = rows(privileges(version, Which::NotOurs)).await?;
        if !fixed.is_empty() {
            found.push(format!(
                "it has {} by its own name, and stanch is not a member of the owner, so that it could not take them away before it drops the role: let the owner revoke them (`REVOKE … FROM {}`), or make stanch its member",
                place("privileges", &fixed),
                sanitize(&escape_identifier(name))
            ));
        }
        let passed = rows(privileges(version, Which::PassedOn)).await?;
        if !passed.is_empty() {
            found.push(format!(
                "it granted others {}, which they would lose with it: let the owner grant these, and revoke what it granted",
                place("privileges", &passed)
            ));
        }
        let policies = rows(policies()).await?;
        if !policies.is_empty() {
            found.push(format!(
                "it is named by {}: name a role of `member_of` there",
                place("row security policies", &policies)
            ));
        }
    }
    Ok(found)
}

/// The roles that are members of a role, without the operator.
///
/// # Errors
/// When the server cannot be asked.
pub(super) async fn members(client: &PgClient, name: &str) -> Result<Vec<String>, CallError> {
    let sql = "select distinct m.rolname::text from pg_auth_members a join pg_roles r on r.oid = a.roleid
                 join pg_roles m on m.oid = a.member
               where r.rolname = $1 and m.rolname <> session_user order by 1 limit 20";
    let rows = client.rows("the question who its members are", sql, &[name]).await?;
    Ok(rows.iter().map(|row| sanitize(row.get(0))).collect())
}

/// What the runbook's words and `pg_roles` alone tell.
fn plain_differences(spec: &PostgresRole, role: &Role) -> Vec<String> {
    let mut found = Vec::new();
    for attribute in role.attributes.iter().filter(|attribute| !spec.attributes.contains(attribute)) {
        let word = keyword(*attribute);
        found.push(format!("it has the attribute {word}: add `{}` to `attributes`", word.to_lowercase()));
    }
    for group in role.member_of.iter().filter(|group| !spec.member_of.contains(group)) {
        found.push(format!("it is a member of {}: add that to `member_of`", sanitize(group)));
    }
    for group in &role.odd_memberships {
        found.push(format!(
            "its membership of {} has options (ADMIN, INHERIT or SET) that a new role's would not have: grant it without",
            sanitize(group)
        ));
    }
    match (role.connection_limit, spec.connection_limit) {
        (None, Some(limit)) => found.push(format!("it may have any number of sessions, a new role {limit}")),
        (Some(old), Some(limit)) if limit < old => {
            found.push(format!("it may have {old} sessions, a new role {limit}: raise `connection_limit`"));
        }
        _ => {}
    }
    found
}

/// Settings that differ. One for a single database counts where a new role would have another value there.
async fn settings(client: &PgClient, spec: &PostgresRole, name: &str) -> Result<Vec<String>, CallError> {
    let sql = "select coalesce(d.datname::text, ''), setting from pg_db_role_setting s
                 join pg_roles r on r.oid = s.setrole left join pg_database d on d.oid = s.setdatabase,
                 unnest(s.setconfig) setting
               where r.rolname = $1 order by 1, 2";
    let mut found = Vec::new();
    for row in client.rows("the question about the role's settings", sql, &[name]).await? {
        let (database, setting): (String, String) = (row.get(0), row.get(1));
        let (name, value) = setting.split_once('=').unwrap_or((&setting, ""));
        if spec.settings.get(name).is_some_and(|ours| same_setting(name, ours, value)) {
            continue;
        }
        let place = if database.is_empty() {
            String::new()
        } else {
            format!(" in the database {}", sanitize(&database))
        };
        let (name, value) = (sanitize(name), sanitize(value));
        // Settings that people make up hold secrets now and then.
        found.push(match name.contains('.') {
            true => format!("it has the setting {name}{place}, with another value or none in `settings`: add it there, or take it away"),
            false => format!("its setting {name} is `{value}`{place}: add `{name}: {value}` to `settings`"),
        });
    }
    Ok(found)
}

/// The databases to which something of the role's belongs, the connection's first.
pub(super) async fn databases(client: &PgClient, name: &str) -> Result<Vec<String>, CallError> {
    let sql = "select datname::text from pg_database where datname = current_database()
                 or oid in (select d.dbid from pg_shdepend d join pg_roles r on r.oid = d.refobjid
                            where r.rolname = $1 and d.refclassid = 'pg_authid'::regclass)
               order by datname <> current_database(), 1";
    let rows = client.rows("the question about its databases", sql, &[name]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What depends on the role in the database asked, or on it and in all of them: one of `types` (see `pg_shdepend`).
fn depends(types: &str, and: &str) -> String {
    format!(
        "select pg_describe_object(d.classid, d.objid, d.objsubid) from pg_shdepend d
           join pg_roles r on r.oid = d.refobjid
         where r.rolname = $1 and $2::text is not null and d.refclassid = 'pg_authid'::regclass
           and d.deptype in ({types}) {and}
           and d.dbid in (0, (select oid from pg_database where datname = current_database()))
         order by 1 limit 6"
    )
}

/// Objects that it owns, which another role can be given. Its default privileges are told apart: these it "owns", too.
pub(super) fn objects() -> String {
    depends("'o'", "and d.classid not in ('pg_default_acl'::regclass, 'pg_user_mapping'::regclass)")
}

/// Its user mappings. `REASSIGN OWNED` passes them over.
pub(super) fn mappings() -> String {
    depends("'o'", "and d.classid = 'pg_user_mapping'::regclass")
}

fn default_privileges() -> String {
    depends("'o'", "and d.classid = 'pg_default_acl'::regclass")
}

fn policies() -> String {
    depends("'r'", "")
}

/// Which privileges are asked about.
#[derive(Clone, Copy)]
pub(super) enum Which {
    /// Granted to it by name, and had neither by everybody nor by a role that a new one will be a member of, directly
    /// or not, as owner or by a grant.
    Lacking,
    /// Granted to it by name, on objects whose owner the operator may not act as; with that owner.
    NotOurs,
    /// Granted by it to others.
    PassedOn,
}

pub(super) fn privileges(version: i32, which: Which) -> String {
    let parameters = if version >= 150_000 {
        "union all select 'pg_parameter_acl'::regclass, oid, 0, paracl, 10, null from pg_parameter_acl"
    } else {
        ""
    };
    let owner = match which {
        Which::NotOurs => "|| ', owned by ' || pg_get_userbyid(o.owner)",
        Which::Lacking | Which::PassedOn => "",
    };
    let which = match which {
        Which::Lacking => {
            "e.grantee = r.oid and o.owner not in (select oid from new)
            and not exists (select from (select * from aclexplode(o.acl) union all select * from aclexplode(o.wider)) f
                             where (f.grantee = 0 or f.grantee in (select oid from new))
                               and f.privilege_type = e.privilege_type and f.is_grantable >= e.is_grantable)"
        }
        // Of a default privilege whoever drops what the role has takes it away.
        Which::NotOurs => {
            "e.grantee = r.oid and o.class <> 'pg_default_acl'::regclass
            and not pg_has_role(session_user, o.owner, 'USAGE')"
        }
        Which::PassedOn => "e.grantor = r.oid and e.grantee <> r.oid",
    };
    format!(
        "with recursive new(oid) as (
           select oid from pg_roles where rolname = any(string_to_array($2, chr(10)))
           union select m.roleid from pg_auth_members m join new on m.member = new.oid),
         object(class, oid, sub, acl, owner, wider) as (
           select 'pg_class'::regclass, oid, 0, relacl, relowner, null::aclitem[] from pg_class
           union all select 'pg_class'::regclass, a.attrelid, a.attnum::int4, a.attacl, c.relowner, c.relacl
             from pg_attribute a join pg_class c on c.oid = a.attrelid where a.attacl is not null
           union all select 'pg_namespace'::regclass, oid, 0, nspacl, nspowner, null from pg_namespace
           union all select 'pg_proc'::regclass, oid, 0, proacl, proowner, null from pg_proc
           union all select 'pg_type'::regclass, oid, 0, typacl, typowner, null from pg_type
           union all select 'pg_language'::regclass, oid, 0, lanacl, lanowner, null from pg_language
           union all select 'pg_database'::regclass, oid, 0, datacl, datdba, null from pg_database
           union all select 'pg_tablespace'::regclass, oid, 0, spcacl, spcowner, null from pg_tablespace
           union all select 'pg_foreign_data_wrapper'::regclass, oid, 0, fdwacl, fdwowner, null from pg_foreign_data_wrapper
           union all select 'pg_foreign_server'::regclass, oid, 0, srvacl, srvowner, null from pg_foreign_server
           union all select 'pg_largeobject'::regclass, oid, 0, lomacl, lomowner, null from pg_largeobject_metadata
           union all select 'pg_default_acl'::regclass, oid, 0, defaclacl, defaclrole, null from pg_default_acl
           {parameters})
         select distinct lower(e.privilege_type) || case when e.is_grantable then ' with grant option' else '' end
                || ' on ' || pg_describe_object(o.class, o.oid, o.sub) {owner}
           from object o, aclexplode(o.acl) e, pg_roles r
          where r.rolname = $1 and o.owner <> r.oid and {which}
          order by 1 limit 6"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_new_role_would_lack_is_named_with_what_to_do() {
        let text = r#"{"connection":"db","name":"a","member_of":["own"],"attributes":["createdb"],"connection_limit":5}"#;
        let spec: PostgresRole = serde_json::from_str(text).expect("an issuer");
        let role = |attributes: &[Attribute], groups: &[&str], limit| Role {
            superuser: false,

            attributes: attributes.to_vec(),
            connection_limit: limit,
            valid_until: None,
            member_of: groups.iter().map(|group| (*group).to_owned()).collect(),
            odd_memberships: Vec::new(),
        };
        let same = role(&[Attribute::CreateDb], &["own"], Some(5));
        assert_eq!(plain_differences(&spec, &same), Vec::<String>::new());
        assert_eq!(
            plain_differences(&spec, &role(&[], &[], Some(1))),
            Vec::<String>::new(),
            "less is no loss"
        );
        let wide = role(&[Attribute::BypassRls], &["own", "audit"], None);
        let wide = Role { odd_memberships: vec!["own".to_owned()], ..wide };
        let found = plain_differences(&spec, &wide);
        assert_eq!(found.len(), 4, "{found:?}");
        for word in ["`bypassrls`", "audit", "ADMIN", "any number"] {
            assert!(found.iter().any(|line| line.contains(word)), "{word}: {found:?}");
        }
    }
}
