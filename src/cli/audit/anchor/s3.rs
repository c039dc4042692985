//! One request to S3: an object that must not be there yet.
//!
//! The SDK for S3 would be the largest dependency, for one request. This signs it with the SDK's own
//! signer, with the credentials of AWS's default chain, and sends it as every other request is sent.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::BehaviorVersion;
use aws_sdk_sts::config::ProvideCredentials as _;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use jiff::Timestamp;

use super::{Note, PATIENCE};
use crate::cli::{CliError, Exit};
use crate::provider::http::transport::{Reply, Transport};
use crate::text::sanitize;

/// Puts the note where none is yet. The object's name holds its origin and size, so one that is
/// there is the same, or the record was rewritten.
pub(super) async fn put(target: &str, note: &Note, now: Timestamp) -> Result<String, CliError> {
    let target = target.strip_prefix("s3://").unwrap_or(target).trim_end_matches('/');
    let (bucket, prefix) =
        target.split_once('/').map_or((target, String::new()), |(b, p)| (b, format!("{p}/")));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
    if bucket.is_empty() || !target.chars().all(plain) {
        return Err(CliError::new(
            Exit::Usage,
            "--s3 is not valid: pass BUCKET or BUCKET/PREFIX, of letters, digits, `-`, `.` and `_`",
        ));
    }
    // So that the bucket's list is in order.
    let key = format!("{prefix}{}/{:012}.note", note.origin, note.size);
    let place = format!("s3://{bucket}/{key}");
    let server = Server::find(bucket, &key).await?;
    let reply = server.send("PUT", note.text.as_bytes(), now).await?;
    match reply.status.as_u16() {
        200 => Ok(format!("kept in {place}")),
        412 => {
            let there = server.send("GET", b"", now).await?;
            if there.status.as_u16() == 200 && there.body == note.text.as_bytes() {
                return Ok(format!("already in {place}"));
            }
            if there.status.as_u16() == 200 {
                let message = format!(
                    "{place} holds a different checkpoint for the same number of records: the record was rewritten since"
                );
                return Err(CliError::new(Exit::JournalInvalid, message).hint(
                    "copy the state directory, download the object, then: stanch audit verify --anchor FILE",
                ));
            }
            Err(refused(&there, &format!("{place} exists, but stanch cannot read it")))
        }
        409 => {
            Err(CliError::new(Exit::Unreachable, format!("another client is writing {place} at this moment"))
                .hint("repeat the command: it replaces nothing"))
        }
        _ => Err(refused(&reply, &format!("nothing was kept in {place}"))),
    }
}

fn refused(reply: &Reply, what: &str) -> CliError {
    let status = reply.status.as_u16();
    let body = String::from_utf8_lossy(&reply.body);
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"))
        .map(|(code, _)| sanitize(code));
    let code = code.map(|code| format!(" {code}")).unwrap_or_default();
    let exit = match status {
        401 | 403 => Exit::Denied,
        500.. => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let error = CliError::new(exit, format!("{what}: the server answered {status}{code}"));
    match status {
        403 => error.hint("stanch needs s3:PutObject there, and s3:GetObject to compare an existing object"),
        404 => error.hint("check that this bucket exists in AWS_REGION"),
        500.. => error.hint("repeat the command: it replaces nothing"),
        _ => error,
    }
}

struct Server {
    url: String,
    region: String,
    identity: aws_sdk_sts::config::Credentials,
    transport: Transport,
}

impl Server {
    /// Where the object goes, and with whose keys: AWS's default chain says both.
    async fn find(bucket: &str, key: &str) -> Result<Self, CliError> {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let missing = |what: &str, hint: &str| {
            CliError::new(Exit::Failed, format!("nothing was kept: {what}")).hint(hint)
        };
        let region =
            config.region().ok_or_else(|| missing("no AWS region is set", "set AWS_REGION"))?.to_string();
        let own = std::env::var("AWS_ENDPOINT_URL_S3").ok().filter(|url| !url.is_empty());
        let endpoint = own.or_else(|| config.endpoint_url().map(str::to_owned)).unwrap_or_else(|| {
            let partition = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://s3.{region}.amazonaws.com{partition}")
        });
        let provider =
            config.credentials_provider().ok_or_else(|| missing("no AWS credentials found", LOGIN))?;
        let identity =
            provider.provide_credentials().await.map_err(|_| missing("no AWS credentials found", LOGIN))?;
        let url = format!("{}/{bucket}/{key}", endpoint.trim_end_matches('/'));
        Ok(Self { url, region, identity, transport: Transport::new(PATIENCE) })
    }

    async fn send(&self, method: &str, body: &[u8], now: Timestamp) -> Result<Reply, CliError> {
        let failed = || CliError::new(Exit::Failed, "nothing was kept: stanch cannot sign the request");
        let mut request = http::Request::builder().method(method).uri(&self.url);
        if method == "PUT" {
            request =
                request.header("content-type", "text/plain; charset=utf-8").header("if-none-match", "*");
        }
        let mut request = request.body(body.to_vec()).map_err(|_| failed())?;
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = self.identity.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(UNIX_EPOCH + Duration::from_secs(now.as_second().unsigned_abs()))
            .settings(settings)
            .build()
            .map_err(|_| failed())?
            .into();
        let headers = request.headers().iter().filter_map(|(n, v)| Some((n.as_str(), v.to_str().ok()?)));
        let signable = SignableRequest::new(method, self.url.as_str(), headers, SignableBody::Bytes(body))
            .map_err(|_| failed())?;
        let (instructions, _) = sign(signable, &params).map_err(|_| failed())?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(self.transport.send(request, None).await?)
    }
}

const LOGIN: &str = "log in (`aws sso login`), or set AWS_PROFILE; `aws sts get-caller-identity` has to work";
