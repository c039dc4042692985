//! A link to a server: everything on it takes its time, requests are counted by their sort, and it sees when the first
//! revocation arrives.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::vault::Error;

/// The link.
pub(crate) struct Link {
    pub(crate) address: String,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    killed: Mutex<Option<Instant>>,
    counts: Mutex<BTreeMap<String, usize>>,
}

impl Link {
    /// To the server at this address, on which there and back takes so long.
    pub(crate) fn start(server: &str, round_trip: Duration) -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let seen = Arc::<Seen>::default();
        let (sees, server) = (Arc::clone(&seen), server.trim_start_matches("http://").to_owned());
        spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (seen, server) = (Arc::clone(&sees), server.clone());
                spawn(move || {
                    // The handshake that opens the connection.
                    sleep(round_trip);
                    let Ok(upstream) = TcpStream::connect(server) else { return };
                    let _ = (upstream.set_nodelay(true), client.set_nodelay(true));
                    let (Ok(answers), Ok(client_too)) = (upstream.try_clone(), client.try_clone()) else {
                        return;
                    };
                    spawn(move || carry(answers, client_too, round_trip, |_| ()));
                    carry(client, upstream, round_trip, |bytes| seen.note(bytes));
                });
            }
        });
        Ok(Self { address, seen })
    }

    /// When the first revocation arrived at the server.
    pub(crate) fn killed(&self) -> Option<Instant> {
        *self.seen.killed.lock().expect("the link")
    }

    /// How often each sort of request passed.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        self.seen.counts.lock().expect("the link").clone()
    }
}

impl Seen {
    /// One write of a client's holds one request's head, which begins with its line.
    fn note(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let Some((line, _)) = text.split_once(" HTTP/1.1\r\n") else { return };
        if line.contains("/auth/token/revoke-accessor") {
            self.killed.lock().expect("the link").get_or_insert_with(Instant::now);
        }
        *self.counts.lock().expect("the link").entry(line.replace("/v1/", "")).or_default() += 1;
    }
}

/// Passes on what comes, each piece half a round trip later.
fn carry(mut from: TcpStream, mut to: TcpStream, round_trip: Duration, mut arrives: impl FnMut(&[u8])) {
    let mut bytes = vec![0; 0x10000];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        sleep(round_trip / 2);
        arrives(&bytes[..read]);
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
