//! What each place answered of an old credential, and what happens when one accepts it again after the proof.

use jiff::Timestamp;

use crate::ending::{OLD, World};

fn time(value: &serde_json::Value) -> Timestamp {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().expect("a time")
}

/// A relying party with a cache: it accepts the old value three more times after the revocation.
#[test]
fn a_place_with_a_cache_tells_when_it_last_accepted_and_first_refused() {
    let world = World::dotenv();
    world.script("revoke", "grep -v $h live > left; mv left live; echo $h > cached; echo 3 > times\n");
    world.script(
        "check",
        "grep -q $h live && exit 0\n\
         n=$(cat times); grep -q $h cached && [ $n -gt 0 ] && echo $((n-1)) > times && exit 0\nexit 1\n",
    );
    world.run().expect(0);
    let status = world.tool.status();
    let [place] = &status["vantages"].as_array().expect("a list")[..] else { panic!("{status}") };
    assert_eq!(place["proved"], true, "{place}");
    assert_eq!(place["credential"], "pw");
    assert_eq!(place["place"], "check 1 (sh)");
    let (called, last, first) =
        (time(&place["revoke_called"]), time(&place["last_accepted"]), time(&place["first_refused"]));
    assert!(called < last && last < first, "{place}");
    let text = world.tool.run(&["status"]).expect(0).stdout;
    let row = text.lines().find(|line| line.contains("pw, check 1 (sh)")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("refused"), "{row}");
    let report = world.tool.run(&["report"]).expect(0).stdout;
    assert!(report.contains("| pw | check 1 (sh) | refused |"), "{report}");
}

/// Watches for two seconds; `revive` is done while it does.
fn watched(revive: impl FnOnce(&World)) -> (World, crate::tool::Ran) {
    let world = World::dotenv();
    world.edit("proof: {", "proof: { watch: 2s,");
    let path = world.path("runbook.yaml").display().to_string();
    let mut run = world.tool.command(&["run", &path, "--env", "test", "--yes", "--reason", "a test"]);
    let mut child = run
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let passed = |world: &World| {
        world.tool.journal().is_some_and(|journal| {
            std::fs::read_to_string(journal).is_ok_and(|text| text.contains(r#""gate":"refused""#))
        })
    };
    while !passed(&world) {
        assert!(child.try_wait().expect("a child").is_none(), "it ended without a look");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    revive(&world);
    let ran = crate::tool::Ran::of(child.wait_with_output().expect("it ends"));
    (world, ran)
}

#[test]
fn a_quiet_watch_ends_done() {
    let (world, ran) = watched(|_| {});
    let ran = ran.expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
    let status = world.tool.status();
    let proved = time(&status["vantages"][0]["first_refused"]);
    let entered = time(&status["entered"]);
    assert!(proved >= entered);
}

/// Someone lets the old credential in again after it was proved dead.
#[test]
fn a_credential_that_works_again_while_it_is_watched_stops_the_run() {
    let (world, ran) = watched(|world| {
        let live = world.text("live");
        world.put("live", &format!("{live}{}\n", world.digest(OLD)));
    });
    assert_ne!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("old still accepted"), "{ran:?}");
    let text = world.tool.run(&["status"]).stdout;
    let row = text.lines().find(|line| line.starts_with("  pw, check 1")).unwrap_or_else(|| panic!("{text}"));
    assert!(row.contains("  accepted  "), "the place is named: {row}");
    assert_eq!(ran.stdout.matches("kill again").count(), 1, "the last kill is the one that counts: {ran:?}");
    let status = world.tool.status();
    assert_eq!(status["end"], serde_json::Value::Null, "{status}");
    let shown = world.tool.run(&["audit", "show"]).expect(0).stdout;
    assert!(shown.contains("gate refused: fail (check 1 accepts the old pw)"), "{shown}");
    let report = world.tool.run(&["report", "--json"]).expect(0).stdout;
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let named = report["vantages"][0]["accepted"]["to"].as_u64().expect("a record");
    let journal = std::fs::read_to_string(world.tool.journal().expect("a journal")).expect("text");
    let record = journal.lines().nth(usize::try_from(named).expect("small")).expect("a record");
    assert!(record.contains(r#""type":"let-in""#), "the number names another record: {record}");
    // Still accepted: resuming does not make it done.
    let ran = world.tool.run(&["resume"]);
    assert_ne!(ran.code, Some(0), "{ran:?}");
    // The kill is done once more, and proved.
    world
        .tool
        .run(&[
            "resolve",
            &world.tool.newest(),
            "revoke/pw/revoke",
            "--as",
            "not-applied",
            "--evidence",
            "it works again",
        ])
        .expect(0);
    let ran = world.tool.run(&["resume"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
    assert!(!world.text("live").contains(&world.digest(OLD)));
}
