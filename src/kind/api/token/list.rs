//! Lists tokens, page by page, to the end or not at all.

use std::collections::BTreeSet;

use serde_json::Value;

use super::answer::id;
use super::calls::spec::{List, Next};
use crate::domain::{ErrorKind, HttpMethod};
use crate::kind::api::client::{ApiClient, Ask, at, json, unexpected};
use crate::provider::http::transport::Reply;
use crate::provider::outcome::CallError;

/// A service with more pages than this is told apart from one whose list does not end.
const MOST_PAGES: usize = 200;
/// How often a list of several pages is read until two readings agree.
const READINGS: usize = 3;

/// A token of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) shows: Option<String>,
}

/// Every token. A list of several pages is read twice: what comes or goes between two pages moves others over their
/// border, and one that was moved is in neither.
pub(super) async fn all(client: &ApiClient, list: &List, ask: &Ask) -> Result<Vec<Item>, CallError> {
    let (mut found, pages) = read(client, list, ask).await?;
    if pages == 1 {
        return Ok(found);
    }
    for _ in 1..READINGS {
        let (again, _) = read(client, list, ask).await?;
        if again == found {
            return Ok(found);
        }
        found = again;
    }
    let message = format!("the list of {} changes while it is read", ask.what());
    Err(CallError::rejected(ErrorKind::NotReady, message))
}

async fn read(client: &ApiClient, list: &List, ask: &Ask) -> Result<(Vec<Item>, usize), CallError> {
    let mut found: Vec<Item> = Vec::new();
    let (mut seen, mut cursors) = (BTreeSet::new(), BTreeSet::new());
    let mut cursor = None;
    for page in 1..=MOST_PAGES {
        let mut ask = Ask { method: HttpMethod::Get, ..ask.clone() };
        if let (Some(next), Some(cursor)) = (&list.next, cursor.take()) {
            ask.query.push((next.query.clone(), cursor));
        }
        let reply = client.reply_to(&ask).await?;
        if !reply.status.is_success() {
            return Err(client.fault(&reply, &ask, None));
        }
        let document = json(&reply, &ask)?;
        let pointer = list.items.as_deref().unwrap_or_default();
        let items = at(&document, pointer, &ask)?;
        let items =
            items.as_array().ok_or_else(|| unexpected(&ask, pointer, "has something that is not a list"))?;
        for item in items {
            let item = read_item(item, list, &ask)?;
            if !seen.insert(item.id.clone()) {
                let message = format!(
                    "the list of {} has a token twice: it does not end, or it changed meanwhile",
                    ask.what()
                );
                return Err(CallError::rejected(ErrorKind::NotReady, message));
            }
            found.push(item);
        }
        let next = match &list.next {
            Some(next) => following(next, page, &reply, &document, &ask)?,
            None => None,
        };
        let Some(next) = next else { return Ok((found, page)) };
        if items.is_empty() || !cursors.insert(next.clone()) {
            let message =
                format!("the list of {} does not end: a page leads to itself, or to nothing", ask.what());
            return Err(CallError::rejected(ErrorKind::Invalid, message));
        }
        cursor = Some(next);
    }
    let message = format!("the list of {} has more than {MOST_PAGES} pages", ask.what());
    Err(CallError::rejected(ErrorKind::Invalid, message).hint("ask for larger pages in the query of `list`"))
}

fn read_item(item: &Value, list: &List, ask: &Ask) -> Result<Item, CallError> {
    let text = |pointer: &str| match at(item, pointer, ask)? {
        Value::String(text) => Ok(text.clone()),
        // A token that a person made need not have a name.
        Value::Null => Ok(String::new()),
        _ => Err(unexpected(ask, pointer, "has something that is not a string in an item")),
    };
    let shows = list.shows.as_deref().map(text).transpose()?;
    Ok(Item { id: id(item, &list.id, ask)?, name: text(&list.name)?, shows })
}

/// How the next page is asked for; `None` on the last one.
fn following(
    next: &Next,
    page: usize,
    reply: &Reply,
    document: &Value,
    ask: &Ask,
) -> Result<Option<String>, CallError> {
    if let Some(header) = &next.header {
        // A header that is missing is a server that pages in another way, and not the last page.
        let value = reply.headers.get(header.as_str()).and_then(|value| value.to_str().ok());
        let value = value.ok_or_else(|| {
            let message = format!(
                "the response to {} has no header {header}: it may be a part of the list",
                ask.what()
            );
            CallError::rejected(ErrorKind::Invalid, message)
                .hint("compare `next` of `list` with the documentation of the API")
        })?;
        return Ok(Some(value.trim().to_owned()).filter(|value| !value.is_empty()));
    }
    if let Some(pages) = &next.pages {
        let count = at(document, pages, ask)?.as_u64();
        let count = count.ok_or_else(|| unexpected(ask, pages, "has something that is not a number"))?;
        return Ok((count > page as u64).then(|| (page + 1).to_string()));
    }
    if let Some(more) = &next.more {
        let more_follow = at(document, more, ask)?.as_bool();
        if !more_follow
            .ok_or_else(|| unexpected(ask, more, "has something that is neither true nor false"))?
        {
            return Ok(None);
        }
    }
    let pointer = next.at.as_deref().unwrap_or_default();
    match at(document, pointer, ask)? {
        Value::String(text) if !text.is_empty() => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Null | Value::String(_) if next.more.is_none() => Ok(None),
        _ => Err(unexpected(ask, pointer, "has nothing that leads to the next page")),
    }
}
