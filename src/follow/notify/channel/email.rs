//! E-mail, by SMTP. The `Message-ID` is made of the message's id: what comes twice is one to whoever reads it.

use std::time::{Duration, SystemTime};

use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

use crate::domain::ErrorKind;
use crate::follow::notify::fit::cut;
use crate::follow::notify::message::Message;
use crate::provider::CallError;
use crate::provider::http::transport::is_loopback;
use crate::runbook::notify::Email;
use crate::secret::Secret;
use crate::text::sanitize;

/// A line of mail may have 998 bytes; a subject that people read is shorter.
const SUBJECT: usize = 200;

/// Says that a program wrote it, so that no other program answers (RFC 3834).
#[derive(Debug, Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Sends a mail.
pub(super) async fn send(
    via: &Email,
    password: Option<&Secret>,
    message: &Message,
    deadline: Duration,
) -> Result<Option<String>, CallError> {
    let mail = mail(via, message)?;
    let transport = transport(via, password, deadline)?;
    let server = sanitize(&via.server);
    match tokio::time::timeout(deadline, transport.send(mail)).await {
        Err(_) => Err(CallError::unknown(format!("{server} did not answer in time"))),
        Ok(Ok(_)) => Ok(None),
        Ok(Err(error)) => {
            let said =
                std::error::Error::source(&error).map(|cause| format!(": {}", sanitize(&cause.to_string())));
            let status = error.status().map(|code| format!(" {code}")).unwrap_or_default();
            let said = said.unwrap_or_default();
            Err(if error.is_permanent() {
                CallError::rejected(
                    ErrorKind::Invalid,
                    format!("{server} refused the mail with{status}{said}"),
                )
            } else if error.is_transient() {
                CallError::rejected(
                    ErrorKind::NotReady,
                    format!("{server} does not take the mail now,{status}{said}"),
                )
            } else if error.is_client() {
                CallError::rejected(
                    ErrorKind::Unsupported,
                    format!("the mail cannot be sent to {server}{said}"),
                )
            } else if error.is_tls() {
                CallError::rejected(ErrorKind::Unreachable, format!("{server} has no valid TLS{said}"))
            } else {
                CallError::unknown(format!("{server} did not answer{said}"))
            })
        }
    }
}

/// The mail of a message: the same bytes at every try.
fn mail(via: &Email, message: &Message) -> Result<Mail, CallError> {
    let wrong = |what: &str| CallError::rejected(ErrorKind::Invalid, what.to_owned());
    let mailbox = |text: &str| {
        text.parse::<Mailbox>().map_err(|_| wrong(&format!("`{}` is not an address of mail", sanitize(text))))
    };
    let from = mailbox(&via.from)?;
    let domain = from.email.domain().to_owned();
    let seconds = u64::try_from(message.at.as_second()).unwrap_or_default();
    let mut builder = Mail::builder()
        .message_id(Some(format!("<stanch.{}@{domain}>", message.short_id())))
        .references(format!("<stanch.{}@{domain}>", message.thread()))
        .date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .header(AutoSubmitted)
        .header(ContentType::TEXT_PLAIN)
        .from(from)
        .subject(cut(&sanitize(&message.title), SUBJECT));
    for to in &via.to {
        builder = builder.to(mailbox(to)?);
    }
    builder
        .body(format!("{}\n\n{}\n", message.title, message.text))
        .map_err(|_| wrong("the mail cannot be written"))
}

/// The mail as it is sent.
#[cfg(test)]
pub(super) fn written(message: &Message) -> String {
    let (server, from, to) = ("smtp://127.0.0.1:1".into(), "a@b.example".into(), vec!["c@d.example".into()]);
    let via = Email { server, from, to, user: None, password: None };
    String::from_utf8(mail(&via, message).expect("a mail").formatted()).expect("text")
}

fn transport(
    via: &Email,
    password: Option<&Secret>,
    deadline: Duration,
) -> Result<AsyncSmtpTransport<Tokio1Executor>, CallError> {
    let wrong = |what: String| CallError::rejected(ErrorKind::Invalid, what);
    let (scheme, rest) = via.server.split_once("://").unwrap_or_default();
    let place = rest.trim_end_matches('/');
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !place.ends_with(']') => {
            let port =
                port.parse::<u16>().map_err(|_| wrong(format!("`{}` is not a port", sanitize(port))))?;
            (host, Some(port))
        }
        _ => (place, None),
    };
    let near = is_loopback(host);
    let tls = || {
        TlsParameters::new_rustls(host.to_owned())
            .map_err(|_| wrong(format!("cannot set up TLS for {}", sanitize(host))))
    };
    let (tls, standard) = match scheme {
        "smtps" => (Tls::Wrapper(tls()?), 465),
        // Nothing leaves this machine.
        "smtp" if near => (Tls::None, 25),
        "smtp" => (Tls::Required(tls()?), 587),
        _ => return Err(wrong("the server of mail is not an address `smtps://…` or `smtp://…`".to_owned())),
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port.unwrap_or(standard))
        .tls(tls)
        .timeout(Some(deadline));
    if let (Some(user), Some(password)) = (&via.user, password) {
        builder = builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()));
    }
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::notify::channel::tests::message;

    #[test]
    fn a_mail_is_the_same_at_every_try_and_no_title_adds_a_header() {
        let via = Email {
            server: "smtp://127.0.0.1:1".into(),
            from: "stanch <stanch@example.com>".into(),
            to: vec!["ops@example.com".into()],
            user: None,
            password: None,
        };
        let mut sent = message();
        sent.title = "a\r\nBcc: eve@example.com".into();
        let [one, two] = [(); 2].map(|()| mail(&via, &sent).expect("a mail").formatted());
        assert_eq!(one, two);
        let text = String::from_utf8(one).expect("text");
        let (head, _) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("Message-ID: <stanch.{}@example.com>", sent.short_id())), "{head}");
        assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
        assert!(!head.contains("\r\nBcc"), "{head}");
        let bad = Email { to: vec!["nobody".into()], ..via };
        assert!(mail(&bad, &sent).is_err());
    }

    #[test]
    fn there_is_no_mail_without_tls_but_to_this_machine() {
        let via = |server: &str| Email {
            server: server.into(),
            from: "a@example.com".into(),
            to: Vec::new(),
            user: None,
            password: None,
        };
        for server in ["smtps://mail.example.com", "smtp://mail.example.com:587", "smtp://127.0.0.1:2525"] {
            assert!(transport(&via(server), None, Duration::from_secs(1)).is_ok(), "{server}");
        }
        for server in ["mail.example.com", "http://mail.example.com", "smtp://mail.example.com:port"] {
            assert!(transport(&via(server), None, Duration::from_secs(1)).is_err(), "{server}");
        }
    }
}
