//! The protocol: <https://mariadb.com/kb/en/clientserver-protocol/>. Its packets are read and written by `mysql_common`.
//!
//! A driver would do more than is wanted here: it brings roots of its own for TLS, asks the server for its settings on
//! every login, and may go over to a socket or a pool. Here a connection is one login, and what is sent is sent once.

use std::io;

use bytes::BytesMut;
use mysql_common::constants::{CapabilityFlags, StatusFlags};
use mysql_common::io::ParseBuf;
use mysql_common::packets::{
    AuthPlugin, CommonOkPacket, ErrPacket, HandshakePacket, HandshakeResponse, OkPacketDeserializer,
    SslRequest,
};
use mysql_common::proto::codec::PacketCodec;
use mysql_common::proto::{MyDeserialize, MySerialize};
use mysql_common::scramble::{create_response_for_ed25519, scramble_native};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::text::sanitize;

/// More than any answer to what is asked here.
const LARGEST: usize = 1 << 24;
/// More columns than any answer has.
const MOST_COLUMNS: u64 = 64;
/// UTF-8, in the number that the protocol has for it.
const UTF8MB4: u8 = 45;
/// How long nonces are. A zero may follow that is no part of them.
const NATIVE: usize = 20;
const ED25519: usize = 32;
const QUIT: u8 = 1;
const QUERY: u8 = 3;

/// What is asked of a server: no statements in a row, no files of this machine's.
const CAPABILITIES: CapabilityFlags = CapabilityFlags::CLIENT_LONG_PASSWORD
    .union(CapabilityFlags::CLIENT_PROTOCOL_41)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_MULTI_RESULTS)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH);

/// A row; `None` is NULL.
pub(super) type Row = Vec<Option<String>>;

/// An error that the server reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: u16,
    pub(super) message: String,
}

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, and what was received on it and not read yet.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    codec: PacketCodec,
    received: BytesMut,
}

/// What a server says of itself first.
pub(super) struct Greeting {
    nonce: Vec<u8>,
    pub(super) speaks_tls: bool,
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it is not a response of MariaDB: {why}"))
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        let mut codec = PacketCodec::default();
        codec.max_allowed_packet = LARGEST;
        Self { stream, codec, received: BytesMut::new() }
    }

    /// The first packet.
    pub(super) async fn greeting(&mut self) -> io::Result<Result<Greeting, Said>> {
        let packet = self.read().await?;
        if let Some(said) = error(&packet, CapabilityFlags::empty())? {
            return Ok(Err(said));
        }
        let hello: HandshakePacket<'_> = parse(&packet, ())?;
        Ok(Ok(Greeting {
            nonce: hello.nonce(),
            speaks_tls: hello.capabilities().contains(CapabilityFlags::CLIENT_SSL),
        }))
    }

    /// Asks for TLS; what the caller does next on the stream is its handshake.
    pub(super) async fn ask_for_tls(mut self) -> io::Result<(Box<dyn Stream>, PacketCodec)> {
        let request = SslRequest::new(CAPABILITIES | CapabilityFlags::CLIENT_SSL, LARGEST as u32, UTF8MB4);
        self.send(&request).await?;
        // What came after the greeting in plain text could be an attacker's, and is not the server's.
        if !self.received.is_empty() {
            return Err(invalid("it went on in plain text"));
        }
        Ok((self.stream, self.codec))
    }

    /// The same connection, over TLS.
    pub(super) fn over(stream: Box<dyn Stream>, codec: PacketCodec) -> Self {
        Self { stream, codec, received: BytesMut::new() }
    }

    /// Logs in. `Err` within is what the server said.
    pub(super) async fn log_in(
        &mut self,
        greeting: &Greeting,
        (user, password): (&str, Option<&Secret>),
        database: Option<&str>,
        tls: bool,
    ) -> io::Result<Result<(), Said>> {
        let mut capabilities = CAPABILITIES;
        capabilities.set(CapabilityFlags::CLIENT_SSL, tls);
        let native = AuthPlugin::MysqlNativePassword;
        let response = HandshakeResponse::new(
            Some(proof(&native, password, &greeting.nonce)?),
            (10, 5, 0),
            Some(user.as_bytes()),
            database.map(str::as_bytes),
            Some(native),
            capabilities,
            None,
            LARGEST as u32,
        );
        self.send(&response).await?;
        // A server may ask for one other way to log in; one that goes on asking is none.
        for _ in 0..3 {
            let packet = self.read().await?;
            match packet.first() {
                Some(0x00) => return Ok(Ok(())),
                Some(0xff) => {
                    let said = error(&packet, CAPABILITIES)?;
                    return said.map(Err).ok_or_else(|| invalid("an empty error"));
                }
                Some(0xfe) => {
                    let (plugin, nonce) = switch(&packet)?;
                    self.write(&proof(&plugin, password, nonce)?).await?;
                }
                _ => return Err(invalid("an unknown step of a login")),
            }
        }
        Err(invalid("a login without an end"))
    }

    /// Sends one statement, and reads all that it returns.
    pub(super) async fn query(&mut self, sql: &str) -> io::Result<Result<Vec<Row>, Said>> {
        self.codec.reset_seq_id();
        let mut packet = Zeroizing::new(Vec::with_capacity(1 + sql.len()));
        packet.push(QUERY);
        packet.extend_from_slice(sql.as_bytes());
        self.write(&packet).await?;
        let (mut rows, mut size) = (Vec::new(), 0);
        loop {
            let packet = self.read().await?;
            bounded(&mut size, packet.len())?;
            let status = match packet.first() {
                Some(0x00) => status_of_ok(&packet)?,
                Some(0xff) => {
                    let said = error(&packet, CAPABILITIES)?;
                    return said.map(Err).ok_or_else(|| invalid("an empty error"));
                }
                // It asks for a file of this machine's.
                Some(0xfb) | None => return Err(invalid("a request for a file")),
                Some(_) => match self.rows(&packet, &mut rows, &mut size).await? {
                    Ok(status) => status,
                    Err(said) => return Ok(Err(said)),
                },
            };
            if !status.contains(StatusFlags::SERVER_MORE_RESULTS_EXISTS) {
                return Ok(Ok(rows));
            }
        }
    }

    /// The rows of one result, whose first packet has the number of columns. `size` is what the statement has returned
    /// so far.
    async fn rows(
        &mut self,
        first: &[u8],
        rows: &mut Vec<Row>,
        size: &mut usize,
    ) -> io::Result<Result<StatusFlags, Said>> {
        let columns = ParseBuf(first).checked_eat_lenenc_int();
        let columns = columns.filter(|count| (1..=MOST_COLUMNS).contains(count));
        let columns = columns.ok_or_else(|| invalid("no columns, or too many"))?;
        for _ in 0..columns {
            let packet = self.read().await?;
            bounded(size, packet.len())?;
        }
        let mut ended = 0;
        loop {
            let packet = self.read().await?;
            bounded(size, packet.len())?;
            match packet.first() {
                Some(0xff) => {
                    let said = error(&packet, CAPABILITIES)?;
                    return said.map(Err).ok_or_else(|| invalid("an empty error"));
                }
                // The end of the columns, and that of the rows: warnings and status.
                Some(0xfe) if packet.len() == 5 => {
                    ended += 1;
                    if ended == 2 {
                        let bits = u16::from_le_bytes([packet[3], packet[4]]);
                        return Ok(Ok(StatusFlags::from_bits_truncate(bits)));
                    }
                }
                _ if ended == 0 => return Err(invalid("a row before its columns end")),
                _ => {
                    // A field that is empty costs memory, too.
                    bounded(size, size_of::<Option<String>>() * columns as usize)?;
                    rows.push(row(&packet, columns)?);
                }
            }
        }
    }

    /// Says that the session is over. A server counts connections that end in another way against their host.
    pub(super) async fn quit(mut self) {
        self.codec.reset_seq_id();
        // It may be closed already.
        let _ = self.write(&[QUIT]).await;
        let _ = self.stream.shutdown().await;
    }

    async fn send(&mut self, packet: &impl MySerialize) -> io::Result<()> {
        let mut bytes = Zeroizing::new(Vec::new());
        packet.serialize(&mut bytes);
        self.write(&bytes).await
    }

    async fn write(&mut self, packet: &[u8]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        self.codec.encode(&mut &*packet, &mut bytes).map_err(|error| invalid(&error.to_string()))?;
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut packet = Vec::new();
        loop {
            let whole = self.codec.decode(&mut self.received, &mut packet);
            if whole.map_err(|error| invalid(&error.to_string()))? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
            }
        }
    }
}

fn parse<'a, T: MyDeserialize<'a>>(packet: &'a [u8], context: T::Ctx) -> io::Result<T> {
    ParseBuf(packet).parse(context).map_err(|error| invalid(&error.to_string()))
}

/// The way to log in that a server asks for, and its nonce. `AuthSwitchRequest` takes a zero at the end for no part of it,
/// which it is in one of 256 nonces of ed25519.
fn switch(packet: &[u8]) -> io::Result<(AuthPlugin<'_>, &[u8])> {
    let rest = packet.get(1..).unwrap_or_default();
    let end = rest.iter().position(|byte| *byte == 0).ok_or_else(|| invalid("a login without a name"))?;
    Ok((AuthPlugin::from_bytes(&rest[..end]), &rest[end + 1..]))
}

/// What shows a server that one knows the password, where the way is one that does not send it.
fn proof(plugin: &AuthPlugin<'_>, password: Option<&Secret>, nonce: &[u8]) -> io::Result<Vec<u8>> {
    let Some(password) = password else { return Ok(Vec::new()) };
    let password = password.expose().as_bytes();
    match plugin {
        AuthPlugin::MysqlNativePassword => {
            let nonce = nonce.get(..NATIVE).ok_or_else(|| invalid("a nonce that is too short"))?;
            Ok(scramble_native(nonce, password).map(|proof| proof.to_vec()).unwrap_or_default())
        }
        AuthPlugin::Ed25519 => {
            let nonce = nonce.get(..ED25519).ok_or_else(|| invalid("a nonce that is too short"))?;
            Ok(create_response_for_ed25519(password, nonce).to_vec())
        }
        other => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it asks for a login by {}, which stanch does not use",
                sanitize(&String::from_utf8_lossy(other.as_bytes()))
            ),
        )),
    }
}

/// Adds to what a statement has returned, which is bounded.
fn bounded(size: &mut usize, more: usize) -> io::Result<()> {
    *size += more;
    if *size > LARGEST { Err(invalid("too much of it")) } else { Ok(()) }
}

/// The error that a packet is, if it is one.
fn error(packet: &[u8], capabilities: CapabilityFlags) -> io::Result<Option<Said>> {
    if packet.first() != Some(&0xff) {
        return Ok(None);
    }
    let ErrPacket::Error(said) = parse(packet, capabilities)? else {
        return Err(invalid("a progress report"));
    };
    Ok(Some(Said { code: said.error_code(), message: said.message_str().into_owned() }))
}

fn status_of_ok(packet: &[u8]) -> io::Result<StatusFlags> {
    let ok: OkPacketDeserializer<'_, CommonOkPacket> = parse(packet, CAPABILITIES)?;
    Ok(ok.into_inner().status_flags())
}

fn row(packet: &[u8], columns: u64) -> io::Result<Row> {
    let mut rest = ParseBuf(packet);
    (0..columns)
        .map(|_| {
            if rest.0.first() == Some(&0xfb) {
                rest.skip(1);
                return Ok(None);
            }
            let text = rest.checked_eat_lenenc_str().ok_or_else(|| invalid("a row that is cut off"))?;
            Ok(Some(String::from_utf8_lossy(text).into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nonces are random: one of 256 ends with a zero, and is answered in full.
    #[test]
    fn a_nonce_may_end_with_a_zero() {
        let packet = [b"\xfeclient_ed25519\0".to_vec(), vec![7; 31], vec![0]].concat();
        let (plugin, nonce) = switch(&packet).expect("a way to log in");
        assert_eq!((plugin.as_bytes(), nonce.len()), (&b"client_ed25519"[..], ED25519));
        let secret = Secret::new("secret");
        let answer = proof(&plugin, Some(&secret), nonce).expect("an answer");
        assert_eq!(answer, create_response_for_ed25519(b"secret", nonce));
        let native = AuthPlugin::MysqlNativePassword;
        let nonce = [vec![7; 20], vec![0]].concat();
        let answer = proof(&native, Some(&secret), &nonce).expect("an answer");
        assert_eq!(Some(answer), scramble_native(&nonce[..20], b"secret").map(|proof| proof.to_vec()));
    }

    #[test]
    fn what_is_cut_off_is_no_response() {
        assert!(switch(b"\xfeclient_ed25519").is_err() && switch(b"").is_err());
        for plugin in [AuthPlugin::MysqlNativePassword, AuthPlugin::Ed25519] {
            assert!(proof(&plugin, Some(&Secret::new("secret")), &[7; 19]).is_err());
        }
        assert!(row(b"\x05abc", 1).is_err() && row(b"", 1).is_err());
        assert_eq!(row(b"\xfb\x01a", 2).expect("a row"), [None, Some("a".to_owned())]);
        assert!(error(b"\xff", CAPABILITIES).is_err());
    }
}
