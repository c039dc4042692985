//! HTTP: the bounded transport, and what runbooks do over it.

pub(crate) mod call;
pub(crate) mod interim;
pub mod transport;

pub use call::HttpCaller;

use http::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};

use super::outcome::CallError;
use crate::domain::ErrorKind;
use crate::secret::{Material, Secret};
use crate::text::sanitize;
use transport::Reply;

/// What is encoded in a part of an address: all but what RFC 3986 calls unreserved.
pub(crate) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A header whose value is a secret: marked so that no `Debug` of the request shows it.
///
/// # Errors
/// When the text cannot stand in a header. The error does not quote it.
pub(crate) fn sensitive(text: &str, what: &str) -> Result<HeaderValue, CallError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| {
        CallError::rejected(
            ErrorKind::Invalid,
            format!("{what} holds a line break or another character that no header may carry"),
        )
        .hint("look for a newline at its end")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

pub(crate) fn bearer(material: Option<&Material>) -> Result<(HeaderName, HeaderValue), CallError> {
    let value = sensitive(&format!("Bearer {}", main_part(material)?.expose()), "the credential")?;
    Ok((http::header::AUTHORIZATION, value))
}

pub(crate) fn main_part(material: Option<&Material>) -> Result<&Secret, CallError> {
    let material = material.ok_or_else(|| {
        CallError::rejected(ErrorKind::Invalid, "the request wants a credential, and has none")
    })?;
    material.main().ok_or_else(|| {
        CallError::rejected(ErrorKind::Invalid, "the credential has several parts: none of them is the value")
            .hint("name the part: `${secret.PART}`")
    })
}

/// What a status means for a request that was to change something. The body is never quoted: it
/// may echo what it was sent.
pub(crate) fn judge(reply: &Reply, what: &str) -> Result<(), CallError> {
    let status = reply.status.as_u16();
    let rejected = |kind| CallError::rejected(kind, format!("{what} answered {status}"));
    let error = match status {
        200..=299 => return Ok(()),
        300..=399 => rejected(ErrorKind::Invalid)
            .hint("it redirects, and a request with a credential is never sent on: write the final address"),
        401 => rejected(ErrorKind::Refused),
        403 => rejected(ErrorKind::Denied),
        404 | 410 => rejected(ErrorKind::NotFound),
        // The server gave up waiting for the request; what it did with the part that came is its own affair.
        408 => CallError::unknown(format!("{what} answered {status}")),
        409 | 412 => rejected(ErrorKind::Conflict),
        429 => rejected(ErrorKind::Throttled),
        400..=499 => rejected(ErrorKind::Invalid),
        _ => CallError::unknown(format!("{what} answered {status}")),
    };
    Err(CallError { retry_after: reply.retry_after(), ..error }.request(reply.request_id()))
}

/// An address without what may be secret in it: user, password, query and fragment.
pub(crate) fn safe_url(text: &str) -> String {
    match text.parse::<reqwest::Url>() {
        // `user:password@host` is an address of the scheme `user`.
        Ok(mut url) if url.has_host() => {
            // These fail for addresses that cannot have them, which is as well.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            sanitize(url.as_str())
        }
        _ => "an address without `http://` or `https://`".to_owned(),
    }
}

/// The beginning of an address, up to its path.
pub(crate) fn server_of(url: &str) -> String {
    let end = url.find("://").and_then(|at| Some(at + 3 + url.get(at + 3..)?.find('/')?));
    url[..end.unwrap_or(url.len())].to_owned()
}

/// A number or a text at a JSON pointer of a body.
pub(crate) fn at_pointer(reply: &Reply, pointer: &str) -> Option<serde_json::Value> {
    let document: serde_json::Value = serde_json::from_slice(&reply.body).ok()?;
    document.pointer(pointer).cloned()
}

/// Why requests with a credential may not go to an address.
pub(crate) enum Unfit {
    /// It is not an http address, or has a user, a query or a fragment.
    Invalid,
    /// It begins with `http://`, and leads to another machine.
    Plain,
}

/// The address, without a slash at its end, if requests with a credential may go there. Quotes nothing of it: it may hold
/// a password.
pub(crate) fn credential_address(text: &str) -> Result<reqwest::Url, Unfit> {
    let mut url = text
        .trim()
        .parse::<reqwest::Url>()
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .filter(|url| url.query().is_none() && url.fragment().is_none())
        .ok_or(Unfit::Invalid)?;
    if url.scheme() == "http" && !url.host_str().is_some_and(transport::is_loopback) {
        return Err(Unfit::Plain);
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        assert_eq!(safe_url("https://u:p@h:1/a?token=x#y"), "https://h:1/a");
        for none in ["u:p-secret@h:1", "h:1", "", "unix:p-secret"] {
            assert_eq!(safe_url(none), "an address without `http://` or `https://`", "{none}");
        }
    }

    #[test]
    fn of_a_secret_address_only_the_server_is_named() {
        for (url, server) in [
            ("https://hooks.example:1/services/T/B/X", "https://hooks.example:1"),
            ("http://h", "http://h"),
            ("none", "none"),
        ] {
            assert_eq!(server_of(url), server);
        }
    }

    #[test]
    fn a_header_with_a_line_break_is_an_error_that_does_not_quote_it() {
        let error = sensitive("hunter2\n", "the token").expect_err("newline");
        assert!(!format!("{error:?}").contains("hunter2"));
        assert!(!format!("{:?}", sensitive("hunter2", "the token")).contains("hunter2"));
    }
}
