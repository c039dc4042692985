//! The index and the keys: what somebody with the state folder can do to whole runs, to the index
//! and with an older key, and what a crash leaves.

use std::fs;
use std::path::Path;

use stanch::journal::{Journal as _, LedgerError};

use crate::record::{Book, WHO, copy, leave, lines, put};

#[test]
fn a_run_is_covered_from_its_opening_to_its_end() {
    let book = Book::new();
    let run = book.open_run();
    let open = book.json(&[&run]);
    assert_eq!((&open["index"], &open["exit"]), (&"open".into(), &0.into()), "{open}");
    let mut journal = book.resume(&run).expect("resume");
    book.close(&mut journal);
    let closed = book.json(&[&run]);
    assert_eq!((&closed["index"], &closed["over"]), (&"closed".into(), &true.into()), "{closed}");
    let all = book.verify(&["--all"]).expect(0);
    assert!(all.stdout.contains("OK: the index, 6 records, 1 run, 1 key"), "{all:?}");
    // Closing again changes nothing: it is what a crash before the clearing away leads to.
    let before = fs::read(book.index()).expect("index");
    journal.close().expect("again");
    assert_eq!(fs::read(book.index()).expect("index"), before);
}

#[test]
fn a_run_that_is_gone_shows() {
    let book = Book::new();
    let (gone, stays) = (book.whole_run(), book.whole_run());
    fs::remove_dir_all(book.journal(&gone).parent().expect("folder")).expect("remove");
    let (one, all, said) = book.says(&gone);
    assert_eq!((one, all), (Some(30), Some(30)), "{said}");
    assert!(said.contains("its journal is gone"), "{said}");
    book.verify(&[&stays]).expect(0);
    // The journal alone, the folder left behind.
    let book = Book::new();
    let gone = book.whole_run();
    fs::remove_file(book.journal(&gone)).expect("remove");
    assert_eq!(book.says(&gone).0, Some(30));
    assert_eq!(book.says(&gone).1, Some(30));
}

#[test]
fn an_end_that_is_cut_off_a_closed_run_shows_at_every_line() {
    let book = Book::new();
    let run = book.whole_run();
    let path = book.journal(&run);
    let whole = lines(&path);
    for left in 1..whole.len() {
        put(&path, &whole[..left].concat());
        let (one, all, said) = book.says(&run);
        assert_eq!((one, all), (Some(30), Some(30)), "{left} lines left: {said}");
        assert!(said.contains(&format!("line {} (seq {left})", left + 1)), "{said}");
        // Nothing goes on from such an end.
        assert!(matches!(book.resume(&run), Err(LedgerError::Invalid { .. })), "{left} lines left");
    }
    // Something behind the end is none of it either.
    put(&path, &[whole.concat(), b"{".to_vec()].concat());
    assert_eq!(book.says(&run).0, Some(30));
    assert!(matches!(book.resume(&run), Err(LedgerError::Invalid { .. })));
}

#[test]
fn runs_in_each_others_place_show() {
    let book = Book::new();
    let (a, b) = (book.whole_run(), book.whole_run());
    let (one, other) = (fs::read(book.journal(&a)).expect("a"), fs::read(book.journal(&b)).expect("b"));
    put(&book.journal(&a), &other);
    put(&book.journal(&b), &one);
    for run in [&a, &b] {
        let (one, all, said) = book.says(run);
        assert_eq!((one, all), (Some(30), Some(30)), "{said}");
        assert!(said.contains("replaced"), "{said}");
        assert!(book.resume(run).is_err());
    }
}

#[test]
fn an_index_that_is_cut_off_shows_by_the_runs_that_are_there() {
    let book = Book::new();
    let (first, second) = (book.whole_run(), book.whole_run());
    let whole = lines(&book.index());
    // [begun, checkpoint], then [opened, checkpoint] and [closed, checkpoint] of each run.
    assert_eq!(whole.len(), 10);
    // Before the second run's opening: the index never heard of it, though things were done in it.
    leave(&book.index(), 6);
    let (one, all, said) = book.says(&second);
    assert_eq!((one, all), (Some(30), Some(30)), "{said}");
    assert!(said.contains("does not list this run"), "{said}");
    assert!(matches!(book.resume(&second), Err(LedgerError::Invalid { .. })));
    book.verify(&[&first]).expect(0);
    // Before its end: that is what a crash leaves too, and so it is not called OK, and mended.
    put(&book.index(), &whole[..8].concat());
    let (one, all, said) = book.says(&second);
    assert_eq!((one, all), (Some(32), Some(32)), "{said}");
    let third = book.whole_run();
    for run in [&first, &second, &third] {
        assert_eq!(book.json(&[run])["index"], "closed");
    }
    book.verify(&["--all"]).expect(0);
}

#[test]
fn an_index_that_is_gone_shows_and_nothing_begins_without_it() {
    let book = Book::new();
    let (over, open) = (book.whole_run(), book.open_run());
    fs::remove_file(book.index()).expect("remove");
    for arguments in [&[over.as_str()][..], &["--all"]] {
        let ran = book.verify(arguments).expect(30);
        assert!(ran.stderr.contains("is gone"), "{ran:?}");
    }
    assert!(matches!(book.resume(&open), Err(LedgerError::IndexGone(_))));
    assert!(matches!(book.open(), Err(LedgerError::IndexGone(_))));
    put(&book.index(), b"");
    assert!(matches!(book.resume(&open), Err(LedgerError::IndexGone(_))));
}

#[test]
fn a_changed_byte_of_the_index_shows() {
    let book = Book::new();
    book.whole_run();
    let whole = fs::read(book.index()).expect("index");
    let state = book.state();
    let trusted = state.verifying_keys().expect("keys");
    let none = stanch::journal::Anchors::default();
    for at in (0..whole.len()).step_by(5).chain(whole.len() - 40..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        put(&book.index(), &bytes);
        let (index, _) = state.examine_index(&trusted, &none).expect("readable").expect("an index");
        let seen = index.fault().is_some() || index.unsigned_bytes() > 0;
        assert!(seen, "byte {at}, {:?}", char::from(whole[at]));
    }
    put(&book.index(), &whole);
    book.verify(&["--all"]).expect(0);
}

#[test]
fn an_append_to_the_index_that_a_crash_tore_is_cut_off_on_the_record() {
    let book = Book::new();
    let run = book.whole_run();
    let whole = fs::read(book.index()).expect("index");
    let last = lines(&book.index())[4..].concat().len();
    // Every length of what the last append wrote: the run's end, and its checkpoint.
    for cut in (1..last).step_by(101).chain([1, 2, last - 1]) {
        put(&book.index(), &whole[..whole.len() - cut]);
        let (one, all, said) = book.says(&run);
        assert!(one == Some(32) && all == Some(32), "{cut} bytes cut: {said}");
        book.open().map(|mut journal| book.close(&mut journal)).expect("the next run");
        let (one, all, said) = book.says(&run);
        assert_eq!((one, all), (Some(0), Some(0)), "{cut} bytes cut: {said}");
        let text = fs::read_to_string(book.index()).expect("index");
        assert!(text.contains("\"type\":\"repaired\""), "{text}");
        let other = book.tool.newest();
        assert_ne!(other, run);
        fs::remove_dir_all(book.journal(&other).parent().expect("folder")).expect("remove");
    }
}

#[test]
fn a_crash_between_a_runs_first_record_and_the_index_is_healed() {
    let book = Book::new();
    book.whole_run();
    let journal = book.open().expect("open");
    let run = journal.run().to_owned();
    drop(journal);
    let count = lines(&book.index()).len();
    leave(&book.index(), count - 2);
    let (one, all, said) = book.says(&run);
    assert_eq!((one, all), (Some(32), Some(32)), "{said}");
    assert!(said.contains("stanch resume"), "{said}");
    // It holds its target meanwhile, and no key is changed under it.
    assert!(matches!(book.open(), Err(LedgerError::Held { .. })));
    let refused = book.state().rotate_key(WHO, stanch::clock::Clock::now(&book.clock));
    assert!(matches!(refused, Err(LedgerError::OpenRuns(runs)) if runs == [run.clone()]));
    let mut journal = book.resume(&run).expect("resume");
    assert_eq!(book.json(&[&run])["index"], "open");
    book.close(&mut journal);
    book.verify(&["--all"]).expect(0);
}

#[test]
fn a_crash_between_a_runs_end_and_its_signature_is_healed() {
    let book = Book::new();
    let run = book.whole_run();
    // Neither the end's checkpoint nor the index's word got to the disk.
    let (journal, index) = (lines(&book.journal(&run)).len(), lines(&book.index()).len());
    leave(&book.journal(&run), journal - 1);
    leave(&book.index(), index - 2);
    assert_eq!(book.says(&run).0, Some(32));
    book.whole_run();
    book.verify(&["--all"]).expect(0);
    assert_eq!(book.json(&[&run])["index"], "closed");
}

#[test]
fn a_folder_older_than_indexes_works_and_is_covered_from_then_on() {
    let book = Book::new();
    let (over, open) = (book.whole_run(), book.open_run());
    // As an older version left it.
    fs::remove_file(book.index()).expect("remove");
    put(&book.tool.state().join("version"), b"1\n");
    let (one, _, said) = book.says(&over);
    assert_eq!(one, Some(32), "{said}");
    assert!(said.contains("there is no index"), "{said}");
    let mut journal = book.resume(&open).expect("resume");
    book.verify(&["--all"]).expect(0);
    book.close(&mut journal);
    for run in [&over, &open] {
        assert_eq!(book.json(&[run])["index"], "closed");
    }
    fs::remove_dir_all(book.journal(&over).parent().expect("folder")).expect("remove");
    assert_eq!(book.says(&over).0, Some(30));
}

#[test]
fn without_room_for_the_index_nothing_is_done() {
    let book = Book::new();
    let first = lines(&book.journal(&book.whole_run()))[0].len() as u64;
    while fs::metadata(book.index()).map_or(0, |m| m.len()) < 2 * first {
        book.whole_run();
    }
    let size = fs::metadata(book.index()).expect("index").len();
    // The shell's limit on the size of a file stands in for the disk.
    let limit = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", size / 1024);
    let runbook = book.tool.folder.path().join("runbook.yaml");
    let mut command = std::process::Command::new("bash");
    command.args(["-c", &limit, env!("CARGO_BIN_EXE_stanch"), "run", runbook.to_str().expect("path")]);
    command.args(["--env", "sandbox", "--yes"]);
    let plain = book.tool.command(&[]);
    command.env_clear().envs(plain.get_envs().filter_map(|(n, v)| Some((n, v?))));
    let output = command.output().expect("bash");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(31), "{stderr}");
    assert!(stderr.contains("index.jsonl"), "{stderr}");
    // The run has its first record and nothing else, and goes on when there is room.
    assert_eq!(lines(&book.tool.journal().expect("journal")).len(), 1);
    let run = book.tool.newest();
    assert_eq!(book.verify(&[&run]).code, Some(32));
    book.tool.run(&["rollback", &run, "--yes"]).expect(0);
    book.verify(&["--all"]).expect(0);
}

#[test]
fn several_processes_may_open_runs_at_once() {
    let book = Book::new();
    let runs: Vec<_> = (0..4)
        .map(|n| {
            let path = book.tool.folder.path().join(format!("{n}.yaml"));
            let text = fs::read_to_string(book.tool.folder.path().join("runbook.yaml")).expect("runbook");
            let text =
                text.replace("path: a", &format!("path: p{n}")).replace("  key:", &format!("  key{n}:"));
            put(&path, text.as_bytes());
            book.tool.start(&[
                "run",
                path.to_str().expect("path"),
                "--env",
                "sandbox",
                "--yes",
                "--until",
                "prepare",
            ])
        })
        .collect();
    for run in runs {
        run.wait().expect(0);
    }
    let all = book.verify(&["--all"]).expect(0);
    assert!(all.stdout.contains("4 runs"), "{all:?}");
}

#[test]
fn a_key_is_made_once_changed_and_shown() {
    let book = Book::new();
    let key = |arguments: &[&str]| book.tool.run(&[&["audit", "key"], arguments].concat());
    let first = key(&["create"]).expect(0).stdout;
    key(&["create"]).expect(2);
    let over = book.whole_run();
    let private = fs::read_to_string(book.tool.state().join("keys/journal.key")).expect("key");
    let open = book.open_run();
    let refused = key(&["rotate"]).expect(21);
    assert!(refused.stderr.contains(&open), "{refused:?}");
    book.resume(&open).map(|mut journal| book.close(&mut journal)).expect("close");

    let second = key(&["rotate"]).expect(0).stdout;
    assert_ne!(first, second);
    let next = book.whole_run();
    let shown = key(&["export"]).expect(0).stdout;
    assert!(shown.contains(first.trim()) && shown.contains(second.trim()), "{shown}");
    let all = book.verify(&["--all"]).expect(0);
    assert!(all.stdout.contains("2 keys"), "{all:?}");
    // The private half of the old one is nowhere any more.
    let secret =
        private.trim().splitn(5, '+').nth(4).expect("the seed, which may hold a plus itself").to_owned();
    crate::tool::search(&book.tool.state(), &[secret]);

    // Whoever has only one of the two keys, or both, can check everything.
    let file = book.tool.folder.path().join("keys");
    let path = file.to_str().expect("path");
    for keys in [first.clone(), second.clone(), shown.clone()] {
        put(&file, keys.as_bytes());
        book.verify(&["--all", "--key", path]).expect(0);
    }
    // A run has one key: that of its time.
    for (run, good, bad) in [(&over, &first, &second), (&next, &second, &first)] {
        let copied = book.journal(run);
        put(&file, good.as_bytes());
        book.verify(&[copied.to_str().expect("path"), "--key", path]).expect(0);
        put(&file, bad.as_bytes());
        let ran = book.verify(&[copied.to_str().expect("path"), "--key", path]).expect(30);
        assert!(ran.stdout.contains("known key"), "{ran:?}");
    }

    // The old key, put back from a backup, signs nothing any more.
    put(&book.tool.state().join("keys/journal.key"), private.as_bytes());
    assert!(matches!(book.open(), Err(LedgerError::Key { .. })));
}

#[test]
fn a_history_without_the_change_of_keys_is_refused_by_whoever_has_the_new_one() {
    let book = Book::new();
    book.whole_run();
    let before = book.tool.folder.path().join("before");
    copy(&book.tool.state(), &before);
    book.tool.run(&["audit", "key", "rotate"]).expect(0);
    let trusted = book.tool.folder.path().join("keys");
    put(&trusted, book.tool.run(&["audit", "key", "export"]).expect(0).stdout.as_bytes());
    let trusted = trusted.to_str().expect("path");
    book.verify(&["--all", "--key", trusted]).expect(0);
    let before = before.to_str().expect("path");
    book.verify(&[before]).expect(0);
    let ran = book.verify(&[before, "--key", trusted]).expect(30);
    assert!(ran.stdout.contains("not signed with your keys"), "{ran:?}");
}

#[test]
fn a_change_of_keys_that_a_crash_cut_short_is_finished_or_taken_back() {
    let book = Book::new();
    book.whole_run();
    let keys = book.tool.state().join("keys");
    let file = |name: &str| keys.join(name);
    let old = ["journal.key", "journal.vkey"].map(|name| (name, fs::read(file(name)).expect(name)));
    let before = lines(&book.index()).len();
    book.tool.run(&["audit", "key", "rotate"]).expect(0);
    let new = ["journal.key", "journal.vkey"].map(|name| (name, fs::read(file(name)).expect(name)));
    let whole = lines(&book.index());
    assert_eq!(whole.len(), before + 3);

    // (lines of the index, which private key, whether it was emptied): each point in the order of things.
    let points = [
        (before, &old, false),
        (before + 1, &old, false),
        (before + 2, &old, false),
        (before + 2, &old, true),
    ];
    for (left, (private, public), emptied) in points.map(|(l, k, e)| (l, (&k[0].1, &k[1].1), e)) {
        put(&book.index(), &whole[..left].concat());
        put(&file("journal.key"), if emptied { b"" } else { private });
        put(&file("journal.vkey"), public);
        put(&file("journal.key.next"), &new[0].1);
        let run = book.whole_run();
        let all = book.verify(&["--all"]).expect(0);
        let done = left == before + 2;
        assert!(all.stdout.contains(if done { "2 keys" } else { "1 key," }), "{left} {emptied}: {all:?}");
        fs::remove_dir_all(book.journal(&run).parent().expect("folder")).expect("remove");
        assert!(!file("journal.key.next").exists());
        let wanted = if done { &new } else { &old };
        assert_eq!(&fs::read(file("journal.key")).expect("key"), &wanted[0].1, "{left} {emptied}");
        assert_eq!(&fs::read(file("journal.vkey")).expect("key"), &wanted[1].1, "{left} {emptied}");
    }
}

#[test]
fn a_record_can_be_checked_anywhere_with_the_public_key_alone() {
    let book = Book::new();
    let run = book.whole_run();
    let folder = book.tool.folder.path();
    let (moved, alone, key) = (folder.join("moved"), folder.join("alone"), folder.join("key"));
    fs::copy(book.tool.state().join("keys/journal.vkey"), &key).expect("copy");
    copy(book.journal(&run).parent().expect("folder"), &alone);
    fs::rename(book.tool.state(), &moved).expect("move");
    fs::remove_file(moved.join("keys/journal.key")).expect("remove");
    let [moved, alone, key] = [&moved, &alone, &key].map(|path| path.to_str().expect("path"));
    let before = listing(folder);
    let journal = format!("{alone}/journal.jsonl");
    let index = format!("{moved}/index.jsonl");
    for arguments in [
        &[moved][..],
        &[moved, "--key", key],
        &[alone, "--key", key],
        &[&journal, "--key", key],
        &[&index, "--key", key],
        &[&run, "--state", moved],
        &["--all", "--state", moved, "--key", key],
    ] {
        let ran = book.verify(arguments).expect(0);
        assert!(ran.stdout.contains("OK"), "{ran:?}");
    }
    assert_eq!(listing(folder), before, "nothing was made");
    book.verify(&[alone]).expect(2);
    // Another folder's key is none.
    let other = Book::new();
    other.whole_run();
    let other = other.tool.state().join("keys/journal.vkey");
    let other = other.to_str().expect("path");
    for path in [alone, &index, moved] {
        book.verify(&[path, "--key", other]).expect(30);
    }
    // A torn end of a copy.
    let bytes = fs::read(&journal).expect("journal");
    put(Path::new(&journal), &bytes[..bytes.len() - 5]);
    book.verify(&[alone, "--key", key]).expect(32);
}

fn listing(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()) {
        found.push(entry.display().to_string());
        if entry.is_dir() {
            found.extend(listing(&entry));
        }
    }
    found.sort();
    found
}

#[test]
fn a_torn_end_of_every_length_is_cut_off_on_the_record() {
    let book = Book::new();
    let run = book.open_run();
    let whole = fs::read(book.journal(&run)).expect("journal");
    let index = fs::read(book.index()).expect("index");
    let first = lines(&book.journal(&run))[0].len();
    for left in (first..whole.len()).step_by(17).chain(whole.len() - 3..whole.len()) {
        put(&book.journal(&run), &whole[..left]);
        let torn = whole[..left].iter().rev().take_while(|b| **b != b'\n').count();
        drop(book.resume(&run).unwrap_or_else(|e| panic!("{left} bytes left: {e}")));
        let text = fs::read_to_string(book.journal(&run)).expect("journal");
        let last = text.lines().rev().nth(1).unwrap_or_default();
        if torn > 0 {
            assert!(last.contains(&format!("\"type\":\"repaired\",\"bytes\":{torn},")), "{left}: {last}");
            assert_eq!(book.json(&[&run])["unanchored"], 0, "{left} bytes left");
        } else {
            assert!(!last.contains("repaired"), "{left} bytes left");
        }
        put(&book.index(), &index);
    }
}

/// Signs a journal's checkpoints again with another key, and chains its lines again.
fn sign_again(journal: &Path, private: &str) {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let signer = signed_note::StandardSigner::new(private.trim()).expect("key");
    let mut leaves: Vec<tlog_tiles::Hash> = Vec::new();
    let mut forged = Vec::new();
    for line in lines(journal) {
        let mut text = String::from_utf8(line).expect("UTF-8").trim_end().to_owned();
        let at = text.find("\"prev\":\"").expect("prev") + 8;
        let previous = leaves.last().map_or("0".repeat(64), |leaf| hex::encode(leaf.0));
        text.replace_range(at..at + 64, &previous);
        if let Some(at) = text.find(",\"type\":\"checkpoint\"") {
            let envelope = format!("{}}}", &text[..at]);
            let mut record: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let note = record["note"].as_str().expect("note");
            let mut fields: Vec<String> = note.lines().take(4).map(str::to_owned).collect();
            fields[2] = base64::engine::general_purpose::STANDARD.encode(root(&leaves).0);
            fields[3] = format!("envelope {}", hex::encode(Sha256::digest(&envelope)));
            let mut note =
                signed_note::Note::new(format!("{}\n", fields.join("\n")).as_bytes(), &[]).expect("note");
            note.add_sigs(&[&signer]).expect("sign");
            record["note"] = String::from_utf8(note.to_bytes()).expect("UTF-8").into();
            text = format!("{},\"type\":\"checkpoint\",\"note\":{}}}", &text[..at], record["note"]);
        }
        leaves.push(tlog_tiles::record_hash(text.as_bytes()));
        forged.extend_from_slice(text.as_bytes());
        forged.push(b'\n');
    }
    put(journal, &forged);

    fn root(leaves: &[tlog_tiles::Hash]) -> tlog_tiles::Hash {
        if let [leaf] = leaves {
            return *leaf;
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        tlog_tiles::node_hash(root(left), root(right))
    }
}

#[test]
fn a_key_signs_runs_of_its_own_time_only() {
    let book = Book::new();
    let key = || fs::read_to_string(book.tool.state().join("keys/journal.key")).expect("key");
    let older = book.whole_run();
    let old_key = key();
    let of_old = fs::read(book.journal(&older)).expect("journal");
    book.tool.run(&["audit", "key", "rotate"]).expect(0);
    let new_key = key();
    let newer = book.open_run();
    // The forger does it right: by the right key it is the very same journal.
    sign_again(&book.journal(&newer), &new_key);
    book.verify(&[&newer]).expect(0);
    sign_again(&book.journal(&older), &old_key);
    assert_eq!(fs::read(book.journal(&older)).expect("journal"), of_old);
    for (run, wrong) in [(&newer, &old_key), (&older, &new_key)] {
        sign_again(&book.journal(run), wrong);
        let (one, all, said) = book.says(run);
        assert_eq!((one, all), (Some(30), Some(30)), "{said}");
        assert!(said.contains("not signed with a known key"), "{said}");
        assert!(matches!(book.resume(run), Err(LedgerError::Invalid { .. })));
    }
}

/// The page says that it is enough: so it has to be.
#[test]
#[ignore = "needs python3 and openssl: scripts/test"]
fn the_pages_own_program_checks_a_journal_and_the_index() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let page = fs::read_to_string(page).expect("page");
    let program =
        page.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).expect("program");
    let book = Book::new();
    let before = book.whole_run();
    book.tool.run(&["audit", "key", "rotate"]).expect(0);
    let (after, open) = (book.whole_run(), book.open_run());
    let script = book.tool.folder.path().join("check.py");
    put(&script, program.as_bytes());
    let keys = book.tool.state().join("keys/journal.vkey");
    let python = |run: &str, index: Option<&Path>| {
        let mut command = std::process::Command::new("python3");
        command.arg(&script).arg(&keys).arg(book.journal(run)).args(index);
        command.output().expect("python3")
    };
    let index = book.index();
    for run in [&before, &after, &open] {
        for index in [None, Some(index.as_path())] {
            let output = python(run, index);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(String::from_utf8_lossy(&output.stdout).contains("0 records unanchored"));
        }
    }
    // It sees what stanch sees.
    let whole = fs::read(book.journal(&before)).expect("journal");
    leave(&book.journal(&before), 3);
    assert!(python(&before, None).status.success());
    assert!(!python(&before, Some(&index)).status.success(), "an end was cut off");
    put(&book.journal(&before), &whole);
    sign_again(
        &book.journal(&open),
        &fs::read_to_string(book.tool.state().join("keys/journal.key")).expect("key"),
    );
    assert!(python(&open, Some(&index)).status.success());
    let mut bytes = whole.clone();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    put(&book.journal(&before), &bytes);
    assert!(!python(&before, None).status.success(), "a byte was changed");
}
