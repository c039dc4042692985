//! Keeping the file small, under all processes that have it open.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Keep, Line, World, private};
use crate::domain::Life;

/// How many credentials that are gone for good an issuer remembers; it knows as little of one as of none.
const GONE: usize = 100;
/// A file below this size is read in a moment, however much of it is outdated.
const SMALL: u64 = 1 << 20;

impl World {
    /// Locks the file. Another process may have put a shorter one in its place: then that is opened.
    #[cfg_attr(
        not(feature = "simulation"),
        expect(irrefutable_let_patterns, reason = "memory is for simulations")
    )]
    pub(super) fn lock(&mut self) -> io::Result<()> {
        while let Keep::File { path, file, read_to, .. } = &mut self.keep {
            file.lock()?;
            let identity = |found: fs::Metadata| (found.dev(), found.ino());
            let ours = identity(file.metadata()?);
            if fs::metadata(&*path).map(identity).map_or(true, |there| there == ours) {
                return Ok(());
            }
            *file = private(path)?;
            *read_to = 0;
            self.minted = 0;
            self.credentials.clear();
            self.by_principal.clear();
            self.secrets.clear();
            self.clients.clear();
        }
        Ok(())
    }

    /// Puts a file with what is true now in the place of one that is mostly outdated.
    #[cfg_attr(
        not(feature = "simulation"),
        expect(irrefutable_let_patterns, reason = "memory is for simulations")
    )]
    pub(super) fn compact(&mut self) -> io::Result<()> {
        let outdated = |read_to: u64, live: u64| read_to > SMALL && read_to / 2 > live;
        match &self.keep {
            Keep::File { read_to, live, .. } if outdated(*read_to, *live) => {}
            _ => return Ok(()),
        }
        let mut lines = Vec::new();
        for line in self.lines() {
            serde_json::to_writer(&mut lines, &line).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        let Keep::File { path, file, live, read_to, .. } = &mut self.keep else { return Ok(()) };
        *live = lines.len() as u64;
        if outdated(*read_to, *live) {
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut new = tempfile::Builder::new().prefix(".world-").append(true).tempfile_in(folder)?;
            new.write_all(&lines)?;
            // Whoever waits for the old one's lock gets it now, and looks where the path leads.
            *file = new.persist(&*path).map_err(|e| e.error)?;
            *read_to = *live;
        }
        Ok(())
    }

    /// Every object's present state, in an order in which they can be folded again.
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for handles in self.by_principal.values() {
            let gone = |handle: &String| self.credentials.get(handle).is_some_and(|c| c.life == Life::Gone);
            let mut forget = handles.iter().filter(|h| gone(h)).count().saturating_sub(GONE);
            for handle in handles {
                if forget > 0 && gone(handle) {
                    forget -= 1;
                } else if let Some(credential) = self.credentials.get(handle) {
                    lines.push(Line::Credential(handle.clone(), credential.clone()));
                }
            }
        }
        lines.extend(self.secrets.iter().map(|(path, s)| Line::Secrets(path.clone(), s.clone())));
        lines.extend(self.clients.iter().map(|(name, c)| Line::Client(name.clone(), c.clone())));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::Credential;
    use super::*;
    use crate::secret::{Sealer, Secret};

    fn world(folder: &Path, identity: &Secret) -> World {
        World::open(folder, Sealer::from_identity(identity).expect("identity")).expect("opened")
    }

    fn rotate(world: &mut World, times: usize) {
        for _ in 0..times {
            world
                .transact(|w| {
                    let (handle, value) = w.mint(&["value"]);
                    let credential = Credential {
                        principal: "p".into(),
                        value: value.clone(),
                        life: Life::Gone,
                        policies: vec!["x".repeat(200)],
                        ttl_ms: None,
                        audience: None,
                        tag: None,
                        used: false,
                        logins: None,
                    };
                    w.put_credential(&handle, credential);
                    let mut secrets = w.secrets("path").cloned().unwrap_or_default();
                    secrets.next += 1;
                    secrets.versions.insert(format!("{:06}", secrets.next), value);
                    secrets.labels.current = Some(format!("{:06}", secrets.next));
                    secrets.tokens.insert(format!("token-{}", secrets.next), format!("{:06}", secrets.next));
                    w.put_secrets("path", secrets);
                })
                .expect("written");
        }
    }

    #[test]
    fn a_file_that_is_mostly_outdated_is_made_anew_under_two_that_write_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (_, identity) = Sealer::generate();
        let (mut one, mut two) = (world(folder.path(), &identity), world(folder.path(), &identity));
        for _ in 0..40 {
            rotate(&mut one, 10);
            rotate(&mut two, 10);
        }
        let size = fs::metadata(folder.path().join("world.jsonl")).expect("there").len();
        assert!(size < 2 * SMALL, "{size}");
        for mut world in [one, two, world(folder.path(), &identity)] {
            let seen = world.transact(|w| {
                let secrets = w.secrets("path").cloned().expect("there");
                assert_eq!(secrets.tokens.len(), secrets.versions.len());
                (secrets.next, w.minted, w.material(&secrets.versions["000800"]).is_empty())
            });
            assert_eq!(seen.expect("read"), (800, 800, false));
        }
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 2, "nothing is left behind");
    }
}
