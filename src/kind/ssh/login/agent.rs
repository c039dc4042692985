//! An agent for one login (draft-ietf-sshm-ssh-agent): it has one key, and signs with it.
//!
//! It listens on a socket in a directory that this user alone can enter, for as long as the login lasts. So the private
//! key is in no file and in no other process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::kind::ssh::pair::{Pair, string, take};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// The longest request that OpenSSH sends (`AGENT_MAX_LEN`).
const LONGEST: u32 = 256 * 1024;

/// An agent that listens until it is dropped.
pub(super) struct Agent {
    asked: Arc<AtomicBool>,
    _serving: AbortOnDropHandle<()>,
}

impl Agent {
    /// Begins to listen at this path, with one key or none.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub(super) fn listen(at: &Path, pair: Option<Pair>) -> io::Result<Self> {
        let listener = UnixListener::bind(at)?;
        let (asked, pair) = (Arc::new(AtomicBool::new(false)), Arc::new(pair));
        let signing = Arc::clone(&asked);
        let serving = tokio::spawn(async move {
            let mut clients = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (pair, signing) = (Arc::clone(&pair), Arc::clone(&signing));
                clients.spawn(async move { serve(stream, pair.as_ref().as_ref(), &signing).await });
            }
        });
        Ok(Self { asked, _serving: AbortOnDropHandle::new(serving) })
    }

    /// Whether a signature was asked for: the server knows the key.
    pub(super) fn was_asked_to_sign(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: UnixStream, pair: Option<&Pair>, asked: &AtomicBool) -> io::Result<()> {
    loop {
        let length = stream.read_u32().await?;
        if length == 0 || length > LONGEST {
            return Ok(());
        }
        let mut request = vec![0; length as usize];
        stream.read_exact(&mut request).await?;
        let answer = answer(&request, pair, asked).unwrap_or_else(|| vec![FAILURE]);
        let mut framed = Vec::new();
        string(&mut framed, &answer);
        stream.write_all(&framed).await?;
    }
}

/// What the agent says; `None` for what it does not do or understand.
fn answer(request: &[u8], pair: Option<&Pair>, asked: &AtomicBool) -> Option<Vec<u8>> {
    let (kind, rest) = request.split_first()?;
    match *kind {
        REQUEST_IDENTITIES => {
            let mut said = vec![IDENTITIES_ANSWER];
            said.extend(u32::from(pair.is_some()).to_be_bytes());
            if let Some(pair) = pair {
                string(&mut said, &pair.blob());
                string(&mut said, b"stanch");
            }
            Some(said)
        }
        SIGN_REQUEST => {
            let (blob, rest) = take(rest)?;
            let (data, flags) = take(rest)?;
            let pair = pair.filter(|pair| pair.blob() == blob)?;
            asked.store(true, Ordering::SeqCst);
            let mut said = vec![SIGN_RESPONSE];
            string(&mut said, &pair.sign(data, u32::from_be_bytes(flags.try_into().ok()?))?);
            Some(said)
        }
        _ => None,
    }
}
