//! A request with a JSON body, signed as Standard Webhooks (standardwebhooks.com) describe: a receiver checks who
//! sent it, and knows by `webhook-id` what it has already.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use sha2::Sha256;

use super::accepted;
use crate::domain::ErrorKind;
use crate::follow::notify::message::Message;
use crate::provider::CallError;
use crate::provider::http::transport::Reply;
use crate::secret::Secret;

/// The headers that sign a body.
pub(super) fn signature(
    message: &Message,
    key: &Secret,
    body: &str,
    now: Timestamp,
) -> Result<Vec<(HeaderName, HeaderValue)>, CallError> {
    let wrong = |what: &str| CallError::rejected(ErrorKind::Local, what.to_owned());
    let key = match key.expose().strip_prefix("whsec_") {
        Some(encoded) => STANDARD
            .decode(encoded)
            .map_err(|_| wrong("the channel's key begins with `whsec_`, and the rest is not base64"))?,
        None => key.expose().as_bytes().to_vec(),
    };
    let key = zeroize::Zeroizing::new(key);
    let (id, seconds) = (message.short_id(), now.as_second());
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| wrong("the channel's key cannot sign"))?;
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let header = |name: &'static str, value: String| {
        let value = HeaderValue::from_str(&value).map_err(|_| wrong("the signature cannot be sent"))?;
        Ok((HeaderName::from_static(name), value))
    };
    Ok(vec![
        header("webhook-id", id)?,
        header("webhook-timestamp", seconds.to_string())?,
        header("webhook-signature", signature)?,
    ])
}

/// Any 2xx is taken, where the body does not say otherwise.
pub(super) fn judged(reply: &Reply) -> Result<Option<String>, CallError> {
    accepted(reply, "the webhook")
}
