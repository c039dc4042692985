//! A link to a server on which everything takes its time, and every request is seen when it arrives.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{sleep, spawn};
use std::time::Duration;

use crate::vault::Error;

/// Starts one to the server at this address, on which there and back takes so long. `sees` is called with the first line
/// of each request. Returns the address of its near end.
pub(crate) fn start(
    server: &str,
    round_trip: Duration,
    sees: impl Fn(&str) + Send + Sync + 'static,
) -> Result<String, Error> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", listener.local_addr()?);
    let (sees, server) = (Arc::new(sees), server.trim_start_matches("http://").to_owned());
    spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let (sees, server) = (Arc::clone(&sees), server.clone());
            spawn(move || {
                // The handshake that opens the connection.
                sleep(round_trip);
                let Ok(upstream) = TcpStream::connect(server) else { return };
                let _ = (upstream.set_nodelay(true), client.set_nodelay(true));
                let (Ok(answers), Ok(client_too)) = (upstream.try_clone(), client.try_clone()) else {
                    return;
                };
                spawn(move || carry(answers, client_too, round_trip, |_| ()));
                // One write of a client's holds one request's head, which begins with its line.
                carry(client, upstream, round_trip, |bytes| {
                    if let Some((line, _)) = String::from_utf8_lossy(bytes).split_once(" HTTP/1.1\r\n") {
                        sees(line);
                    }
                });
            });
        }
    });
    Ok(address)
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
