//! `stanch runs archive`: what was moved is found and verified where it is, and nothing is lost on the way.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::path::{Path, PathBuf};

use crate::record::copy;
use crate::report::ran;
use crate::servers::closed_port;
use crate::tool::{Ran, Tool, apart};

/// A state directory with two runs that are done, the older first; and an empty directory for an archive.
fn two() -> (Tool, Vec<String>, PathBuf) {
    let tool = Tool::new();
    fs::create_dir_all(tool.state()).expect("made");
    let notify = "language: en\nchannels:\n  log: { audience: technicians, drills: true, on: [opened, proved], via: { file: { path: log.jsonl } } }\n";
    fs::write(tool.state().join("notify.yaml"), notify).expect("written");
    let runs = vec![again(&tool), again(&tool)];
    let archive = tool.folder.path().join("archive");
    fs::create_dir(&archive).expect("made");
    (tool, runs, archive)
}

/// One run more; its name.
fn again(tool: &Tool) -> String {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/runbooks/quickstart.yaml"));
    let quick: Vec<String> = text
        .expect("runbook")
        .lines()
        .map(|line| match line.split_once("at_least:") {
            Some((before, _)) => format!("{before}at_least: 10ms"),
            None => line.to_owned(),
        })
        .collect();
    let path = tool.runbook(&quick.join("\n")).display().to_string();
    tool.run(&["run", &path, "--env", "sandbox", "--yes"]).expect(0);
    tool.newest()
}

fn archive(tool: &Tool, to: &Path, more: &[&str]) -> Ran {
    let to = to.display().to_string();
    let mut arguments = vec!["runs", "archive", "--older-than", "0s", "--to", &to];
    arguments.extend(more);
    tool.run(&arguments)
}

fn journal(tool: &Tool, run: &str) -> PathBuf {
    tool.state().join("runs").join(run).join("journal.jsonl")
}

fn report(tool: &Tool, run: &str) -> String {
    tool.run(&["report", run, "--form", "json"]).expect(0).stdout
}

#[test]
fn what_was_moved_is_read_and_verified_where_it_is() {
    let (tool, runs, to) = two();
    let (old, new) = (&runs[0], &runs[1]);
    let (bytes, told) = (fs::read(journal(&tool, old)).expect("there"), report(&tool, old));
    let messages = fs::read_dir(tool.state().join("outbox").join(old)).expect("messages").count();
    let book = tool.folder.path().join("runbook.yaml").display().to_string();
    let calendar = || tool.run(&["calendar", &book, "--env", "sandbox", "--json"]).expect(0).stdout;
    let due = calendar();

    let dry = archive(&tool, &to, &["--dry-run"]).expect(0);
    assert!(dry.stdout.contains(&format!("would move  {old}")) && journal(&tool, old).exists(), "{dry:?}");
    assert_eq!(fs::read_dir(&to).expect("there").count(), 0, "a dry run makes nothing");
    // Ninety days are the default.
    let young = tool.run(&["runs", "archive", "--to", &to.display().to_string()]).expect(0);
    assert!(young.stdout.contains("2 runs ended less than 90d ago"), "{young:?}");

    let moved = archive(&tool, &to, &[]).expect(0);
    assert!(moved.stdout.contains(&format!("moved  {old}")), "{moved:?}");
    assert!(moved.stdout.contains(&format!("kept  {new}: it is the last rotation")), "{moved:?}");
    assert!(!tool.state().join("runs").join(old).exists() && journal(&tool, new).exists());
    assert!(!tool.state().join("outbox").join(old).exists());
    assert_eq!(fs::read(to.join(old).join("journal.jsonl")).expect("there"), bytes);
    // All but the lock.
    assert_eq!(fs::read_dir(to.join(old).join("outbox")).expect("there").count() + 1, messages);

    // Everything that reads finds it, also by the start of its name.
    assert_eq!(report(&tool, old), told);
    assert_eq!(report(&tool, &old[..old.len() - 2]), told);
    let status = tool.run(&["status", old]).expect(0);
    assert!(status.stdout.contains("DONE"), "{status:?}");
    tool.run(&["audit", "show", old]).expect(0);
    tool.run(&["audit", "export", old, "--format", "jsonl"]).expect(0);
    let verified = tool.run(&["audit", "verify", old]).expect(0);
    let place = fs::canonicalize(&to).expect("there").join(old).display().to_string();
    assert!(verified.stdout.contains("the index confirms its end") && verified.stdout.contains(&place));
    let all = tool.run(&["audit", "verify", "--all"]).expect(0);
    assert!(runs.iter().all(|run| all.stdout.contains(&format!("{run}: OK"))), "{all:?}");
    let listed = tool.run(&["runs"]).expect(0);
    assert!(!listed.stdout.contains(old) && listed.stderr.contains("1 run in archives"), "{listed:?}");
    let listed = tool.run(&["runs", "--archived"]).expect(0);
    assert!(listed.stdout.contains(&format!("{old} ")) && listed.stdout.contains("in the archive"));
    // The calendar needs none of it.
    assert_eq!(calendar(), due);
    // Nothing is done in it any more.
    for command in [&["resume", old][..], &["rollback", old, "--yes"], &["halt", old, "--reason", "x"]] {
        let refused = tool.run(command).expect(2);
        assert!(refused.stderr.contains("has ended"), "{refused:?}");
    }
    // A newer rotation frees the one that was kept.
    let third = again(&tool);
    let moved = archive(&tool, &to, &[]).expect(0);
    assert!(
        moved.stdout.contains(&format!("moved  {new}")) && moved.stdout.contains(&format!("kept  {third}"))
    );
    tool.run(&["audit", "verify", "--all"]).expect(0);
    // The key can be changed, and vouches for what is in the archive.
    tool.run(&["audit", "key", "rotate"]).expect(0);
    tool.run(&["audit", "verify", "--all"]).expect(0);
}

#[test]
fn an_archive_that_is_away_or_changed_shows() {
    let (tool, runs, to) = two();
    let old = &runs[0];
    archive(&tool, &to, &[]).expect(0);
    let away = tool.folder.path().join("away");
    fs::rename(&to, &away).expect("moved");
    let (book, there) = (tool.folder.path().join("runbook.yaml"), to.display().to_string());
    for mounted in [false, true] {
        if mounted {
            // Where it was mounted, the directory stays.
            fs::create_dir(&to).expect("made");
        }
        let all = tool.run(&["audit", "verify", "--all"]).expect(32);
        let line = all.stdout.lines().find(|line| line.starts_with(old)).expect("a line of its own");
        assert!(line.contains("UNANCHORED") && line.contains(&there) && line.contains("is it mounted?"));
        for command in [&["status", old][..], &["report", old], &["audit", "show", old]] {
            let refused = tool.run(command).expect(1);
            assert!(refused.stderr.contains(&there) && refused.stdout.is_empty(), "{refused:?}");
        }
        // Everything else goes on.
        tool.run(&["runs"]).expect(0);
        tool.run(&["metrics"]).expect(0);
        tool.run(&["calendar", &book.display().to_string(), "--env", "sandbox"]).expect(0);
    }
    again(&tool);
    fs::remove_dir(&to).expect("empty");
    fs::rename(&away, &to).expect("moved back");
    tool.run(&["audit", "verify", "--all"]).expect(0);

    // A changed byte, and a run that is gone from an archive that is there.
    let path = to.join(old).join("journal.jsonl");
    let text = fs::read_to_string(&path).expect("there");
    fs::write(&path, text.replacen("\"cutover\"", "\"sunset\"", 1)).expect("written");
    let all = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(all.stdout.contains(&format!("{old}: NOT VALID")) && all.stdout.contains(&there), "{all:?}");
    // Cut back to an earlier checkpoint: only the index tells.
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().rposition(|line| line.contains("\"type\":\"entered\"")).expect("a phase");
    let before = lines[..at].iter().rposition(|line| line.contains("\"type\":\"checkpoint\"")).expect("one");
    fs::write(&path, format!("{}\n", lines[..=before].join("\n"))).expect("written");
    let all = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(all.stdout.contains("the end was removed"), "{all:?}");
    for command in ["status", "report", "trace"] {
        let refused = tool.run(&[command, old]).expect(30);
        assert!(refused.stdout.is_empty() && refused.stderr.contains("the end is not there"), "{refused:?}");
    }
    fs::remove_dir_all(to.join(old)).expect("removed");
    let all = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(all.stdout.contains("is not there any more"), "{all:?}");
    tool.run(&["status", old]).expect(30);
}

#[test]
fn an_encrypted_archive_is_read_with_the_sealing_key_or_by_its_recipients() {
    let (tool, runs, to) = two();
    let old = &runs[0];
    let (bytes, told) = (fs::read(journal(&tool, old)).expect("there"), report(&tool, old));
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    archive(&tool, &to, &["--recipient", "age1nonsense"]).expect(2);
    archive(&tool, &to, &["--recipient", &recipient]).expect(0);
    let sealed = fs::read(to.join(old).join("journal.jsonl.age")).expect("there");
    assert!(!to.join(old).join("journal.jsonl").exists());
    assert_eq!(age::decrypt(&identity, &sealed).expect("opens"), bytes);
    assert!(!String::from_utf8_lossy(&sealed).contains("quickstart"));
    assert_eq!(report(&tool, old), told);
    tool.run(&["audit", "verify", "--all"]).expect(0);
    // Without the key it is said, and nothing is called valid.
    let key = tool.state().join("keys/seal.key");
    let kept = fs::read(&key).expect("there");
    fs::remove_file(&key).expect("removed");
    let refused = tool.run(&["report", old]).expect(1);
    assert!(refused.stderr.contains("keys/seal.key is gone"), "{refused:?}");
    tool.run(&["audit", "verify", "--all"]).expect(32);
    fs::write(&key, kept).expect("written");
    // A damaged one is not taken.
    fs::write(to.join(old).join("journal.jsonl.age"), &sealed[..sealed.len() - 9]).expect("written");
    let all = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(all.stdout.contains("was changed in the archive"), "{all:?}");
    tool.run(&["status", old]).expect(30);
    // What would wait for a writer is no journal.
    fs::remove_file(to.join(old).join("journal.jsonl.age")).expect("removed");
    let fifo = to.join(old).join("journal.jsonl");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).expect("made");
    let all = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(all.stdout.contains("it is not a file"), "{all:?}");
}

#[test]
fn what_must_stay_stays() {
    // An open run.
    let open = ran(&["--until", "cutover"], 0);
    let to = open.folder.path().join("archive");
    fs::create_dir(&to).expect("made");
    let kept = archive(&open, &to, &[]).expect(0);
    assert!(kept.stdout.contains("it is open") && kept.stdout.contains("moved 0 runs"), "{kept:?}");
    let run = open.newest();
    assert!(journal(&open, &run).exists() && !to.join(&run).exists());
    // What was rolled back is no evidence for the calendar, and goes.
    open.run(&["rollback", "--yes"]).expect(0);
    archive(&open, &to, &[]).expect(0);
    assert!(!journal(&open, &run).exists() && to.join(&run).exists());

    // A run that is not valid, and one with messages that were not sent.
    let (tool, runs, to) = two();
    let text = fs::read_to_string(journal(&tool, &runs[0])).expect("there");
    let bad = text.replacen("\"cutover\"", "\"sunset\"", 1);
    fs::write(journal(&tool, &runs[0]), &bad).expect("written");
    let refused = archive(&tool, &to, &[]).expect(30);
    assert!(refused.stderr.contains(&runs[0]) && !to.join(&runs[0]).exists(), "{refused:?}");
    assert_eq!(fs::read_to_string(journal(&tool, &runs[0])).expect("there"), bad);
    fs::write(journal(&tool, &runs[0]), &text).expect("written");
    let down = format!(
        "language: en\nchannels:\n  log: {{ audience: technicians, drills: true, via: {{ alertmanager: {{ server: \"http://{}\" }} }} }}\n",
        closed_port()
    );
    fs::write(tool.state().join("notify.yaml"), down).expect("written");
    let third = again(&tool);
    again(&tool);
    let kept = archive(&tool, &to, &[]).expect(0);
    assert!(kept.stdout.contains(&format!("kept  {third}: ")), "{kept:?}");
    assert!(kept.stdout.contains(&format!("notify flush {third}")) && journal(&tool, &third).exists());
}

#[test]
fn a_directory_that_is_no_archive_gets_nothing() {
    let (tool, runs, to) = two();
    let old = &runs[0];
    let refused = |to: &Path, code, words: &str| {
        let ran = archive(&tool, to, &[]).expect(code);
        assert!(ran.stderr.contains(words), "{ran:?}");
        assert!(journal(&tool, old).exists(), "{ran:?}");
    };
    refused(&to.join("none"), 31, "cannot find");
    refused(&tool.state(), 2, "it holds other files");
    fs::create_dir(tool.state().join("inside")).expect("made");
    refused(&tool.state().join("inside"), 2, "inside of the state directory");
    assert_eq!(fs::read_dir(tool.state().join("inside")).expect("there").count(), 0);
    fs::write(to.join("notes"), "mine").expect("written");
    refused(&to, 2, "it holds other files");
    fs::remove_file(to.join("notes")).expect("removed");
    fs::write(to.join("stanch-archive"), "archive of stanch, version 9\n").expect("written");
    refused(&to, 2, "another version");
    fs::remove_file(to.join("stanch-archive")).expect("removed");
    // Something else stands where the run is to go.
    archive(&tool, &to, &["--dry-run"]).expect(0);
    let other = to.join("empty");
    fs::create_dir(&other).expect("made");
    let taken = other.join(old);
    fs::write(other.join("stanch-archive"), "archive of stanch, version 1\n").expect("written");
    fs::create_dir(&taken).expect("made");
    fs::copy(journal(&tool, &runs[1]), taken.join("journal.jsonl")).expect("copied");
    refused(&other, 2, "is not what run");
    tool.run(&["audit", "verify", "--all"]).expect(0);
}

/// Killed at the entry of each system call that makes, writes, syncs, renames or removes something: the run is whole
/// and valid at any time, and moving them again finishes it.
#[test]
#[ignore = "takes minutes: run scripts/test"]
fn killed_at_any_point_it_loses_nothing() {
    let (tool, runs, _) = two();
    let old = &runs[0];
    let bytes = fs::read(journal(&tool, old)).expect("there");
    let told = report(&tool, old);
    let mut killed = 0;
    for call in ["mkdir", "write", "fsync", "fdatasync", "rename", "ftruncate", "unlink", "rmdir"] {
        for nth in (1..).step_by(if call == "write" { apart(4) } else { 1 }) {
            let one = Tool::new();
            copy(&tool.state(), &one.state());
            let to = one.folder.path().join("archive");
            fs::create_dir(&to).expect("made");
            let folder = to.display().to_string();
            let arguments = ["runs", "archive", "--older-than", "0s", "--to", &folder];
            let output = one.to_be_killed_in(&arguments, call, nth).output();
            let output = output.expect("strace starts (install strace)");
            let (dead, place) = (Tool::was_killed(&output), format!("{call} {nth}: {output:?}"));
            if dead {
                killed += 1;
                // An append to the index that was not finished is not signed.
                let verified = one.run(&["audit", "verify", "--all"]);
                assert!(matches!(verified.code, Some(0 | 32)), "{place}\n{verified:?}");
                assert_eq!(report(&one, old), told, "{place}");
                archive(&one, &to, &[]).expect(0);
            }
            assert_eq!(fs::read(to.join(old).join("journal.jsonl")).expect("moved"), bytes, "{place}");
            assert!(!one.state().join("runs").join(old).exists(), "{place}");
            assert!(!one.state().join("outbox").join(old).exists(), "{place}");
            assert!(!to.join(format!(".{old}.partial")).exists(), "{place}");
            one.run(&["audit", "verify", "--all"]).expect(0);
            if !dead {
                break;
            }
        }
    }
    assert!(killed > 25, "{killed} points");
    eprintln!("killed at {killed} points");
}
