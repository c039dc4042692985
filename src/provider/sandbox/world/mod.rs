//! The sandbox's world: issuers, stores and consumers, kept in an append-only file.
//!
//! The file survives a `kill -9` of the process that wrote it, as a server would; it is not synced,
//! since a sandbox need not survive the machine. Several processes may share it: each change is
//! made under a file lock, after what others wrote was read.
//!
//! No secret stands in it. Values that the sandbox mints are derived from a sealed key and a
//! number; values that come from outside are sealed one by one.
//!
//! A simulation plays a million worlds, so there it is kept in memory (`memory.rs`), with what a
//! file cannot do: a read that sees yesterday's state, a server that forgets what it had not flushed.

mod compact;

#[cfg(feature = "simulation")]
pub(super) mod memory;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac as _};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::domain::{Life, Versions};
use crate::secret::{Material, Sealer, Secret};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Value {
    /// Minted here: derived from the world's key, this number and the names of its parts.
    Minted {
        /// The number.
        number: u64,
        /// The parts' names.
        parts: Vec<String>,
    },
    /// From outside: sealed.
    Sealed(String),
}

/// A credential, as its issuer knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Credential {
    /// Which issuer, and whose: one for each credential of each runbook.
    pub(super) principal: String,
    pub(super) value: Value,
    pub(super) life: Life,
    #[serde(default)]
    pub(super) policies: Vec<String>,
    #[serde(default)]
    pub(super) ttl_ms: Option<u64>,
    #[serde(default)]
    pub(super) audience: Option<String>,
    /// The step that made it, as `RUN STEP`.
    #[serde(default)]
    pub(super) tag: Option<String>,
    #[serde(default)]
    pub(super) used: bool,
    /// How many logins that it made live; `None` where what uses it gets none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) logins: Option<u32>,
}

impl Credential {
    /// Its life, as its issuer tells it: what is deleted is gone once all that it made is.
    pub(super) fn told(&self) -> Life {
        match self.life {
            Life::Gone if self.logins.is_some_and(|logins| logins > 0) => Life::Deleted,
            life => life,
        }
    }
}

/// A secret in a store.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Secrets {
    pub(super) versions: BTreeMap<String, Value>,
    pub(super) labels: Versions,
    pub(super) next: u64,
    /// The version that each idempotency token made.
    #[serde(default)]
    pub(super) tokens: BTreeMap<String, String>,
    /// When each version was written; worlds of earlier versions do not say.
    #[serde(default)]
    pub(super) written: BTreeMap<String, Timestamp>,
}

impl Secrets {
    /// Adds a version, which is not yet current. Returns its name.
    pub(super) fn add(&mut self, value: Value, now: Timestamp) -> String {
        let version = self.next.to_string();
        self.next += 1;
        self.versions.insert(version.clone(), value);
        self.written.insert(version.clone(), now);
        version
    }
}

/// A consumer: what each of its instances holds, and how it fared.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Client {
    pub(super) instances: Vec<Value>,
    pub(super) calls: u64,
    pub(super) refused: u64,
}

/// One line of the file: an object's new state.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Credential(String, Credential),
    Secrets(String, Secrets),
    Client(String, Client),
}

/// How many versions a store keeps, as AWS Secrets Manager prunes past about a hundred.
const KEPT: usize = 100;

/// Where the world is kept.
pub(super) enum Keep {
    /// In a file that processes share.
    File {
        /// Seals values from outside.
        sealer: Box<Sealer>,
        /// Where it stands.
        path: PathBuf,
        /// The file.
        file: File,
        /// How much of it was not outdated when that was looked at last.
        live: u64,
        /// How much of it is folded in.
        read_to: u64,
        /// Lines of the present change.
        pending: Vec<u8>,
    },
    /// In memory, for simulations.
    #[cfg(feature = "simulation")]
    Memory(memory::Memory),
}

/// All that the sandbox holds.
pub(super) struct World {
    key: [u8; 32],
    pub(super) keep: Keep,
    minted: u64,
    pub(super) credentials: BTreeMap<String, Credential>,
    /// The handles of each principal's credentials, oldest first.
    pub(super) by_principal: BTreeMap<String, Vec<String>>,
    pub(super) secrets: BTreeMap<String, Secrets>,
    clients: BTreeMap<String, Client>,
}

impl World {
    /// Opens the world in a folder, and makes it where it is not there.
    pub(super) fn open(folder: &Path, sealer: Sealer) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let key = Self::key(&folder.join("key.age"), &sealer)?;
        let path = folder.join("world.jsonl");
        let file = private(&path)?;
        let sealer = Box::new(sealer);
        let keep = Keep::File { sealer, path, file, live: 0, read_to: 0, pending: Vec::new() };
        let mut world = Self::empty(key, keep);
        world.transact(|_| ())?;
        Ok(world)
    }

    pub(super) fn empty(key: [u8; 32], keep: Keep) -> Self {
        Self {
            key,
            keep,
            minted: 0,
            credentials: BTreeMap::new(),
            by_principal: BTreeMap::new(),
            secrets: BTreeMap::new(),
            clients: BTreeMap::new(),
        }
    }

    fn key(path: &Path, sealer: &Sealer) -> io::Result<[u8; 32]> {
        let mut file = private(path)?;
        file.lock()?;
        let mut sealed = String::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_string(&mut sealed)?;
        let text = if sealed.is_empty() {
            let recipe =
                crate::secret::Recipe::new(crate::secret::Alphabet::Hex, 64).map_err(io::Error::other)?;
            let key = recipe.generate();
            file.write_all(sealer.seal(&key).map_err(io::Error::other)?.as_bytes())?;
            key
        } else {
            sealer.open(&sealed).map_err(io::Error::other)?
        };
        let mut key = [0; 32];
        hex::decode_to_slice(text.expose(), &mut key).map_err(io::Error::other)?;
        Ok(key)
    }

    /// Does something with the world as it is now, and keeps what changed.
    pub(super) fn transact<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> io::Result<T> {
        #[cfg(feature = "simulation")]
        if let Keep::Memory(_) = &self.keep {
            self.arrive();
            return Ok(act(self));
        }
        self.lock()?;
        let result = self.catch_up().and_then(|()| {
            let result = act(self);
            self.append().map(|()| result)
        });
        // The world is whole without it; a full disk is for another change to meet.
        let _ = self.compact();
        self.unlock()?;
        result
    }

    #[cfg_attr(
        not(feature = "simulation"),
        expect(irrefutable_let_patterns, reason = "memory is for simulations")
    )]
    fn append(&mut self) -> io::Result<()> {
        if let Keep::File { file, read_to, pending, .. } = &mut self.keep {
            let pending = std::mem::take(pending);
            file.write_all(&pending)?;
            *read_to += pending.len() as u64;
        }
        Ok(())
    }

    #[cfg_attr(
        not(feature = "simulation"),
        expect(irrefutable_let_patterns, reason = "memory is for simulations")
    )]
    fn unlock(&self) -> io::Result<()> {
        if let Keep::File { file, .. } = &self.keep { file.unlock() } else { Ok(()) }
    }

    /// Reads what other processes wrote.
    #[cfg_attr(
        not(feature = "simulation"),
        expect(irrefutable_let_patterns, reason = "memory is for simulations")
    )]
    fn catch_up(&mut self) -> io::Result<()> {
        let Keep::File { file, read_to, .. } = &mut self.keep else { return Ok(()) };
        let end = file.metadata()?.len();
        if end == *read_to {
            return Ok(());
        }
        file.seek(SeekFrom::Start(*read_to))?;
        let mut reader = BufReader::new(file.try_clone()?);
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if line.last() != Some(&b'\n') {
                // A process was killed while it wrote: the change was never acknowledged.
                file.set_len(*read_to)?;
                break;
            }
            *read_to += line.len() as u64;
            lines.push(serde_json::from_slice(&line).map_err(io::Error::other)?);
            line.clear();
        }
        for line in lines {
            self.fold(line);
        }
        Ok(())
    }

    pub(super) fn fold(&mut self, line: Line) {
        match line {
            Line::Credential(handle, credential) => {
                if let Value::Minted { number, .. } = credential.value {
                    self.minted = self.minted.max(number + 1);
                }
                if !self.credentials.contains_key(&handle) {
                    self.by_principal.entry(credential.principal.clone()).or_default().push(handle.clone());
                }
                self.credentials.insert(handle, credential);
            }
            Line::Secrets(path, secrets) => drop(self.secrets.insert(path, secrets)),
            Line::Client(name, client) => drop(self.clients.insert(name, client)),
        }
    }

    fn write(&mut self, line: Line) {
        match &mut self.keep {
            Keep::File { pending, .. } => {
                serde_json::to_writer(&mut *pending, &line).expect("the world is always JSON");
                pending.push(b'\n');
                self.fold(line);
            }
            #[cfg(feature = "simulation")]
            Keep::Memory(_) => self.remember(line),
        }
    }

    /// The value that stands for a material: minted here, or sealed.
    pub(super) fn value_of(&self, material: &Material) -> Value {
        self.credential_of(material)
            .map_or_else(|| self.seal(material), |(_, credential)| credential.value.clone())
    }

    fn seal(&self, material: &Material) -> Value {
        match &self.keep {
            Keep::File { sealer, .. } => Value::Sealed(sealer.seal(&material.to_json()).unwrap_or_default()),
            #[cfg(feature = "simulation")]
            Keep::Memory(memory) => memory.seal(material),
        }
    }

    fn open_sealed(&self, text: &str) -> Option<Material> {
        match &self.keep {
            Keep::File { sealer, .. } => {
                sealer.open(text).ok().and_then(|json| Material::from_json(&json).ok())
            }
            #[cfg(feature = "simulation")]
            Keep::Memory(memory) => memory.open(text),
        }
    }

    /// The material of a value.
    pub(super) fn material(&self, value: &Value) -> Material {
        match value {
            Value::Minted { number, parts } => parts.iter().fold(Material::default(), |material, part| {
                let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any length");
                mac.update(&number.to_be_bytes());
                mac.update(part.as_bytes());
                // The number in front makes it possible to find a value without trying them all.
                let tail = hex::encode(&mac.finalize().into_bytes()[..20]);
                material.with(part, Secret::new(format!("sbx-{number}-{tail}")))
            }),
            Value::Sealed(text) => self.open_sealed(text).unwrap_or_default(),
        }
    }

    /// The credential that a material is.
    pub(super) fn credential_of(&self, material: &Material) -> Option<(&str, &Credential)> {
        let number = material
            .parts()
            .find_map(|(_, s)| s.expose().strip_prefix("sbx-")?.split_once('-')?.0.parse::<u64>().ok());
        let same = |credential: &Credential| self.material(&credential.value).same_as(material);
        match number {
            Some(number) => {
                let handle = handle(number);
                let (handle, credential) = self.credentials.get_key_value(&handle)?;
                same(credential).then_some((handle.as_str(), credential))
            }
            None => self
                .credentials
                .iter()
                .filter(|(_, c)| matches!(c.value, Value::Sealed(_)))
                .find(|(_, c)| same(c))
                .map(|(handle, credential)| (handle.as_str(), credential)),
        }
    }

    /// Mints a value with these parts; returns its credential's handle, too.
    pub(super) fn mint(&mut self, parts: &[&str]) -> (String, Value) {
        let number = self.minted;
        self.minted += 1;
        (handle(number), Value::Minted { number, parts: parts.iter().map(|p| (*p).to_owned()).collect() })
    }

    pub(super) fn credential(&self, handle: &str) -> Option<&Credential> {
        self.credentials.get(handle)
    }

    /// The credentials of a principal, oldest first.
    pub(super) fn credentials(&self, principal: &str) -> impl Iterator<Item = (&str, &Credential)> {
        let handles = self.by_principal.get(principal).map(Vec::as_slice).unwrap_or_default();
        handles.iter().filter_map(|h| self.credentials.get_key_value(h)).map(|(h, c)| (h.as_str(), c))
    }

    /// What was written into a store last.
    pub(super) fn newest(&self, path: &str) -> Material {
        let newest = || {
            let secrets = self.secrets.get(path)?;
            secrets.versions.get(secrets.labels.pending.as_ref().or(secrets.labels.current.as_ref())?)
        };
        newest().map(|value| self.material(value)).unwrap_or_default()
    }

    pub(super) fn put_credential(&mut self, handle: &str, credential: Credential) {
        self.write(Line::Credential(handle.to_owned(), credential));
    }

    /// Somebody logs in with what stands for a value, so many times. What is dead makes no login.
    pub(super) fn log_in(&mut self, value: &Value, times: usize) {
        let material = self.material(value);
        let found = self.credential_of(&material).map(|(handle, c)| (handle.to_owned(), c.clone()));
        if let Some((handle, credential)) = found.filter(|(_, c)| c.life == Life::Active)
            && let Some(logins) = credential.logins
        {
            let logins = Some(logins.saturating_add(u32::try_from(times).unwrap_or(u32::MAX)));
            self.put_credential(&handle, Credential { logins, ..credential });
        }
    }

    /// Ends every credential of a principal whose issuer keeps one value: another takes its place.
    pub(super) fn end_all(&mut self, principal: &str) {
        let of = self.credentials(principal).filter(|(_, c)| c.life != Life::Gone);
        let ended: Vec<(String, Credential)> =
            of.map(|(handle, c)| (handle.to_owned(), Credential { life: Life::Gone, ..c.clone() })).collect();
        for (handle, credential) in ended {
            self.put_credential(&handle, credential);
        }
    }

    pub(super) fn secrets(&self, path: &str) -> Option<&Secrets> {
        self.secrets.get(path)
    }

    pub(super) fn put_secrets(&mut self, path: &str, mut secrets: Secrets) {
        let labels = secrets.labels.clone();
        let labelled = |v: &String| {
            [&labels.current, &labels.previous, &labels.pending].into_iter().any(|l| l.as_ref() == Some(v))
        };
        while secrets.versions.len() > KEPT {
            let Some(oldest) = secrets.versions.keys().find(|v| !labelled(v)).cloned() else { break };
            secrets.versions.remove(&oldest);
        }
        secrets.tokens.retain(|_, version| secrets.versions.contains_key(version));
        secrets.written.retain(|version, _| secrets.versions.contains_key(version));
        self.write(Line::Secrets(path.to_owned(), secrets));
    }

    pub(super) fn client(&self, name: &str) -> Option<&Client> {
        self.clients.get(name)
    }

    pub(super) fn put_client(&mut self, name: &str, client: Client) {
        self.write(Line::Client(name.to_owned(), client));
    }

    /// All credentials, in the order of their handles.
    pub(super) fn all_credentials(&self) -> impl Iterator<Item = (&String, &Credential)> {
        self.credentials.iter()
    }

    /// All secrets, in the order of their paths.
    pub(super) fn all_secrets(&self) -> impl Iterator<Item = (&String, &Secrets)> {
        self.secrets.iter()
    }

    /// Every instance of every consumer makes a call with the value that it holds.
    pub(super) fn exercise(&mut self) {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in names {
            let Some(mut client) = self.clients.get(&name).cloned() else { continue };
            for value in &client.instances {
                let material = self.material(value);
                let active = self.credential_of(&material).is_none_or(|(_, c)| c.life == Life::Active);
                client.calls += 1;
                client.refused += u64::from(!active);
            }
            self.put_client(&name, client);
        }
    }

    /// How many calls of consumers there were, and how many of them were refused.
    pub(super) fn traffic(&self) -> (u64, u64) {
        self.clients.values().fold((0, 0), |(calls, refused), c| (calls + c.calls, refused + c.refused))
    }
}

/// The handle of a minted credential.
pub(super) fn handle(number: u64) -> String {
    format!("sbx-{number:06}")
}

fn private(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}
