//! Tampering with a journal, by somebody who has the folder and not the key.

use std::path::Path;

use stanch::journal::{Report, StateDir};

use crate::tool::Tool;

/// A finished run's state folder, and its journal's bytes.
struct Finished {
    tool: Tool,
    run: String,
    bytes: Vec<u8>,
}

fn finished() -> Finished {
    let tool = Tool::new();
    let quickstart = Path::new(env!("CARGO_MANIFEST_DIR")).join("runbooks/quickstart.yaml");
    tool.run(&["run", quickstart.to_str().expect("path"), "--env", "sandbox", "--yes"]).expect(0);
    let run = tool.newest();
    let bytes = std::fs::read(tool.journal().expect("journal")).expect("journal");
    Finished { tool, run, bytes }
}

impl Finished {
    fn verify(&self, bytes: &[u8]) -> Report {
        let path = self.tool.journal().expect("journal");
        std::io::Write::write_all(&mut std::fs::File::create(&path).expect("file"), bytes).expect("write");
        let state = StateDir::open(&self.tool.state()).expect("state");
        let report = state.audit(&self.run, drop).expect("readable");
        // What reads less of each line must find the same, to the word.
        assert_eq!(state.verify(&self.run).expect("readable"), report);
        report
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.bytes.split_inclusive(|b| *b == b'\n').collect()
    }
}

#[test]
fn what_was_not_touched_is_good() {
    let finished = finished();
    let report = finished.verify(&finished.bytes);
    assert_eq!((report.fault, report.torn), (None, 0));
    assert_eq!(report.records, finished.lines().len() as u64);
    assert_eq!(report.anchored, report.records);
}

#[test]
fn a_changed_byte_shows_wherever_it_is() {
    let finished = finished();
    // A sample, dense in the last line, for which no later line vouches.
    let lines = finished.lines();
    let start = finished.bytes.len() - lines[lines.len() - 1].len();
    let places = (0..start).step_by(997).chain((start..finished.bytes.len()).step_by(7));
    for at in places {
        let mut bytes = finished.bytes.clone();
        bytes[at] ^= 0x01;
        let report = finished.verify(&bytes);
        let seen = report.fault.is_some() || report.torn > 0;
        assert!(seen, "byte {at} of {}, {:?}", bytes.len(), char::from(finished.bytes[at]));
    }
}

#[test]
fn a_removed_repeated_or_swapped_line_shows() {
    let finished = finished();
    let lines = finished.lines();
    for at in 0..lines.len() - 1 {
        let removed = [&lines[..at], &lines[at + 1..]].concat().concat();
        assert!(finished.verify(&removed).fault.is_some(), "line {at} removed");
        let repeated = [&lines[..=at], &lines[at..]].concat().concat();
        assert!(finished.verify(&repeated).fault.is_some(), "line {at} repeated");
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        assert!(finished.verify(&swapped.concat()).fault.is_some(), "lines {at} and the next swapped");
    }
}

#[test]
fn an_end_without_a_signature_is_never_plain_ok() {
    let finished = finished();
    let lines = finished.lines();
    let is_checkpoint = |line: &[u8]| line.windows(19).any(|w| w == b"\"type\":\"checkpoint\"");
    for left in 1..lines.len() {
        let report = finished.verify(&lines[..left].concat());
        assert_eq!(report.fault, None, "a beginning is good as far as it goes");
        // A cut right behind an older checkpoint needs an anchor elsewhere to be seen.
        assert_eq!(report.unanchored() == 0, is_checkpoint(lines[left - 1]), "{left} lines left");
    }
    let mut torn = finished.bytes.clone();
    torn.truncate(torn.len() - 10);
    assert!(finished.verify(&torn).torn > 0);
}

#[test]
fn a_chain_made_anew_without_the_key_shows() {
    let finished = finished();
    // Somebody rewrites the actor in every line and computes the chain again.
    let mut previous = "0".repeat(64);
    let mut forged = Vec::new();
    for line in finished.lines() {
        let text = String::from_utf8(line.strip_suffix(b"\n").expect("newline").to_vec()).expect("UTF-8");
        let at = text.find("\"prev\":\"").expect("prev") + 8;
        let text = format!("{}{previous}{}", &text[..at], &text[at + 64..]).replace("tester", "nobody");
        previous = hex::encode(tlog_tiles::record_hash(text.as_bytes()).0);
        forged.extend_from_slice(text.as_bytes());
        forged.push(b'\n');
    }
    let fault = finished.verify(&forged).fault.expect("a fault");
    assert!(fault.what.contains("checkpoint"), "{fault}");
}

#[test]
fn another_runs_checkpoint_and_another_key_do_not_pass() {
    let (one, other) = (finished(), finished());
    let last = |f: &Finished| f.lines().last().expect("line").to_vec();
    let lines = one.lines();
    let mixed = [lines[..lines.len() - 1].concat(), last(&other)].concat();
    assert!(one.verify(&mixed).fault.is_some());
    // The other folder's keys, put in the place of these.
    for name in ["journal.key", "journal.vkey"] {
        let from = other.tool.state().join("keys").join(name);
        std::fs::copy(from, one.tool.state().join("keys").join(name)).expect("copy");
    }
    let fault = one.verify(&one.bytes).fault.expect("a fault");
    assert!(fault.what.contains("known key"), "{fault}");
}

#[test]
fn a_journal_can_be_checked_by_what_the_design_says_alone() {
    // An independent reading: the leaf hashes, the chain, the tree and the signature, with nothing
    // of stanch's own.
    use ed25519_dalek::Verifier as _;
    use sha2::{Digest as _, Sha256};
    let finished = finished();
    let vkey = std::fs::read_to_string(finished.tool.state().join("keys/journal.vkey")).expect("key");
    let encoded = vkey.trim().splitn(3, '+').nth(2).expect("name, hash and base64, which may hold a plus");
    let decode = |text: &str| {
        base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).expect("base64")
    };
    let key: [u8; 32] = decode(encoded)[1..].try_into().expect("32 bytes");
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).expect("key");
    let mut leaves: Vec<[u8; 32]> = Vec::new();
    let mut checkpoints = 0;
    for line in finished.lines() {
        let line = line.strip_suffix(b"\n").expect("newline");
        let record: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        let previous = leaves.last().map_or_else(|| "0".repeat(64), hex::encode);
        assert_eq!(record["prev"], previous);
        assert_eq!(record["seq"], leaves.len());
        if record["type"] == "checkpoint" {
            let note = record["note"].as_str().expect("note");
            let (text, signature) = note.rsplit_once("\n\n").expect("a signed note");
            let text = format!("{text}\n");
            let signature = decode(signature.trim().rsplit(' ').next().expect("base64"));
            let signature = ed25519_dalek::Signature::from_slice(&signature[4..]).expect("signature");
            key.verify(text.as_bytes(), &signature).expect("the signature is good");
            let fields: Vec<&str> = text.lines().collect();
            assert_eq!(fields[1], leaves.len().to_string());
            assert_eq!(decode(fields[2]), root(&leaves));
            checkpoints += 1;
        }
        leaves.push(Sha256::new().chain_update([0]).chain_update(line).finalize().into());
    }
    assert!(checkpoints > 5);

    /// RFC 6962, section 2.1, word for word.
    fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let k = (n.next_power_of_two() / 2).max(1);
                let (left, right) = leaves.split_at(k);
                Sha256::new()
                    .chain_update([1])
                    .chain_update(root(left))
                    .chain_update(root(right))
                    .finalize()
                    .into()
            }
        }
    }
}
