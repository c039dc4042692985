//! An authority that keeps one value: issuing the new one is the kill, and setting the old one again is the way back.

use crate::ending::{OLD, World};
use crate::tool::Ran;

/// An authority whose `apply` replaces what it knows, and which is told in no other way.
fn world() -> World {
    let world = World::dotenv();
    world.script("apply", "echo $h > live\n");
    let folder = world.tool.folder.path().display().to_string();
    world.edit(&format!(", revoke: {{ exec: [sh, {folder}/revoke] }}"), "");
    world.edit("credentials:", "strategy: contain\ncredentials:");
    world.edit("{ test: {} }", "{ test: {}, sandbox: {} }");
    world
}

fn run(world: &World, more: &[&str]) -> Ran {
    let path = world.path("runbook.yaml").display().to_string();
    world.tool.run(&[&["run", &path, "--yes", "--reason", "a test"], more].concat())
}

fn is_as_before(world: &World) {
    let digest = world.digest(OLD);
    assert_eq!(world.text("live").trim(), digest, "the authority accepts the old value");
    assert!(world.text("store").contains(OLD), "the store holds the old value");
    assert_eq!(world.text("web").trim(), digest, "the consumer uses the old value");
}

#[test]
fn the_plan_says_that_issuing_is_the_kill() {
    let world = world();
    let path = world.path("runbook.yaml").display().to_string();
    let plan = world.tool.run(&["plan", &path, "--env", "test"]).expect(0).stdout;
    assert!(plan.contains("issue a new pw, which replaces the old one at its issuer"), "{plan}");
    assert!(plan.contains("↶ set the old one again"), "{plan}");
    assert!(!plan.contains("unlimited"), "{plan}");

    world.edit("strategy: contain\n", "");
    let refused = world.tool.run(&["plan", &path, "--env", "test"]).expect(1);
    assert!(refused.stderr.contains("keeps only one value"), "{refused:?}");
}

#[test]
fn it_ends_done_with_a_proof() {
    let world = world();
    let ran = run(&world, &["--env", "test"]).expect(0);
    assert!(ran.stdout.contains("old dead, proved by use"), "{ran:?}");
    assert!(!world.text("live").contains(&world.digest(OLD)), "{}", world.text("live"));
    assert_eq!(world.text("live"), world.text("web"));

    // And in practice.
    let world = self::world();
    run(&world, &["--env", "sandbox"]).expect(0);
    is_as_before(&world);
}

#[test]
fn the_way_back_sets_the_old_value_again() {
    for until in ["prepare", "verify", "cutover"] {
        let world = world();
        let paused = run(&world, &["--env", "test", "--until", until]).expect(0);
        assert!(paused.stdout.contains("old replaced at its issuer, not proved dead yet"), "{paused:?}");
        let back = world.tool.run(&["rollback", "--yes"]).expect(0);
        assert!(back.stdout.contains("old still accepted"), "{until}: {back:?}");
        is_as_before(&world);
    }
}

/// What was set again and is not accepted is no rollback: the run says what to look at and goes on once that is settled.
#[test]
fn a_way_back_that_has_no_effect_is_no_rollback() {
    let world = world();
    run(&world, &["--env", "test", "--until", "cutover"]).expect(0);
    world.script("apply", "exit 0\n");
    let stuck = world.tool.run(&["rollback", "--yes"]);
    assert!(!matches!(stuck.code, Some(0 | 1)), "{stuck:?}");
    let text = format!("{}{}", stuck.stdout, stuck.stderr);
    assert!(text.contains("the old pw was set again at its issuer, but is not accepted"), "{text}");
    assert!(!world.text("live").contains(&world.digest(OLD)));

    let step = "prepare/pw/issue";
    world.script("apply", "echo $h > live\n");
    let run = world.tool.newest();
    world
        .tool
        .run(&["resolve", &run, step, "--as", "not-applied", "--evidence", "the authority was asked"])
        .expect(0);
    world.tool.run(&["rollback", "--yes"]).expect(0);
    is_as_before(&world);
}

/// An authority that says that it keeps one value, and keeps both.
#[test]
fn an_authority_that_keeps_the_old_one_after_all_never_ends_done() {
    let world = world();
    world.script("apply", "echo $h >> live\n");
    world.edit("at_most: 10s", "at_most: 1s");
    let ran = run(&world, &["--env", "test"]);
    assert!(!matches!(ran.code, Some(0)), "{ran:?}");
    assert!(ran.stderr.contains("still accepted by check 1"), "{ran:?}");
    assert!(!ran.stdout.contains("old dead"), "{ran:?}");
}

/// Going back by itself would give the attacker the old value again: a person decides.
#[test]
fn what_was_replaced_under_contain_is_not_set_again_by_itself() {
    let world = world();
    world.script("apply", "echo other > live\n");
    let ran = run(&world, &["--env", "test"]);
    assert!(!matches!(ran.code, Some(0 | 1 | 12)), "{ran:?}");
    assert_eq!(world.text("live").trim(), "other", "the old value was not set again: {ran:?}");
}

/// An authority that keeps the new value as well has not rolled back.
#[test]
fn a_way_back_that_leaves_the_new_value_valid_is_no_rollback() {
    let world = world();
    world.script("apply", "echo $h >> live\n");
    run(&world, &["--env", "test", "--until", "cutover"]).expect(0);
    let back = world.tool.run(&["rollback", "--yes"]);
    assert!(!matches!(back.code, Some(0 | 1)), "{back:?}");
    let text = format!("{}{}", back.stdout, back.stderr);
    assert!(text.contains("which still accepts the new one"), "{text}");
}
