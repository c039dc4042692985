//! Files as stores: many writers, what a file has besides its text, and what is known before `issue`.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    FlockOperation, IFlags, XattrFlags, flock, getxattr, ioctl_getflags, ioctl_setflags, setxattr,
};
use stanch::domain::{CheckVerdict, ErrorKind};
use stanch::kind::file::FileStore;
use stanch::provider::Store;
use stanch::provider::layout::Layout;
use stanch::runbook::model::FileFormat;
use stanch::secret::{Material, Secret};

use crate::servers::{context, failures};

fn value(text: &str) -> Material {
    Material::single("value", Secret::new(text))
}

fn store(path: &Path, format: FileFormat, key: &str) -> FileStore {
    let layout = Layout::new(&["value"], None, &BTreeMap::new()).expect("layout");
    let key = (format != FileFormat::Text).then(|| key.to_owned());
    FileStore::new(path, format, key, layout).expect("store")
}

fn put(path: &Path, text: &str) {
    let mut file = File::create(path).expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("write");
    file.set_permissions(std::fs::Permissions::from_mode(0o640)).expect("mode");
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).expect("text")
}

async fn refusal(store: &FileStore) -> String {
    let checks = store.preflight().await;
    let failed = failures(&checks);
    assert_eq!(failed.len(), 1, "{checks:?}");
    failed[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn steps_on_one_file_lose_no_update_there_and_back() {
    let folder = tempfile::tempdir().expect("folder");
    let (path, link) = (folder.path().join("app.env"), folder.path().join("link.env"));
    symlink(&path, &link).expect("link");
    let keys: Vec<String> = (0..12).map(|n| format!("KEY{n}")).collect();
    let before: String = keys.iter().map(|key| format!("{key}=old{key}\n")).collect();
    put(&path, &before);
    for round in [("old", "new"), ("new", "old")] {
        let mut steps = tokio::task::JoinSet::new();
        for (n, key) in keys.iter().enumerate() {
            let store = Arc::new(store(if n % 2 == 0 { &path } else { &link }, FileFormat::Dotenv, key));
            let (from, to) = (value(&format!("{}{key}", round.0)), value(&format!("{}{key}", round.1)));
            steps.spawn(async move { store.promote(&context(), &to, &from, None).await });
        }
        while let Some(step) = steps.join_next().await {
            step.expect("no panic").expect("promote");
        }
        assert_eq!(text(&path), before.replace("=old", &format!("={}", round.1)));
    }
}

#[tokio::test]
async fn another_writer_of_another_key_is_no_conflict_and_a_third_value_is() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("app.yaml");
    put(&path, "a: 1\npw: old # x\n");
    let store = store(&path, FileFormat::Yaml, "pw");
    let done = store.promote(&context(), &value("new: #1"), &value("old"), None).await.expect("promote");
    put(&path, &text(&path).replace("a: 1", "a: 012\nb: 0x1F"));
    let back = store.promote(&context(), &value("old"), &value("new: #1"), done.was.as_deref()).await;
    back.expect("another key is no matter");
    // Quoted for a while, and now as it was.
    assert_eq!(text(&path), "a: 012\nb: 0x1F\npw: old # x\n");

    put(&path, "pw: hunter2\n");
    let error = store.promote(&context(), &value("new"), &value("old"), None).await.expect_err("third");
    assert_eq!((error.kind, error.in_doubt), (ErrorKind::Conflict, false));
    assert!(error.message.contains("third value") && !format!("{error:?}").contains("hunter2"), "{error:?}");
    assert_eq!(text(&path), "pw: hunter2\n");
}

#[tokio::test]
async fn the_way_back_gives_the_same_bytes_whatever_the_new_value_needs() {
    let folder = tempfile::tempdir().expect("folder");
    for (format, before) in [
        (FileFormat::Dotenv, "PW=old\n"),
        (FileFormat::Dotenv, "PW='old'\r\n"),
        (FileFormat::Dotenv, "A=1 # x\nPW=\"old\""),
        (FileFormat::Yaml, "PW: 12345\n"),
        (FileFormat::Yaml, "PW: 'old'\n"),
        (FileFormat::Yaml, "{\"PW\": \"old\"}"),
        (FileFormat::Json, "{\"PW\" : 12345 }"),
        (FileFormat::Text, "old"),
    ] {
        let path = folder.path().join("f");
        put(&path, before);
        let store = store(&path, format, "PW");
        if before.contains('\r') {
            assert!(refusal(&store).await.contains("carriage return"));
            continue;
        }
        assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
        let old = store.read(None).await.expect("read");
        for new in ["plain", "it's #1: {", "012", "two words"] {
            let done = store.promote(&context(), &value(new), &old, None).await.expect("promote");
            assert!(store.read(None).await.expect("read").same_as(&value(new)));
            assert_eq!(store.observe().await.expect("observe").current, Some(done.version));
            let was = done.was.expect("it changed");
            store.promote(&context(), &old, &value(new), Some(&was)).await.expect("back");
            assert_eq!(text(&path), before);
        }
    }
}

#[tokio::test]
async fn several_parts_in_one_text_leave_the_rest_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("key.json");
    let parts: &[&str] = &["access_key_id", "secret_access_key"];
    let layout = Layout::new(parts, None, &BTreeMap::new()).expect("layout");
    let store = FileStore::new(&path, FileFormat::Text, None, layout).expect("store");
    let before =
        "{\"region\": \"eu\", \"access_key_id\": \"AKIA1\",\n \"n\": 1.10, \"secret_access_key\": \"s/1\"}\n";
    put(&path, before);
    assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
    let old = store.read(None).await.expect("read");
    let new =
        Material::single("access_key_id", Secret::new("AKIA2")).with("secret_access_key", Secret::new("s2"));
    store.promote(&context(), &new, &old, None).await.expect("promote");
    assert_eq!(text(&path), before.replace("AKIA1", "AKIA2").replace("s/1", "s2"));
    store.promote(&context(), &old, &new, None).await.expect("back");
    assert_eq!(text(&path), before);
}

/// Entries of an access control list as Linux keeps them: tag, rights, id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn attribute(path: &Path, name: &CStr) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(4096);
    getxattr(path, name, spare_capacity(&mut value)).ok().map(|_| value)
}

#[tokio::test]
async fn what_a_file_has_besides_its_text_is_kept() {
    const NONE: u32 = u32::MAX;
    const ACCESS: &CStr = c"system.posix_acl_access";
    let folder = tempfile::tempdir().expect("folder");
    let (listed, plain) = (folder.path().join("listed"), folder.path().join("plain"));
    put(&listed, "old\n");
    put(&plain, "old\n");
    // The owner rw, user 65534 r, the group nothing, mask r, others nothing.
    let list = acl(&[(1, 6, NONE), (2, 4, 65534), (4, 0, NONE), (16, 4, NONE), (32, 0, NONE)]);
    if setxattr(&listed, ACCESS, &list, XattrFlags::empty()).is_err() {
        return; // A file system without such lists.
    }
    setxattr(&listed, c"user.note", b"kept", XattrFlags::empty()).expect("attribute");
    // What the folder hands down to new files lets user 65534 write.
    let handed = acl(&[(1, 7, NONE), (2, 6, 65534), (4, 7, NONE), (16, 7, NONE), (32, 0, NONE)]);
    setxattr(folder.path(), c"system.posix_acl_default", &handed, XattrFlags::empty()).expect("default list");
    for path in [&listed, &plain] {
        let seen = || {
            (
                path.metadata().expect("metadata").mode(),
                attribute(path, ACCESS),
                attribute(path, c"user.note"),
            )
        };
        let was = seen();
        let store = store(path, FileFormat::Text, "");
        assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
        store.promote(&context(), &value("new"), &value("old"), None).await.expect("promote");
        assert_eq!(text(path), "new\n");
        assert_eq!(seen(), was);
    }
}

#[tokio::test]
async fn the_flags_of_a_file_are_kept_and_none_is_handed_down() {
    let folder = tempfile::tempdir().expect("folder");
    let (flagged, plain) = (folder.path().join("flagged"), folder.path().join("plain"));
    let flags = |path: &Path| ioctl_getflags(File::open(path).expect("open"));
    for path in [&flagged, &plain] {
        put(path, "old\n");
    }
    let Ok(bare) = flags(&flagged) else { return }; // A file system without flags.
    let some = IFlags::NODUMP | IFlags::NOATIME | IFlags::SYNC | IFlags::SECURE_REMOVAL;
    if ioctl_setflags(File::open(&flagged).expect("open"), bare | some).is_err() {
        return; // One without these.
    }
    let handed = flags(folder.path()).expect("flags") | IFlags::NODUMP;
    ioctl_setflags(File::open(folder.path()).expect("open"), handed).expect("flags");
    for path in [&flagged, &plain] {
        let was = flags(path).expect("flags");
        let store = store(path, FileFormat::Text, "");
        assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
        store.promote(&context(), &value("new"), &value("old"), None).await.expect("promote");
        assert_eq!(text(path), "new\n");
        assert_eq!(flags(path).expect("flags"), was, "{}", path.display());
    }
    assert!(flags(&flagged).expect("flags").contains(some));
}

#[tokio::test]
async fn what_cannot_be_replaced_is_found_before_anything_is_issued() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("f");
    for (format, content, why) in [
        (FileFormat::Dotenv, "PW=\n", "empty"),
        (FileFormat::Text, "\n", "empty"),
        (FileFormat::Text, "hunter2 \n", "cannot be seen"),
        (FileFormat::Text, "hunter2\n\n", "cannot be seen"),
        (FileFormat::Text, "\u{feff}hunter2\n", "byte order mark"),
        (FileFormat::Json, "{\"PW\": \"hunter\\/2\"}", "could not restore"),
        (FileFormat::Yaml, "PW: hunter2\n  x\n", "could not restore"),
        (FileFormat::Yaml, "PW: |\n  hunter2\n", "block text"),
    ] {
        put(&path, content);
        let said = refusal(&store(&path, format, "PW")).await;
        assert!(said.contains(why) && !said.contains("hunter"), "{said}");
        assert_eq!(text(&path), content);
    }
    put(&path, "old\n");
    let inode = path.metadata().expect("metadata").ino();
    let store = store(&path, FileFormat::Text, "");
    assert_eq!(failures(&store.preflight().await), Vec::<String>::new());
    assert_eq!(path.metadata().expect("metadata").ino(), inode, "a trial leaves the file alone");
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 1, "and nothing beside it");

    let file = File::open(&path).expect("open");
    // Needs the right to set it, and a file system that has it.
    if ioctl_setflags(&file, IFlags::IMMUTABLE).is_ok() {
        let said = refusal(&store).await;
        ioctl_setflags(&file, IFlags::empty()).expect("flags");
        assert!(said.contains("immutable"), "{said}");
    }
    std::fs::hard_link(&path, folder.path().join("other")).expect("link");
    let warned = store.preflight().await;
    assert!(warned[0].verdict == CheckVerdict::Warn && warned[0].detail.contains("hard links"), "{warned:?}");
}

#[tokio::test]
async fn a_pipe_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    let store = store(&path, FileFormat::Text, "");
    let looked = tokio::time::timeout(std::time::Duration::from_secs(5), store.observe()).await;
    assert!(looked.expect("in time").is_err());
    assert!(refusal(&store).await.contains("not a regular file"));
}

#[tokio::test]
async fn leftovers_of_a_killed_run_are_removed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("f");
    put(&path, "old\n");
    let beside = |name: &str| folder.path().join(name);
    for name in [".stanch-aB3dE6", ".stanch-inUse1", ".stanch-notes.md", ".stanch-", "stanch-aB3dE6"] {
        put(&beside(name), "left\n");
    }
    std::fs::create_dir(beside(".stanch-folder")).expect("folder");
    symlink(&path, beside(".stanch-linked")).expect("link");
    let in_use = File::open(beside(".stanch-inUse1")).expect("open");
    flock(&in_use, FlockOperation::NonBlockingLockExclusive).expect("lock");
    let left = || {
        let names =
            std::fs::read_dir(folder.path()).expect("folder").map(|entry| entry.expect("entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    store(&path, FileFormat::Text, "").observe().await.expect("observe");
    let expected = [
        ".stanch-",
        ".stanch-folder",
        ".stanch-inUse1",
        ".stanch-linked",
        ".stanch-notes.md",
        "f",
        "stanch-aB3dE6",
    ];
    assert_eq!(left(), expected);
}

#[tokio::test]
async fn a_place_is_what_a_path_leads_to() {
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path().canonicalize().expect("path");
    let path = root.join("app.env");
    put(&path, "PW=old\n");
    std::fs::create_dir(root.join("x")).expect("folder");
    symlink("app.env", root.join("link.env")).expect("link");
    for spelt in ["./app.env", "x/../app.env", "link.env", "x/..//./link.env"] {
        let place = store(&root.join(spelt), FileFormat::Dotenv, "PW").place().await.expect("place");
        assert_eq!(place, format!("file {}", path.display()));
    }
    assert_eq!(
        store(&root.join("no"), FileFormat::Text, "").place().await.expect_err("none").kind,
        ErrorKind::NotFound
    );
}

/// A runbook whose store is the file that a link names, in steps that can be ended and taken up.
fn linked(tool: &crate::tool::Tool) -> String {
    let link = tool.folder.path().join("current.env");
    let text = format!(
        "version: 1\nname: linked\nenvironments: {{ test: {{}} }}\ncredentials:\n  pw:\n    issuer: {{ type: random }}\n    \
         stores: [{{ type: file, path: \"{}\", format: dotenv, key: PW }}]\n    \
         accepts: [{{ exec: [\"true\"] }}]\n    rejects: [{{ exec: [\"false\"] }}]\n\
         phases:\n  verify: {{ times: 1, every: 0s }}\n  proof: {{ times: 1, every: 0s }}\n",
        link.display()
    );
    tool.runbook(&text).display().to_string()
}

#[test]
fn a_link_that_is_moved_while_the_run_is_open_is_not_followed_there_or_back() {
    let tool = crate::tool::Tool::new();
    let at = |name: &str| tool.folder.path().join(name);
    let lead_to = |name: &str| {
        let _ = std::fs::remove_file(at("current.env"));
        symlink(name, at("current.env")).expect("link");
    };
    put(&at("one.env"), "PW=oldvalue\n");
    put(&at("two.env"), "PW=oldvalue\n");
    lead_to("one.env");
    let path = linked(&tool);
    tool.run(&["run", &path, "--env", "test", "--yes", "--until", "verify"]).expect(0);
    let refused = |go: &[&str]| {
        lead_to("two.env");
        let ran = tool.run(go);
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains("when the plan was made") && said.contains("stanch resume"), "{ran:?}");
        assert_eq!(text(&at("two.env")), "PW=oldvalue\n", "another run may hold it");
        lead_to("one.env");
        ran.code
    };
    assert_eq!(refused(&["resume", "--until", "cutover"]), Some(10));
    assert_eq!(text(&at("one.env")), "PW=oldvalue\n");
    tool.run(&["resume", "--until", "cutover"]).expect(0);
    let new = text(&at("one.env"));
    assert_ne!(new, "PW=oldvalue\n");
    assert_eq!(refused(&["rollback", "--yes"]), Some(14));
    assert_eq!(text(&at("one.env")), new);
    let ran = tool.run(&["resume"]);
    assert_eq!(text(&at("one.env")), "PW=oldvalue\n", "{ran:?}");
}

/// Its issuer keeps no list and says of no credential whether it lives: there is nothing that stanch could have
/// seen of a second one, and nothing to warn of.
#[test]
fn a_generated_value_is_rolled_back_without_a_warning_about_a_second_one() {
    let tool = crate::tool::Tool::new();
    put(&tool.folder.path().join("one.env"), "PW=oldvalue\n");
    symlink("one.env", tool.folder.path().join("current.env")).expect("link");
    tool.run(&["run", &linked(&tool), "--env", "test", "--yes", "--until", "cutover"]).expect(0);
    let ran = tool.run(&["rollback", "--yes"]).expect(0);
    assert_eq!(text(&tool.folder.path().join("one.env")), "PW=oldvalue\n");
    let journal = std::fs::read_to_string(tool.journal().expect("a journal")).expect("journal");
    for said in [&ran.stdout, &ran.stderr, &journal] {
        assert!(!said.contains("cannot see") && !said.contains("leftovers"), "{said}");
    }
}

/// Where this user may mount: a file that is seen through a bind mount is one place.
#[test]
fn a_file_behind_a_bind_mount_is_held_by_its_one_name() {
    let tool = crate::tool::Tool::new();
    let at = |name: &str| tool.folder.path().join(name).display().to_string();
    for folder in ["m1", "m2"] {
        std::fs::create_dir(at(folder)).expect("folder");
    }
    put(Path::new(&at("m1/f")), "PW=oldvalue\n");
    symlink("m1/f", at("current.env")).expect("link");
    let first = linked(&tool);
    let text = std::fs::read_to_string(&first).expect("runbook");
    let second = format!("{first}.second.yaml");
    put(Path::new(&second), &text.replace("name: linked", "name: second").replace("current.env", "m2/f"));
    let mut shell = std::process::Command::new("unshare");
    let program = tool.command(&[]);
    let inner = r#"mount --bind "$0" "$1" || exit 99
        "$2" run "$3" --env test --yes --until cutover || exit 98
        "$2" run "$4" --env test --yes --until cutover"#;
    shell.args(["-m", "sh", "-c", inner]).arg(at("m1")).arg(at("m2")).arg(program.get_program());
    shell.args([&first, &second]).env_clear();
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = shell.output().expect("unshare");
    let said = String::from_utf8_lossy(&ran.stderr);
    match ran.status.code() {
        // Not every user and not every container may mount.
        Some(1 | 99) if said.contains("unshare") || said.contains("mount:") => {}
        code => assert!(code == Some(21) && said.contains(&at("m1/f")), "{code:?} {said}"),
    }
}
