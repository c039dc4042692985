//! The hash chain and the Merkle tree over a journal's lines (RFC 6962, section 2.1).

use std::collections::BTreeMap;

use tlog_tiles::{EMPTY_HASH, Hash, node_hash, record_hash};

/// The `prev` of the first record.
pub(super) const NO_PREVIOUS: Hash = EMPTY_ZERO;
const EMPTY_ZERO: Hash = Hash([0; 32]);

/// The leaf hash of a line: SHA-256 of 0x00 and the line's bytes without the newline.
pub(super) fn leaf(line: &[u8]) -> Hash {
    record_hash(line)
}

/// The right edge of a Merkle tree: enough to append leaves and to know the root, in memory that
/// grows with the logarithm of the number of leaves.
#[derive(Debug, Clone, Default)]
pub(super) struct Frontier {
    leaves: u64,
    /// The roots of the complete subtrees, largest first: one for each 1 in the binary form of
    /// `leaves`.
    roots: Vec<Hash>,
    /// The sizes at which the root is wanted, and what it was then.
    watched: BTreeMap<u64, Option<Hash>>,
}

impl Frontier {
    /// A tree that remembers its root at these sizes.
    pub(super) fn watching(sizes: impl IntoIterator<Item = u64>) -> Self {
        Self { watched: sizes.into_iter().map(|size| (size, None)).collect(), ..Self::default() }
    }

    /// The root that it had at a watched size, once it has come so far.
    pub(super) fn root_at(&self, size: u64) -> Option<Hash> {
        self.watched.get(&size).copied().flatten()
    }

    /// How many leaves there are.
    pub(super) fn leaves(&self) -> u64 {
        self.leaves
    }

    /// Appends a leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing 1 of the old count is a complete subtree of the size of the new one.
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                node = node_hash(left, node);
            }
        }
        self.roots.push(node);
        self.leaves += 1;
        if self.watched.contains_key(&self.leaves) {
            self.watched.insert(self.leaves, Some(self.root()));
        }
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else { return EMPTY_HASH };
        roots.fold(*last, |right, left| node_hash(*left, right))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// The library's own tree, for comparison.
    struct Stored(Mutex<Vec<Hash>>);

    impl tlog_tiles::HashReader for &Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
            let stored = self.0.lock().expect("lock");
            Ok(indexes.iter().map(|i| stored[usize::try_from(*i).expect("small")]).collect())
        }
    }

    #[test]
    fn the_root_is_the_librarys_at_every_size() {
        let stored = Stored(Mutex::new(Vec::new()));
        let mut frontier = Frontier::watching(0..=300);
        for n in 0..200_u64 {
            let line = format!("line {n}");
            let new = tlog_tiles::stored_hashes(n, line.as_bytes(), &&stored).expect("hashes");
            stored.0.lock().expect("lock").extend(new);
            frontier.push(leaf(line.as_bytes()));
            let expected = tlog_tiles::tree_hash(n + 1, &&stored).expect("tree");
            assert_eq!(frontier.root(), expected, "size {}", n + 1);
            assert_eq!(frontier.root_at(n + 1), Some(expected));
            assert_eq!(frontier.root_at(n + 2), None);
        }
    }

    #[test]
    fn the_leaf_is_rfc_6962s() {
        use sha2::Digest as _;
        assert_eq!(leaf(b"abc").0, <[u8; 32]>::from(sha2::Sha256::digest(b"\0abc")));
    }
}
