//! Are these servers fit for a run, are they all of them, and who are we there.
//!
//! Clocks are not compared: no password of Redis expires, and nothing here is decided by its time.

use super::client::RedisClient;
use super::lasting::Lasting;
use super::node::Facts;
use super::settings::Node;
use crate::domain::{Check, ErrorKind};
use crate::provider::CallError;
use crate::text::{counted, sanitize};

/// What is known of a node.
struct Seen {
    facts: Facts,
    cluster: Option<u64>,
}

/// Looks, read-only, at the servers and at the operator.
pub async fn preflight(client: &RedisClient) -> Vec<Check> {
    let (mut checks, mut seen) = (Vec::new(), Vec::new());
    for node in client.nodes() {
        match look(client, node).await {
            Ok((found, more)) => {
                seen.push(found);
                checks.extend(more);
            }
            Err(error) => checks.push(error.to_check("server")),
        }
    }
    if seen.len() == client.nodes().len() {
        checks.push(complete(&seen));
    }
    checks
}

async fn look(client: &RedisClient, node: &Node) -> Result<(Seen, Vec<Check>), CallError> {
    let place = node.place();
    let who = client.ask(node, "the question who stanch is (ACL WHOAMI)", &[vec!["ACL", "WHOAMI"]]).await?;
    let facts = client.facts(node, &["server", "replication"]).await?;
    let cluster =
        if facts.get("redis_mode") == "cluster" { Some(client.cluster_size(node).await?) } else { None };
    let version = sanitize(facts.get("redis_version"));
    let how = if client.settings().tls { "TLS, with its certificate verified" } else { "plain text" };
    let role = match facts.get("role") {
        "slave" => ", a replica",
        _ if cluster.is_some() => ", a node of a cluster",
        _ => "",
    };
    let mut checks = vec![if facts.number("loading") == 1 {
        Check::fail(
            "server",
            ErrorKind::NotReady,
            format!("{place} is loading its data"),
            "wait, then plan again",
        )
    } else {
        Check::pass("server", format!("{place} is Redis {version}{role}, over {how}"))
    }];
    checks.push(match client.lasting(node).await? {
        Lasting::File => Check::pass("saved", format!("{place} saves its users with ACL SAVE")),
        Lasting::Configuration => Check::pass("saved", format!("{place} saves its users with CONFIG REWRITE")),
        Lasting::Nowhere => Check::warn(
            "saved",
            format!(
                "{place} has neither a file of users nor a configuration file: at a restart it forgets the new password, and the old one is valid again if \
                 the server is started with it; give it an `aclfile`, or change what starts it as well"
            ),
        ),
    });
    let who = who[0].text().unwrap_or_default();
    checks.push(Check::pass("identity", format!("user {} at {place}", sanitize(who))));
    Ok((Seen { facts, cluster }, checks))
}

/// Whether the connection names every server that has the old password. A group of servers does not share its users.
fn complete(seen: &[Seen]) -> Check {
    let count = seen.len() as u64;
    let cluster = seen.iter().filter_map(|seen| seen.cluster).max().unwrap_or(0);
    let is_replica = |seen: &&Seen| seen.facts.get("role") == "slave";
    let replicas = seen.iter().filter(is_replica).count() as u64;
    let known: u64 = seen.iter().map(|seen| seen.facts.number("connected_slaves")).sum();
    let hint = "name every node in `nodes` of the connection, as HOST:PORT, then plan again";
    if cluster > count {
        let detail = format!(
            "the cluster has {}, and the connection names {count}: users are not shared, and the others keep the old password",
            counted(cluster, "node")
        );
        return Check::fail("nodes", ErrorKind::Conflict, detail, hint);
    }
    if known > replicas {
        let named: Vec<String> = seen.iter().flat_map(|seen| replicas_of(&seen.facts)).collect();
        let detail = format!(
            "there {} ({}), and the connection names {replicas}: users are not replicated, and the others keep the old password",
            if known == 1 { "is 1 replica".to_owned() } else { format!("are {known} replicas") },
            named.join(", ")
        );
        return Check::fail("nodes", ErrorKind::Conflict, detail, hint);
    }
    let orphan = seen.iter().find(|seen| is_replica(seen) && replicas == count);
    if let Some(seen) = orphan {
        let primary = format!(
            "{}:{}",
            sanitize(seen.facts.get("master_host")),
            sanitize(seen.facts.get("master_port"))
        );
        let detail =
            format!("the connection names replicas alone: their primary {primary} keeps the old password");
        return Check::fail("nodes", ErrorKind::Conflict, detail, hint);
    }
    Check::pass(
        "nodes",
        format!("the connection names {}, and they know of no other", counted(count, "server")),
    )
}

fn replicas_of(facts: &Facts) -> Vec<String> {
    let one = |n: u64| {
        let line = facts.get(&format!("slave{n}")).to_owned();
        let field = |name: &str| {
            let value = line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            sanitize(value.unwrap_or("?"))
        };
        format!("{}:{}", field("ip"), field("port"))
    };
    (0..facts.number("connected_slaves").min(20)).map(one).collect()
}
