//! Checkpoints that are kept elsewhere: against them, a truncation that ends at an older checkpoint
//! shows, and a history that was written anew by somebody who has the key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::post;
use stanch::journal::Journal as _;

use crate::record::{Book, copy, leave, lines, put};
use crate::servers::{moto, plain_http, serve, unique};
use crate::tool::Ran;

impl Book {
    fn anchor(&self, arguments: &[&str]) -> Ran {
        self.tool.run(&[&["audit", "anchor"], arguments].concat())
    }

    /// Keeps a checkpoint of a run, or of the index, in a file.
    fn kept(&self, run: Option<&str>, name: &str) -> String {
        let path = self.tool.folder.path().join(name).display().to_string();
        let arguments: Vec<&str> = run.into_iter().chain(["--file", &path]).collect();
        self.anchor(&arguments).expect(0);
        path
    }
}

#[test]
fn a_truncation_that_ends_at_an_older_checkpoint_shows_against_an_anchor() {
    let book = Book::new();
    let run = book.open_run();
    let anchor = book.kept(Some(&run), "anchors");
    let whole = lines(&book.journal(&run));
    assert_eq!(book.json(&[&run, "--anchor", &anchor])["anchors"], 1);
    // Opened, and then each time what was recorded and its checkpoint.
    assert_eq!(whole.len(), 5);
    leave(&book.journal(&run), 3);
    let plain = book.verify(&[&run]).expect(0);
    assert!(plain.stdout.contains("Only an anchor can show"), "{plain:?}");
    for arguments in [&[run.as_str(), "--anchor", &anchor][..], &["--all", "--anchor", &anchor]] {
        let ran = book.verify(arguments).expect(30);
        assert!(
            ran.stdout.contains("line 4 (seq 3)") && ran.stdout.contains("the end was removed"),
            "{ran:?}"
        );
    }
    // The checkpoint itself is missing, and all that it speaks of is there.
    put(&book.journal(&run), &whole[..4].concat());
    book.verify(&[&run, "--anchor", &anchor]).expect(30);
    // No new anchor is made beside one that no longer holds.
    leave(&book.journal(&run), 3);
    let refused = book.anchor(&[&run, "--file", &anchor]).expect(30);
    assert!(refused.stderr.contains("nothing was kept"), "{refused:?}");
    // What is there beyond the anchor is no fault.
    put(&book.journal(&run), &whole.concat());
    let mut journal = book.resume(&run).expect("resume");
    book.close(&mut journal);
    book.verify(&["--all", "--anchor", &anchor]).expect(0);
}

#[test]
fn a_history_rewritten_with_the_key_shows_against_an_anchor() {
    let book = Book::new();
    let mut journal = book.open().expect("open");
    let run = journal.run().to_owned();
    let before = book.tool.folder.path().join("before");
    copy(&book.tool.state(), &before);
    book.note(&mut journal, "the truth");
    book.note(&mut journal, "and more");
    drop(journal);
    let anchor = book.kept(Some(&run), "anchors");
    // Somebody with the whole folder, and so with the key, writes it again.
    fs::remove_dir_all(book.tool.state()).expect("remove");
    copy(&before, &book.tool.state());
    let mut journal = book.resume(&run).expect("resume");
    for _ in 0..3 {
        book.note(&mut journal, "a lie");
    }
    book.verify(&[&run]).expect(0);
    for arguments in [&[run.as_str(), "--anchor", &anchor][..], &["--all", "--anchor", &anchor]] {
        let ran = book.verify(arguments).expect(30);
        assert!(ran.stdout.contains("rewritten"), "{ran:?}");
    }
}

#[test]
fn runs_that_were_removed_together_with_the_index_show_against_an_anchor() {
    let book = Book::new();
    book.whole_run();
    let gone = book.whole_run();
    let of_index = book.kept(None, "index-anchors");
    let of_run = book.kept(Some(&gone), "run-anchors");
    book.verify(&["--all", "--anchor", &of_index, "--anchor", &of_run]).expect(0);
    fs::remove_dir_all(book.journal(&gone).parent().expect("folder")).expect("remove");
    leave(&book.index(), 6);
    book.verify(&["--all"]).expect(0);
    let ran = book.verify(&["--all", "--anchor", &of_index]).expect(30);
    assert!(ran.stdout.contains("line 7 (seq 6)"), "{ran:?}");
    for arguments in [&["--all", "--anchor", &of_run][..], &[gone.as_str(), "--anchor", &of_run]] {
        let ran = book.verify(arguments).expect(30);
        assert!(ran.stdout.contains("its journal is gone"), "{ran:?}");
    }
    // The whole index made anew, as if the folder were older than indexes.
    fs::remove_file(book.index()).expect("remove");
    put(&book.tool.state().join("version"), b"1\n");
    book.whole_run();
    book.verify(&["--all"]).expect(0);
    let ran = book.verify(&["--all", "--anchor", &of_index]).expect(30);
    assert!(ran.stdout.contains("replaced"), "{ran:?}");
}

#[test]
fn an_anchor_of_something_else_proves_nothing_and_says_so() {
    let (book, other) = (Book::new(), Book::new());
    let run = book.whole_run();
    other.whole_run();
    let foreign = other.kept(None, "anchors");
    for arguments in [&[run.as_str(), "--anchor", &foreign][..], &["--all", "--anchor", &foreign]] {
        let ran = book.verify(arguments).expect(32);
        assert!(ran.stdout.contains("none of the 1 anchors"), "{ran:?}");
    }
    // One about this run by another key: the folder's keys were exchanged, or it is forged.
    let mine = book.kept(Some(&run), "anchors");
    let text = fs::read_to_string(&mine).expect("anchor");
    let forged = fs::read_to_string(&foreign).expect("anchor");
    let forged = format!(
        "{}{}",
        text.split_once("\n\n").expect("note").0,
        &forged[forged.find("\n\n").expect("note")..]
    );
    put(&PathBuf::from(&mine), forged.as_bytes());
    let ran = book.verify(&[&run, "--anchor", &mine]).expect(30);
    assert!(ran.stdout.contains("not signed with its key"), "{ran:?}");
    put(&PathBuf::from(&mine), b"no note\n");
    book.verify(&[&run, "--anchor", &mine]).expect(2);
}

#[test]
fn a_file_of_anchors_is_private_grows_and_holds_each_once() {
    let book = Book::new();
    let run = book.open_run();
    let anchor = book.kept(Some(&run), "anchors");
    let mode = fs::metadata(&anchor).expect("file").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let once = fs::read_to_string(&anchor).expect("file");
    let again = book.anchor(&[&run, "--file", &anchor]).expect(0);
    assert!(again.stdout.contains("already in"), "{again:?}");
    assert_eq!(fs::read_to_string(&anchor).expect("file"), once);
    let mut journal = book.resume(&run).expect("resume");
    book.note(&mut journal, "three");
    book.kept(Some(&run), "anchors");
    book.kept(None, "anchors");
    assert_eq!(book.json(&["--all", "--anchor", &anchor])["anchors"], 3);
    book.anchor(&[&run]).expect(2);
}

#[test]
fn a_git_note_keeps_anchors_beside_what_stands_there() {
    let book = Book::new();
    let run = book.whole_run();
    let repository = book.tool.folder.path().join("repository");
    fs::create_dir(&repository).expect("folder");
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&repository).args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"]);
        let output = command.args(arguments).output().expect("git");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    git(&["init", "--quiet"]);
    git(&["config", "user.name", "t"]);
    git(&["config", "user.email", "t@example.invalid"]);
    let path = repository.to_str().expect("path");
    let refused = book.anchor(&["--git", path]).expect(1);
    assert!(refused.stderr.contains("rev-parse"), "{refused:?}");
    git(&["commit", "--quiet", "--allow-empty", "-m", "one"]);
    for _ in 0..2 {
        book.anchor(&["--git", path]).expect(0);
        book.anchor(&[&run, "--git", path, "--commit", "HEAD"]).expect(0);
    }
    // An option is no revision.
    book.anchor(&["--git", path, "--commit=--all"]).expect(1);
    let note = book.tool.folder.path().join("note");
    put(&note, git(&["notes", "--ref=stanch", "show", "HEAD"]).as_bytes());
    assert_eq!(book.json(&["--all", "--anchor", note.to_str().expect("path")])["anchors"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_the_note_and_a_redirect_is_not_followed() {
    let got: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let seen = Arc::clone(&got);
    let keep = move |headers: HeaderMap, body: String| {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        seen.lock().expect("lock").push((kind.to_owned(), body));
        async { StatusCode::CREATED }
    };
    let elsewhere = || async { (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/keep")]) };
    let broken = || async { StatusCode::BAD_GATEWAY };
    let router = Router::new()
        .route("/keep", post(keep))
        .route("/moved", post(elsewhere))
        .route("/broken", post(broken));
    let server = serve(router).await;
    tokio::task::spawn_blocking(move || {
        let book = Book::new();
        book.whole_run();
        book.anchor(&["--http", &format!("{server}/moved")]).expect(1);
        book.anchor(&["--http", &format!("{server}/broken")]).expect(69);
        assert!(got.lock().expect("lock").is_empty(), "a redirect was followed");
        book.anchor(&["--http", &format!("{server}/keep")]).expect(0);
        let (kind, note) = got.lock().expect("lock").pop().expect("a note");
        assert_eq!(kind, "text/plain; charset=utf-8");
        let path = book.tool.folder.path().join("note");
        put(&path, note.as_bytes());
        book.verify(&["--all", "--anchor", path.to_str().expect("path")]).expect(0);
        // Nothing is sent in the clear to another machine, and no password stands in an address.
        for url in ["http://example.invalid/keep", "https://u:secret@example.invalid/", "ftp://127.0.0.1/"] {
            let ran = book.anchor(&["--http", url]).expect(2);
            assert!(!ran.stderr.contains("secret"), "{ran:?}");
        }
    })
    .await
    .expect("the test's thread");
}

/// Trusts moto for conditional writes.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs moto: scripts/test"]
async fn an_object_in_s3_is_written_once_and_never_replaced() {
    let (url, bucket) = (moto(), unique("anchors"));
    let http = plain_http();
    let made = http.put(format!("{url}/{bucket}")).header("host", url.trim_start_matches("http://"));
    assert!(made.send().await.expect("moto").status().is_success());
    let mut book = Book::new();
    book.tool = book
        .tool
        .with("AWS_ENDPOINT_URL", &url)
        .with("AWS_REGION", "us-east-1")
        .with("AWS_ACCESS_KEY_ID", "test")
        .with("AWS_SECRET_ACCESS_KEY", "test");
    let run = book.whole_run();
    let target = format!("s3://{bucket}/kept/here/");
    let kept = book.anchor(&[&run, "--s3", &target]).expect(0);
    let place = kept.stdout.split("s3://").nth(1).and_then(|rest| rest.split(": ").next()).expect("place");
    assert!(place.contains(&format!("kept/here/stanch-journal/{run}/0000")), "{kept:?}");
    let object = format!("{url}/{place}");
    // moto looks for credentials only, not at the signature.
    let signed = "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let read = async || {
        http.get(&object)
            .header("authorization", signed)
            .send()
            .await
            .expect("moto")
            .text()
            .await
            .expect("text")
    };
    let note = read().await;
    let path = book.tool.folder.path().join("note");
    put(&path, note.as_bytes());
    assert_eq!(book.json(&[&run, "--anchor", path.to_str().expect("path")])["anchors"], 1);
    // The same again is there already; another one under this name is a history written anew.
    let again = book.anchor(&[&run, "--s3", &target]).expect(0);
    assert!(again.stdout.contains("already in"), "{again:?}");
    http.put(&object).header("authorization", signed).body("another").send().await.expect("moto");
    let refused = book.anchor(&[&run, "--s3", &target]).expect(30);
    assert!(refused.stderr.contains("rewritten"), "{refused:?}");
    assert_eq!(read().await, "another", "nothing was replaced");
    let missing = book.anchor(&[&run, "--s3", &unique("none")]).expect(1);
    assert!(missing.stderr.contains("NoSuchBucket"), "{missing:?}");
    book.anchor(&[&run, "--s3", "a bucket?"]).expect(2);
}
