//! What a node says of itself: its version, its part in a group, and where it keeps its users.

use std::collections::BTreeMap;

use super::client::RedisClient;
use super::lasting::Lasting;
use super::settings::Node;
use crate::provider::CallError;

/// What `INFO` says, by name.
pub(super) struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Reads the lines of `INFO` or `CLUSTER INFO`.
    fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// One of them; empty where the server does not say it.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// One that is a number; 0 where the server does not say it.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }
}

impl RedisClient {
    /// What a node says of itself, in these sections.
    ///
    /// # Errors
    /// When the server cannot be asked, or does not let the operator ask.
    pub(super) async fn facts(&self, node: &Node, sections: &[&str]) -> Result<Facts, CallError> {
        let commands: Vec<_> = sections.iter().map(|section| vec!["INFO", *section]).collect();
        let replies = self.ask(node, "the question what it is (INFO)", &commands).await?;
        let text: Vec<&str> = replies.iter().filter_map(|reply| reply.text()).collect();
        Ok(Facts::read(&text.join("\n")))
    }

    /// How many nodes its cluster has.
    ///
    /// # Errors
    /// As for `facts`.
    pub(super) async fn cluster_size(&self, node: &Node) -> Result<u64, CallError> {
        let replies = self
            .ask(node, "the question about its cluster (CLUSTER INFO)", &[vec!["CLUSTER", "INFO"]])
            .await?;
        Ok(Facts::read(replies[0].text().unwrap_or_default()).number("cluster_known_nodes"))
    }

    /// How a change lasts there. Asked once.
    ///
    /// # Errors
    /// As for `facts`.
    pub(super) async fn lasting(&self, node: &Node) -> Result<Lasting, CallError> {
        let place = node.place();
        if let Some(known) = self.lasting.lock().await.get(&place) {
            return Ok(*known);
        }
        let what = "the question where it keeps its users (CONFIG GET aclfile)";
        let replies = self.ask(node, what, &[vec!["CONFIG", "GET", "aclfile"]]).await?;
        let file = replies[0].texts().nth(1).is_some_and(|path| !path.is_empty());
        let found = if file {
            Lasting::File
        } else if self.facts(node, &["server"]).await?.get("config_file").is_empty() {
            Lasting::Nowhere
        } else {
            Lasting::Configuration
        };
        self.lasting.lock().await.insert(place, found);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_by_name() {
        let facts =
            Facts::read("# Server\r\nredis_version:7.0.15\r\nconnected_slaves:2\r\nslave0:ip=::1,port=1\r\n");
        assert_eq!(
            (facts.get("redis_version"), facts.number("connected_slaves"), facts.get("x")),
            ("7.0.15", 2, "")
        );
        assert_eq!(facts.get("slave0"), "ip=::1,port=1");
    }
}
