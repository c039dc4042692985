//! The manners of a program: what it does with outputs, signals, saved plans, and secrets in other forms.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tool::{Ran, Tool, holds};

/// A generated value in a file, with parts to put in.
fn runbook(tool: &Tool, apply: &str, more: &str) -> String {
    let file = tool.folder.path().join("app.env");
    fs::write(&file, "PW=old-value-0123456789\n").expect("file");
    let text = format!(
        "version: 1\nname: t\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    \
         issuer: {{ type: random, length: 40, alphabet: symbols, apply: {{ exec: {apply} }}, revoke: {{ exec: [\"true\"] }} }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: PW }}]\n    accepts: [{{ exec: [\"true\"] }}]\n    \
         rejects: [{{ exec: [\"false\"] }}]\n{more}",
        file.display()
    );
    tool.runbook(&text).display().to_string()
}

const QUICK: &str = "phases:\n  verify: { times: 1, every: 10ms }\n  proof: { times: 1, every: 10ms }\n";

fn run(tool: &Tool, path: &str) -> Ran {
    tool.run(&["run", path, "--env", "test", "--yes", "--no-wait", "--reason", "a test"])
}

/// A program of the test's own.
fn script(tool: &Tool, name: &str, text: &str) -> String {
    let path = tool.folder.path().join(name);
    fs::write(&path, text).expect("script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    path.display().to_string()
}

#[test]
fn a_result_that_cannot_be_written_is_no_success() {
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", QUICK);
    run(&tool, &path);
    let full = |arguments: &[&str]| {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
        Ran::of(tool.command(arguments).stdout(full).stderr(Stdio::piped()).output().expect("it starts"))
    };
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["runs"],
        &["audit", "show"],
        &["audit", "verify"],
        &["audit", "verify", "--all"],
        &["audit", "key", "export"],
        &["audit", "export", "--format", "csv"],
        &["schema"],
        &["completions", "bash"],
        &["man"],
        &["init"],
        &["validate", &path, "--json"],
        &["plan", &path, "--env", "test", "--json"],
        &["plan", &path, "--env", "test"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
    ] {
        let ran = full(arguments);
        assert_ne!(ran.code, Some(0), "{arguments:?}");
        assert!(ran.stderr.contains("No space left"), "{arguments:?}: {}", ran.stderr);
    }
    // A success of `rollback` is a run that failed, and no less unread.
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", &format!("{QUICK}  overlap: {{ at_least: 1h }}\n"));
    run(&tool, &path).expect(10);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let mut command = tool.command(&["rollback", "--yes"]);
    let ran = Ran::of(command.stdout(full).output().expect("it starts")).expect(1);
    assert!(ran.stderr.contains("No space left"), "{ran:?}");
    assert_eq!(tool.status()["end"], "rolled-back");
    // A reader that has enough gets no words.
    let sh =
        format!("\"$0\" audit show --state '{}' | true; exit ${{PIPESTATUS[0]}}", tool.state().display());
    let stanch = tool.command(&[]).get_program().to_owned();
    let ended = Command::new("bash").arg("-c").arg(sh).arg(stanch).output().expect("bash");
    // `true` may end before or after the little that is written.
    assert!(matches!(ended.status.code(), Some(0 | 141)), "{ended:?}");
    assert!(ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn an_output_is_what_it_was() {
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", QUICK);
    run(&tool, &path);
    let at = |name: &str| tool.folder.path().join(name).display().to_string();
    fs::write(at("real"), "old").expect("file");
    symlink("real", at("link")).expect("link");
    assert!(Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo").success());
    for arguments in [&["plan", &path, "--env", "test"][..], &["audit", "export", "--format", "jsonl"]] {
        fs::write(at("real"), "old").expect("file");
        tool.run(&[arguments, &["-o", &at("link")]].concat()).expect(0);
        assert!(fs::symlink_metadata(at("link")).expect("link").is_symlink());
        assert!(fs::read_to_string(at("real")).expect("real").starts_with('{'));
        let reader = Command::new("cat").arg(at("pipe")).stdout(Stdio::piped()).spawn().expect("cat");
        tool.run(&[arguments, &["-o", &at("pipe")]].concat()).expect(0);
        assert!(reader.wait_with_output().expect("cat").stdout.starts_with(b"{"));
        assert!(fs::metadata(at("pipe")).expect("pipe").file_type().is_fifo());
        let printed = tool.run(&[arguments, &["-o", "/dev/stdout"]].concat()).expect(0);
        assert!(printed.stdout.starts_with('{'), "{}", printed.stdout);
        assert_eq!(tool.run(&[arguments, &["-o", "/dev/full"]].concat()).code, Some(1));
    }
    tool.run(&["audit", "anchor", "--file", "/dev/null"]).expect(0);
}

#[test]
fn a_saved_plan_is_known_by_what_it_holds() {
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", QUICK);
    for name in ["plan", "plan.yaml", "plan.txt"] {
        let saved = tool.folder.path().join(name).display().to_string();
        tool.run(&["plan", &path, "--env", "test", "-o", &saved]).expect(0);
        let shown = tool.run(&["plan", &saved]).expect(0);
        assert!(shown.stdout.contains("point of no return"), "{}", shown.stdout);
        // One that is cut off is no runbook either.
        fs::write(&saved, &fs::read(&saved).expect("plan")[..200]).expect("cut");
        assert!(tool.run(&["plan", &saved]).expect(65).stderr.contains("not a stanch plan"));
    }
    // A runbook in JSON, with a `format` somewhere inside, is a runbook; and a pipe is read once.
    let json = tool.folder.path().join("book.json").display().to_string();
    let text = format!(
        r#"{{"version":1,"name":"t","environments":{{"test":{{}}}},"credentials":{{"pw":{{"issuer":{{"type":"random"}},"stores":[{{"type":"file","path":"{}","format":"dotenv","key":"PW"}}]}}}}}}"#,
        tool.folder.path().join("app.env").display()
    );
    fs::write(&json, text).expect("runbook");
    tool.run(&["plan", &json, "--env", "test"]).expect(0);
    let piped = tool
        .command(&["plan", "/dev/stdin", "--env", "test"])
        .stdin(fs::File::open(&json).expect("file"))
        .output();
    Ran::of(piped.expect("it starts")).expect(0);
}

#[test]
fn a_signal_that_was_ignored_stays_so() {
    for signal in ["HUP", "INT", "TERM"] {
        let tool = Tool::new();
        let path = runbook(&tool, "[\"true\"]", &format!("{QUICK}  overlap: {{ at_least: 2s }}\n"));
        let stanch = tool.command(&["run", &path, "--env", "test", "--yes", "--until", "overlap"]);
        let mut shell = Command::new("sh");
        shell.env_clear().envs(stanch.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.args(["-c", &format!("trap '' {signal}; exec \"$0\" \"$@\"")]);
        shell.arg(stanch.get_program()).args(stanch.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = shell.spawn().expect("sh");
        tool.wait_for("\"phase\":\"overlap\"");
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill").success());
        assert_eq!(child.wait().expect("wait").code(), Some(0), "{signal}");
    }
}

#[test]
fn verifying_nothing_is_no_success() {
    let tool = Tool::new();
    // Before a first run there is no directory, then one without a key.
    let none = tool.run(&["audit", "verify"]).expect(2);
    assert!(none.stderr.contains("nothing was verified"), "{}", none.stderr);
    tool.run(&["halt", "--all", "--clear"]).expect(0);
    for more in [&[][..], &["--all"], &["no-such-run"]] {
        let empty = tool.run(&[&["audit", "verify"][..], more].concat()).expect(2);
        assert!(empty.stderr.contains("nothing was verified"), "{}", empty.stderr);
    }
    fs::remove_dir_all(tool.state()).expect("removed");
    fs::create_dir_all(tool.state()).expect("folder");
    let empty = tool.run(&["audit", "verify", "--all"]).expect(2);
    assert!(empty.stderr.contains("nothing was verified"), "{}", empty.stderr);
    let path = runbook(&tool, "[\"true\"]", QUICK);
    run(&tool, &path);
    tool.run(&["audit", "verify", "--all"]).expect(0);
    fs::remove_dir_all(tool.state().join("runs")).expect("removed");
    fs::remove_file(tool.state().join("index.jsonl")).expect("removed");
    tool.run(&["audit", "verify", "--all"]).expect(30);
    fs::write(tool.state().join("version"), "1\n").expect("written");
    let gone = tool.run(&["audit", "verify", "--all"]).expect(30);
    assert!(gone.stderr.contains("nothing was verified"), "{}", gone.stderr);
}

/// Programs that say what they were given, or what they find, in every other form.
#[test]
fn no_program_puts_a_secret_on_the_record_in_any_form() {
    let forms = [
        ("plain", "v"),
        ("upper", "v.upper()"),
        ("backwards", "v[::-1]"),
        ("spaced", "' '.join(v)"),
        ("half", "v[20:]"),
        ("basic", "base64.b64encode(b'user:' + v.encode()).decode()"),
        ("url64", "base64.urlsafe_b64encode(b'x' + v.encode()).decode()"),
        ("base64 twice", "base64.b64encode(base64.b64encode(v.encode())).decode()"),
        ("base32", "base64.b32encode(v.encode()).decode()"),
        ("base32 lower", "base64.b32encode(b'xy' + v.encode()).decode().lower().rstrip('=')"),
        ("hex", "v.encode().hex()"),
        ("bytes", "str(list(v.encode()))"),
        ("percent", "urllib.parse.quote(v, safe='')"),
        ("json", "json.dumps(json.dumps(v))"),
        ("html", "''.join('&#%d;' % ord(c) for c in v)"),
    ];
    for (name, form) in forms {
        let tool = Tool::new();
        let place = tool.folder.path().display().to_string();
        // With the value on standard input, and with what it finds in the store.
        let say = format!(
            "#!/usr/bin/env python3\nimport sys, base64, json, os, urllib.parse\nv = sys.stdin.read() or open('{place}/app.env').read().strip()[3:].strip('\\'\"')\n\
             o = {form}\nopen('{place}/said', 'a').write(o + '\\n')\nsys.stderr.write('denied: ' + o + '\\n')\nsys.exit(int(sys.argv[1]))\n"
        );
        let say = script(&tool, "say", &say);
        let gates = |exit: u8| {
            format!(
                "gates:\n  g: {{ exec: {{ argv: [{say}, \"{exit}\"] }} }}\nphases:\n  verify: {{ times: 1, every: 10ms }}\n  \
                 overlap: {{ until: [g] }}\n"
            )
        };
        // One that cannot be evaluated is quoted before there is a record.
        let refused = run(&tool, &runbook(&tool, "[\"true\"]", &gates(2))).expect(69);
        let said = fs::read_to_string(tool.folder.path().join("said")).expect("it was run");
        assert!(
            said.lines().all(|said| said.is_empty() || !refused.stderr.contains(said)),
            "{name}: {}",
            refused.stderr
        );
        let gates = gates(1);
        for (apply, more) in [(format!("[{say}, \"3\"]"), QUICK.to_owned()), ("[\"true\"]".to_owned(), gates)]
        {
            let path = runbook(&tool, &apply, &more);
            let ran = run(&tool, &path);
            assert_ne!(ran.code, Some(0));
            let shown =
                [ran.stdout, ran.stderr, tool.run(&["status"]).stdout, tool.run(&["audit", "show"]).stdout];
            let said = fs::read_to_string(tool.folder.path().join("said")).expect("it was run");
            // Half of the old value is nothing.
            for said in said.lines().filter(|said| !said.is_empty()) {
                assert!(!holds(&tool.state(), said), "{name}: on the record: {said}");
                assert!(shown.iter().all(|text| !text.contains(said)), "{name}: shown: {said}");
            }
            // The last letters of the word may be those that stand before the half in the value, by chance.
            let rest = shown[3].split("deni").nth(1).unwrap_or_default();
            assert!(rest.find("[redacted]").is_some_and(|at| at < 12), "{name}: {}", shown[3]);
        }
    }
}

#[test]
fn a_reason_is_looked_at_before_it_is_recorded() {
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", &format!("{QUICK}  overlap: {{ at_least: 1h }}\n"));
    let token = "hvs.CAESIJq3Zx0000Yk2b8wWm5sQ";
    let refused = |arguments: &[&str]| {
        let ran = tool.run(arguments).expect(2);
        assert!(ran.stderr.contains("looks like a secret") && !ran.stderr.contains(token), "{}", ran.stderr);
    };
    let reason = format!("{token} was seen in a log");
    refused(&["run", &path, "--env", "test", "--yes", "--reason", &reason]);
    assert!(tool.journal().is_none());
    tool.run(&[
        "run",
        &path,
        "--env",
        "test",
        "--yes",
        "--no-wait",
        "--reason",
        "AKIAIOSFODNN7EXAMPLE leaked",
    ])
    .expect(10);
    refused(&["halt", "--reason", &reason]);
    refused(&["rollback", "--yes", "--reason", &reason]);
    // What looks like nothing special, and is a secret of this run, is taken out.
    let new = fs::read_to_string(tool.folder.path().join("app.env")).expect("file");
    let new = new.trim().trim_start_matches("PW=").trim_matches(['"', '\'']).to_owned();
    let half = STANDARD.encode(&new[..20]);
    tool.run(&["halt", "--reason", &format!("found {half} in a ticket")]).expect(0);
    let shown = tool.run(&["audit", "show"]).expect(0).stdout;
    assert!(shown.contains("found [redacted]") && !shown.contains(&half[..12]), "{shown}");
}

/// What a store holds looks like nothing special. A person who types it as a reason is not repeated.
#[test]
fn no_reason_puts_what_a_store_holds_on_the_record() {
    let old = "old-value-0123456789";
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", &format!("{QUICK}  overlap: {{ at_least: 1h }}\n"));
    let reason = format!("{old} leaked");
    tool.run(&["run", &path, "--env", "test", "--yes", "--no-wait", "--reason", &reason]).expect(10);
    let new = fs::read_to_string(tool.folder.path().join("app.env")).expect("file");
    let new = new.trim().trim_start_matches("PW=").trim_matches(['"', '\'']).to_owned();
    let reason = format!("given up: {old} and {new}");
    let ran = tool.run(&["abandon", "--yes", "--reason", &reason, "--json"]).expect(0);
    let shown = tool.run(&["audit", "show"]).expect(0).stdout;
    assert!(shown.contains("[redacted] leaked") && shown.contains("given up: [redacted]"), "{shown}");
    for value in [old, &new] {
        assert!(!holds(&tool.state(), value), "on the record: {value}");
        assert!(!shown.contains(value) && !ran.stdout.contains(value), "{shown} {ran:?}");
    }

    // The same in a plan that is saved, and run.
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", QUICK);
    let plan = tool.folder.path().join("plan.json").display().to_string();
    tool.run(&["plan", &path, "--env", "test", "-o", &plan]).expect(0);
    tool.run(&["run", &plan, "--yes", "--reason", &format!("{old} leaked")]);
    assert!(!holds(&tool.state(), old) && !holds(tool.folder.path(), &format!("{old} leaked")));

    // Without the key to the seals nothing can be taken out, so nothing is written.
    let tool = Tool::new();
    let path = runbook(&tool, "[\"true\"]", &format!("{QUICK}  overlap: {{ at_least: 1h }}\n"));
    run(&tool, &path).expect(10);
    fs::remove_file(tool.state().join("keys/seal.key")).expect("key");
    tool.run(&["abandon", "--yes", "--reason", &format!("{old} leaked")]).expect(0);
    assert!(!holds(&tool.state(), old));
    assert!(tool.run(&["audit", "show"]).expect(0).stdout.contains("reason not recorded"));
}

/// A runbook stands in its plan, word by word.
#[test]
fn a_runbook_that_holds_its_own_old_value_is_refused() {
    let old = "old-value-0123456789";
    let plain = {
        let tool = Tool::new();
        let path = runbook(&tool, "[\"true\"]", QUICK);
        tool.run(&["plan", &path, "--env", "test"]).expect(0);
        fs::read_to_string(path).expect("runbook")
    };
    let steps =
        |own: &str| plain.replace("phases:\n", &format!("phases:\n  prepare: {{ before: [{own}] }}\n"));
    for (field, text) in [
        ("summary", plain.replace("name: t\n", &format!("name: t\nsummary: replaces {old}\n"))),
        ("exec", steps(&format!("{{ name: own, exec: [echo, {old}], undo: none }}"))),
        ("manual", steps(&format!("{{ name: ask, manual: \"is {old} gone?\" }}"))),
    ] {
        let tool = Tool::new();
        let place = tool.folder.path().join("app.env");
        fs::write(&place, format!("PW={old}\n")).expect("file");
        let start = text.find("path: \"").expect("path") + "path: \"".len();
        let end = start + text[start..].find('"').expect("end");
        let text = format!("{}{}{}", &text[..start], place.display(), &text[end..]);
        let path = tool.runbook(&text).display().to_string();
        let saved = tool.folder.path().join("plan.json");
        let save = saved.display().to_string();
        for arguments in [
            &["plan", &path, "--env", "test", "-o", &save][..],
            &["plan", &path, "--env", "test", "--json"],
            &["run", &path, "--env", "test", "--yes"],
        ] {
            let ran = tool.run(arguments).expect(65);
            assert!(ran.stderr.contains(field) && ran.stderr.contains("a store of `pw`"), "{ran:?}");
            assert!(!ran.stderr.contains(old) && !ran.stdout.contains(old), "{ran:?}");
        }
        assert!(tool.journal().is_none() && !saved.exists());
    }
}

#[test]
fn the_laggard_has_a_name() {
    let tool = Tool::new();
    let attest = "#!/bin/sh\n{ [ $1 = 27 ] && printf old27 || sed -n s/^PW=//p $2/f$1 | tr -d '\\n'; } | sha256sum | cut -c1-64\n";
    let attest = script(&tool, "attest", attest);
    let place = tool.folder.path().display();
    let mut text = "version: 1\nname: t\nenvironments: { test: {} }\ncredentials:\n".to_owned();
    for n in 10..40 {
        fs::write(tool.folder.path().join(format!("f{n}")), format!("PW=old{n}\n")).expect("file");
        text += &format!(
            "  svc-{n}:\n    issuer: {{ type: random, length: 40 }}\n    stores: [{{ type: file, path: \"{place}/f{n}\", format: dotenv, key: PW }}]\n    \
             consumers: [{{ name: web-{n}, attest: {{ exec: {{ argv: [{attest}, \"{n}\", \"{place}\"] }} }} }}]\n"
        );
    }
    text += "phases:\n  overlap: { at_least: 10ms, at_most: 3s }\n";
    let path = tool.runbook(&text).display().to_string();
    let ran = tool.run(&["run", &path, "--env", "test", "--yes"]).expect(13);
    for shown in [&ran.stdout, &tool.run(&["status"]).expect(0).stdout] {
        assert!(shown.contains("0 of 1 instances of web-27 use the new svc-27"), "{shown}");
        let first = shown.lines().find(|line| line.contains("svc-")).expect("a credential");
        assert!(first.contains("svc-27"), "the unfinished comes first: {shown}");
    }
}

#[test]
fn a_program_that_is_not_there_is_found_before_anything_is_issued() {
    for (from, to) in [
        ("revoke: { exec: [\"true\"] }", "revoke: { exec: [/no/such] }"),
        ("exec: [\"false\"]", "exec: { argv: [no-such-program] }"),
        (
            "rejects:",
            "consumers: [{ name: web, reload: { http: { url: \"https://no-such-host.invalid/\" } } }]\n    rejects:",
        ),
        (
            "phases:",
            "phases:\n  sunset: { before: [{ name: own, exec: [\"true\"], undo: { exec: [./gone] } }] }",
        ),
        ("\"true\"", "<PROGRAM>"),
    ] {
        let tool = Tool::new();
        let path = runbook(&tool, "[\"true\"]", QUICK);
        let text = fs::read_to_string(&path).expect("runbook");
        assert!(text.contains(from));
        let path = tool.runbook(&text.replacen(from, to, 1)).display().to_string();
        let ran = run(&tool, &path);
        let expected = match to {
            "<PROGRAM>" => 65,
            _ if to.contains("https") => 69,
            _ => 1,
        };
        assert!(ran.code == Some(expected) && tool.journal().is_none(), "{to}: {ran:?}");
        assert!(ran.stderr.contains("nothing was changed") && ran.stderr.contains("hint:"), "{}", ran.stderr);
    }
}

#[test]
fn every_connection_that_is_dead_is_named() {
    let tool = Tool::new().with("VAULT_TOKEN", "none");
    let path = tool.runbook(
        "version: 1\nname: t\nenvironments: { test: {} }\nconnections:\n  \
         here: { type: vault, address: \"http://127.0.0.1:1\" }\n  there: { type: vault, address: \"http://127.0.0.1:2\" }\n\
         credentials:\n  key:\n    issuer: { type: vault-token, connection: here, policies: [p], ttl: 1h }\n    \
         scope: { max_ttl: 1h }\n    stores: [{ type: kv2, connection: there, mount: secret, path: a, field: t }]\n    \
         accepts: [{ exec: [\"true\"] }]\n",
    );
    let ran = tool.run(&["plan", path.to_str().expect("path"), "--env", "test"]).expect(69);
    for place in ["connection `here`", "connection `there`", "127.0.0.1:1", "127.0.0.1:2"] {
        assert!(ran.stderr.contains(place), "{place}: {}", ran.stderr);
    }
    // They speak plain HTTP.
    assert!(ran.stderr.contains("hint: check the address") && !ran.stderr.contains("certificate"), "{ran:?}");
}

#[test]
fn what_is_over_is_not_read_to_halt_the_rest() {
    let tool = Tool::new();
    let path = runbook(
        &tool,
        "[\"true\"]",
        "phases:\n  verify: { times: 1, every: 10ms }\n  overlap: { at_least: 1h }\n",
    );
    tool.run(&["run", &path, "--env", "test", "--yes", "--no-wait"]).expect(10);
    tool.run(&["rollback", "--yes"]).expect(0);
    // Whatever is in the record of a run that is over, it is not looked at.
    let over = tool.journal().expect("a run");
    tool.run(&["run", &path, "--env", "test", "--yes", "--no-wait"]).expect(10);
    fs::write(over, "not a record\n").expect("written");
    let halted = tool.run(&["halt", "--all", "--reason", "x"]).expect(0);
    assert_eq!(halted.stderr.matches(": halted").count(), 1, "{}", halted.stderr);
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(
        tool.run(&["halt", "--all", "--clear"]).expect(0).stderr.matches(": no longer halted").count(),
        1
    );
}

#[test]
fn a_step_that_is_told_to_wait_says_until_when() {
    use std::io::{Read as _, Write as _};
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
    let url = format!("http://{}/", server.local_addr().expect("address"));
    let serving = std::thread::spawn(move || {
        for answer in ["429 Too Many Requests\r\nRetry-After: 1", "200 OK"] {
            let (mut stream, _) = server.accept().expect("a request");
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(stream, "HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let tool = Tool::new().with("TZ", "UTC");
    let path = runbook(&tool, "[\"true\"]", QUICK);
    let text = fs::read_to_string(&path).expect("runbook");
    let apply = format!("apply: {{ http: {{ url: \"{url}\" }} }}");
    let path = tool.runbook(&text.replacen("apply: { exec: [\"true\"] }", &apply, 1)).display().to_string();
    let ran = run(&tool, &path);
    serving.join().expect("both were asked for");
    let again =
        ran.stderr.lines().find(|line| line.contains("; retry at ")).unwrap_or_else(|| panic!("{ran:?}"));
    assert!(again.ends_with(" UTC"), "{again}");
}
