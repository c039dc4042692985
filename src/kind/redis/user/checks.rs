//! Whether every later step will be permitted, and whether the user can be rotated at all.

use std::collections::{BTreeMap, BTreeSet};

use super::acl::{Acl, Handle, digits};
use super::server::UserIssuer;
use super::spec::EndConnections;
use crate::domain::{Check, ErrorKind};
use crate::kind::redis::client::Command;
use crate::kind::redis::resp::Reply;
use crate::kind::redis::settings::Node;
use crate::provider::CallError;
use crate::text::{counted, sanitize};

/// How many programs with a connection are named.
const NAMED: usize = 5;

impl UserIssuer {
    /// Every check, in the order of what they are about.
    pub(super) async fn checks(&self, outgoing: Option<&str>) -> Vec<Check> {
        let mut checks = Vec::new();
        let look = async {
            let nodes = self.nodes().await?;
            checks.push(self.usable(&nodes));
            for acl in &nodes {
                checks.push(self.permitted(&acl.node).await?);
            }
            checks.push(self.own_check(&self.spec.user).await);
            let Some(handle) = outgoing.map(Handle::read) else { return Ok(()) };
            if let Some(hash) = handle.hash(&nodes)? {
                checks.push(others(&nodes, &handle, &hash));
            }
            checks.push(self.connected().await);
            Ok::<_, CallError>(())
        };
        if let Err(error) = look.await {
            checks.push(error.to_check("Redis"));
        }
        checks
    }

    /// Whether a password of the user means anything on every node.
    fn usable(&self, nodes: &[Acl]) -> Check {
        let user = sanitize(&self.spec.user);
        let name = format!("user {user}");
        for acl in nodes {
            let place = acl.node.place();
            let fails = |kind, detail: String, hint: String| Check::fail(name.clone(), kind, detail, hint);
            match acl.user(&self.spec.user) {
                None => {
                    return fails(
                        ErrorKind::NotFound,
                        format!("{place} has no user {user}"),
                        format!("create it there (`ACL SETUSER {user} …`), or correct `user` of the issuer"),
                    );
                }
                Some(found) if found.nopass => {
                    return fails(
                        ErrorKind::Unsupported,
                        format!(
                            "{place} lets {user} in with any password (`nopass`): a new one changes nothing"
                        ),
                        format!("`ACL SETUSER {user} resetpass >PASSWORD` ends that; then plan again"),
                    );
                }
                Some(found) if !found.on => {
                    return fails(
                        ErrorKind::Unsupported,
                        format!("the user {user} is off at {place}: no password of it is accepted"),
                        format!(
                            "`ACL SETUSER {user} on` if a program is to use it; else delete it (`ACL DELUSER {user}`)"
                        ),
                    );
                }
                Some(_) => {}
            }
        }
        Check::pass(
            name,
            format!("it is on, and needs a password, at {}", counted(nodes.len() as u64, "server")),
        )
    }

    /// Whether the operator may do there what later steps do. The server is asked; nothing is performed.
    async fn permitted(&self, node: &Node) -> Result<Check, CallError> {
        let place = node.place();
        let name = format!("permissions at {place}");
        let who = self
            .client
            .ask(node, "the question who stanch is (ACL WHOAMI)", &[vec!["ACL", "WHOAMI"]])
            .await?;
        let me = who[0].text().unwrap_or_default();
        let mut needs: Vec<Command<'_>> = vec![
            vec!["MULTI"],
            vec!["EXEC"],
            vec!["ACL", "SETUSER", "stanch", "off"],
            vec!["ACL", "DELUSER", "stanch"],
        ];
        if self.spec.end_connections != EndConnections::Never {
            needs.push(vec!["CLIENT", "KILL", "USER", "stanch"]);
        }
        needs.extend(self.client.lasting(node).await?.command());
        let dry: Vec<Command<'_>> =
            needs.iter().map(|need| [&["ACL", "DRYRUN", me][..], need.as_slice()].concat()).collect();
        let said = self.client.ask_each(node, "the question what stanch may do (ACL DRYRUN)", &dry).await?;
        if let Some(Reply::Error(said)) = said.first() {
            let why = sanitize(said.split(' ').next().unwrap_or_default());
            let detail = format!(
                "{place} does not say what stanch may do (ACL DRYRUN, from Redis 7 on: {why}): a permission that is missing shows in the run"
            );
            return Ok(Check::warn(name, detail));
        }
        let lacking: BTreeSet<String> = needs
            .iter()
            .zip(&said)
            .filter(|(_, said)| said.text() != Some("OK"))
            .map(|(need, _)| permission(need))
            .collect();
        let me = sanitize(me);
        Ok(match lacking.is_empty() {
            true => Check::pass(name, format!("{me} may do all that later steps do")),
            false => {
                let lacking: Vec<String> = lacking.into_iter().collect();
                let hint = format!("`ACL SETUSER {me} {}`, then plan again", lacking.join(" "));
                Check::fail(name, ErrorKind::Denied, format!("{me} lacks {}", lacking.join(", ")), hint)
            }
        })
    }

    /// Whether the run works as the user whose password it is to remove.
    pub(super) async fn own_check(&self, user: &str) -> Check {
        let (name, own) = ("own credential", &self.client.settings().user);
        let me = sanitize(own);
        if own == user {
            return Check::fail(
                name,
                ErrorKind::Invalid,
                format!("this run works as the user {me}, one of whose passwords it is about to remove"),
                "work as another user (`user` of the connection, or REDIS_URL, with REDISCLI_AUTH), then plan again",
            );
        }
        Check::pass(name, format!("this run works as another user, {me}"))
    }

    /// Who uses the user now. All of them are cut off, unless `end_connections` says otherwise.
    async fn connected(&self) -> Check {
        let (name, user) = ("connections", sanitize(&self.spec.user));
        let mut programs = BTreeMap::<String, u64>::new();
        for node in self.client.nodes() {
            let what = "the question who is connected (CLIENT LIST)";
            let replies = match self.client.ask(node, what, &[vec!["CLIENT", "LIST"]]).await {
                Ok(replies) => replies,
                // It decides nothing.
                Err(error) => {
                    return Check::warn(name, format!("who is connected is not known: {}", error.message));
                }
            };
            for line in replies[0].text().unwrap_or_default().lines() {
                let field =
                    |name: &str| line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
                if field("user") != Some(self.spec.user.as_str()) {
                    continue;
                }
                let program =
                    [field("name"), field("lib-name")].into_iter().flatten().find(|name| !name.is_empty());
                let from = field("addr").and_then(|addr| addr.rsplit_once(':')).map_or("?", |(host, _)| host);
                let program = program.map_or_else(|| "a program without a name".to_owned(), sanitize);
                *programs.entry(format!("{program} from {}", sanitize(from))).or_default() += 1;
            }
        }
        let total: u64 = programs.values().sum();
        if total == 0 {
            return Check::pass(name, format!("{user} has no connection now"));
        }
        let mut programs: Vec<(String, u64)> = programs.into_iter().collect();
        programs.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named: Vec<String> =
            programs.iter().take(NAMED).map(|(program, count)| format!("{count} of {program}")).collect();
        Check::warn(name, format!("{user} has {} now: {}", counted(total, "connection"), named.join(", ")))
    }
}

/// How a permission for a command is given.
fn permission(command: &[&str]) -> String {
    match command {
        [group @ ("ACL" | "CLIENT" | "CONFIG"), one, ..] => format!("+{group}|{one}").to_ascii_lowercase(),
        [one, ..] => format!("+{one}").to_ascii_lowercase(),
        [] => String::new(),
    }
}

/// Which passwords the user has beside the one that is to go: they stay valid, and it may be that no program holds them.
fn others(nodes: &[Acl], handle: &Handle<'_>, hash: &str) -> Check {
    let name = "other passwords";
    let user = sanitize(handle.user);
    let others: BTreeSet<String> = nodes
        .iter()
        .flat_map(|acl| acl.passwords(handle.user))
        .filter(|password| password.hash != hash)
        .map(|password| format!("{user}:{} ({})", digits(nodes, handle.user, password.hash), password.life()))
        .collect();
    if others.is_empty() {
        return Check::pass(name, format!("{user} has no other password"));
    }
    let named: Vec<String> = others.iter().cloned().collect();
    Check::warn(
        name,
        format!(
            "{user} has {} beside the old one, which this run leaves as they are: {}; if no program holds one, it is a way in that is not watched: remove it \
             (`stanch revoke redis-acl-user HANDLE`)",
            counted(others.len() as u64, "password"),
            named.join(", ")
        ),
    )
}
