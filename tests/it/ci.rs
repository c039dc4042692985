//! What CI systems read: GitHub's annotations and summaries, JUnit's XML, and the pipelines in `templates/ci`.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::docs::root;
use crate::report::{at, check, ran, write};
use crate::servers::server;
use crate::tool::{Ran, Tool};

/// In GitHub Actions, with a summary that holds something of another program.
fn actions() -> Tool {
    let tool = Tool::new();
    let summary = at(&tool, "summary.md");
    fs::write(&summary, "before\n").expect("written");
    tool.with("GITHUB_ACTIONS", "true").with("GITHUB_STEP_SUMMARY", &summary.display().to_string())
}

fn summary(tool: &Tool) -> String {
    fs::read_to_string(at(tool, "summary.md")).expect("the summary")
}

fn annotations(ran: &Ran) -> Vec<&str> {
    ran.stderr.lines().filter(|line| line.starts_with("::")).collect()
}

const SECRET: &str = "old-value-0123456789";

/// A run whose consumer's reload fails, with words that a careless program would take for a command, and with the
/// secret in them.
fn failing(tool: &Tool) -> Ran {
    let folder = tool.folder.path().display().to_string();
    fs::write(at(tool, "store"), format!("PW={SECRET}\n")).expect("written");
    fs::write(at(tool, "reload"), format!("echo '::error::50% of {SECRET}' >&2; exit 3\n")).expect("written");
    let path = tool.runbook(&format!(
        "version: 1\nname: t\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    \
         issuer: {{ type: random, apply: {{ exec: ['true'] }}, revoke: {{ exec: ['true'] }} }}\n    \
         stores: [{{ type: file, path: {folder}/store, format: dotenv, key: PW }}]\n    \
         consumers: [{{ name: web, reload: {{ exec: [sh, {folder}/reload] }} }}]\n    \
         accepts: [{{ exec: ['true'] }}]\n\
         phases:\n  verify: {{ times: 1, every: 10ms, at_most: 1s }}\n"
    ));
    tool.run(&["run", &path.display().to_string(), "--env", "test", "--yes", "--reason", "it leaked"])
}

#[test]
fn a_failure_is_annotated_and_summed_up() {
    let tool = actions();
    let ran = failing(&tool);
    assert_eq!(ran.code, Some(10), "{ran:?}");
    let found = annotations(&ran);
    let run = tool.newest();
    assert!(found.len() >= 2 && found.len() <= 10, "{ran:?}");
    assert!(found.iter().all(|line| line.contains(&format!(" title=stanch%3A {run}::"))), "{found:?}");
    assert!(found[0].starts_with("::error "), "{found:?}");
    assert!(found.iter().any(|line| line.starts_with("::error ") && line.contains("50%25 of")), "{found:?}");
    let text = summary(&tool);
    assert!(text.starts_with("before\n") && text.contains("reload/web failed**"), "{text}");
    // Each command adds to it.
    tool.run(&["status"]).expect(0);
    assert!(summary(&tool).matches("### stanch: t in test").count() == 2);
    for text in [ran.stderr, ran.stdout, summary(&tool), write(&tool, "report.xml")] {
        assert!(!text.contains(SECRET), "{text}");
    }
    assert!(annotations(&tool.run(&["rollback", "--yes"])).iter().all(|line| line.starts_with("::")));
}

#[test]
fn nothing_of_it_is_said_elsewhere() {
    let tool = Tool::new();
    assert!(annotations(&failing(&tool)).is_empty());
}

/// A command that could not even begin, and a summary that cannot be written.
#[test]
fn an_error_is_annotated_and_a_summary_that_fails_changes_nothing() {
    let tool = actions();
    let ran = tool.run(&["resume"]).expect(2);
    assert_eq!(annotations(&ran).len(), 1, "{ran:?}");
    let path = tool.runbook(&fs::read_to_string(root().join("runbooks/quickstart.yaml")).expect("runbook"));
    let folder = tool.folder.path().display().to_string();
    let tool = tool.with("GITHUB_STEP_SUMMARY", &folder);
    let ran =
        tool.run(&["run", &path.display().to_string(), "--env", "sandbox", "--yes", "--until", "prepare"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.contains("cannot add the summary"), "{ran:?}");
}

/// Many failures are ten annotations.
#[test]
fn at_most_ten_are_said() {
    let tool = actions();
    let mut text = fs::read_to_string(root().join("runbooks/quickstart.yaml")).expect("runbook");
    let (before, credential) = text.split_once("\n  demo-key:\n").expect("a credential");
    let (credential, after) = credential.split_once("\n\n").expect("its end");
    let many: Vec<String> = (0..12)
        .map(|n| format!("\n  key-{n}:\n{}", credential.replace("demo/", &format!("demo-{n}/"))))
        .collect();
    text = format!("{before}{}\n\n{after}", many.concat());
    let path = tool.runbook(&text).display().to_string();
    tool.run(&["run", &path, "--env", "sandbox", "--yes", "--until", "cutover"]).expect(0);
    let ran = tool.run(&["abandon", &tool.newest(), "--reason", "a test", "--yes"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(annotations(&tool.run(&["status"])).len(), 10);
}

#[test]
fn a_run_is_tests_for_a_ci_system() {
    let done = ran(&[], 0);
    let text = write(&done, "report.xml");
    assert!(text.contains("tests=\"5\"") && text.contains("failures=\"0\""), "{text}");
    assert!(text.contains("name=\"the old demo-key is proved dead\""), "{text}");
    check(&done, "report.xml").expect(0);
    fs::write(at(&done, "report.xml"), text.replacen("time=\"", "time=\"9", 1)).expect("written");
    check(&done, "report.xml").expect(65);

    let back = ran(&["--until", "cutover"], 0);
    let text = write(&back, "report.xml");
    assert!(text.contains("failures=\"0\"") && text.contains("<skipped"), "{text}");
    back.run(&["rollback", "--yes", "--reason", "too <early> & \"late\""]).expect(0);
    let text = write(&back, "report.xml");
    assert!(text.contains("<failure message=\"The run ended: rolled back.\""), "{text}");

    let tool = Tool::new();
    failing(&tool);
    let text = write(&tool, "report.xml");
    assert!(
        text.contains("<failure") && text.contains("reload/web: no try took effect; the last try: "),
        "{text}"
    );
}

/// Every `stanch …` of the pipelines is a command that exists, with flags that exist.
#[test]
fn every_command_of_the_pipelines_exists() {
    let tool = Tool::new();
    let mut seen = BTreeSet::new();
    for name in ["github.yml", "gitlab-ci.yml", "Jenkinsfile", "resume.sh"] {
        let text = fs::read_to_string(root().join("templates/ci").join(name)).expect("a pipeline");
        let code = text.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
        for line in code {
            let line = line.split_once(" #").map_or(line, |(code, _)| code);
            for (before, _) in line.match_indices("stanch ") {
                // A command begins the line, or follows what runs one.
                let head = line[..before].trim_end();
                let begins = ["", "-", "run:", "exec", "&&", "$(", "sh '", "=''"]
                    .iter()
                    .any(|runs| head.trim_start() == *runs || (runs.len() > 1 && head.ends_with(runs)));
                assert!(begins, "{name}: is this a command? {line}");
                let rest = line[before + 7..].split(['|', ';', ')', '>', '&']).next().expect("words");
                let mut words = rest.split_whitespace().map(|w| w.trim_matches(['"', '\'']));
                let command = words.next().expect("a command").to_owned();
                let help = tool.run(&[&command, "--help"]).expect(0).stdout;
                for flag in words.filter(|w| w.starts_with('-')) {
                    let known = help.split([' ', '\n', ',']).any(|word| word == flag);
                    assert!(known, "{name}: `stanch {command}` has no `{flag}`");
                }
                seen.insert((name, command));
            }
        }
    }
    for name in ["github.yml", "gitlab-ci.yml", "Jenkinsfile"] {
        for command in ["validate", "plan", "run", "resume", "report", "metrics"] {
            assert!(seen.contains(&(name, command.to_owned())), "{name} has no `stanch {command}`");
        }
    }
}

/// The pipelines' own language, as far as it is YAML or a shell's.
#[test]
fn the_pipelines_can_be_read() {
    for name in ["github.yml", "gitlab-ci.yml"] {
        let text = fs::read_to_string(root().join("templates/ci").join(name)).expect("a pipeline");
        let read: serde_yaml::Value = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(read.as_mapping().is_some_and(|jobs| jobs.len() > 4), "{name}");
    }
    let script = root().join("templates/ci/resume.sh");
    let checked = std::process::Command::new("bash").arg("-n").arg(script).status().expect("bash");
    assert!(checked.success());
}

/// Those who wrote the languages take them as well: GitHub's by actionlint, GitLab's by its published schema.
#[test]
#[ignore = "needs actionlint and check-jsonschema: scripts/test --all"]
fn others_take_the_pipelines() {
    let folder = tempfile::tempdir().expect("folder");
    let pipelines = root().join("templates/ci");
    let labels = folder.path().join("actionlint.yaml");
    fs::write(&labels, "self-hosted-runner: {labels: [stanch, stanch-plan]}\n").expect("written");
    let judge = |program: &str, arguments: &[&str], file: &Path| {
        let mut command = std::process::Command::new(server(program));
        let output =
            command.args(arguments).arg(file).env("HOME", folder.path()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said + &String::from_utf8_lossy(&output.stderr))
    };
    let config = format!("-config-file={}", labels.display());
    let github = ["-no-color", "-shellcheck=", "-pyflakes=", &config];
    let gitlab = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"];
    for (program, arguments, name, wrong) in [
        ("STANCH_TEST_ACTIONLINT", &github[..], "github.yml", ("runs-on:", "runs-upon:")),
        ("STANCH_TEST_CHECK_JSONSCHEMA", &gitlab[..], "gitlab-ci.yml", ("stage: ", "stage: 5 # ")),
    ] {
        let (code, said) = judge(program, arguments, &pipelines.join(name));
        assert_eq!(code, Some(0), "{name}: {said}");
        let text = fs::read_to_string(pipelines.join(name)).expect("a pipeline");
        let broken = folder.path().join(name);
        assert!(text.contains(wrong.0), "{name}");
        fs::write(&broken, text.replacen(wrong.0, wrong.1, 1)).expect("written");
        assert_eq!(judge(program, arguments, &broken).0, Some(1), "{name}: what is wrong is seen");
    }
}

/// The script that a schedule runs stops an unapproved run at cutover, and takes an approved one to its end.
#[test]
fn the_schedule_goes_no_further_than_was_approved() {
    let tool = ran(&["--until", "prepare"], 0);
    let directory = at(&tool, "bin");
    fs::create_dir(&directory).expect("made");
    std::os::unix::fs::symlink(tool.command(&[]).get_program(), directory.join("stanch")).expect("linked");
    let path = format!("{}:{}", directory.display(), std::env::var("PATH").expect("PATH"));
    let schedule = || {
        let mut command = std::process::Command::new(root().join("templates/ci/resume.sh"));
        command.env("PATH", &path).env("STANCH_STATE", tool.state()).output().expect("it starts")
    };
    let until = |wanted: &dyn Fn(&serde_json::Value) -> bool| {
        for _ in 0..100 {
            let output = schedule();
            assert!(output.status.success(), "{output:?}");
            let status = tool.status();
            if wanted(&status) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("it never came: {}", tool.status());
    };
    // The end of a stage is a person's.
    until(&|status| status["phase"] == "prepare");
    let killed = tool.start(&["resume"]);
    tool.wait_for("\"phase\":\"verify\"");
    killed.signal("KILL");
    assert_eq!(killed.wait().code, None);
    until(&|status| status["stopped"]["why"] == "until" && status["phase"] == "cutover");
    until(&|status| status["phase"] == "cutover");
    tool.run(&["resume", "--no-wait"]).expect(10);
    until(&|status| status["end"] == "done");
}
