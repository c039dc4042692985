use super::*;

/// Changes a value, and changes it back in the spelling that it had.
fn change(format: FileFormat, key: &str, text: &str, value: &str) -> Result<String, CallError> {
    let document = Document::new(format, Some(key), text);
    let (old, spelling) = document.value()?;
    let changed = document.with_value(&Secret::new(value), None)?;
    let there = Document::new(format, Some(key), changed.expose());
    assert_eq!(there.value().expect("read").0.expose(), value, "it is read back");
    let back = there.with_value(&old, Some(spelling)).expect("the way back");
    assert_eq!(back.expose(), text, "the way back gives the same bytes");
    Ok(changed.expose().to_owned())
}

fn refused(format: FileFormat, key: &str, text: &str, why: &str) {
    let error = change(format, key, text, "new").expect_err(text);
    assert!(error.message.contains(why), "{text:?}: {error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "it quotes the text");
}

#[test]
fn yaml_keeps_comments_and_layout() {
    let text = "# top\ndb:   # here\n  user: app\n  password: 'old'   # rotate me\n  list: [1, {k: v}]\n";
    assert_eq!(
        change(FileFormat::Yaml, "/db/password", text, "n\"ew: #x").expect("change"),
        text.replace("'old'", "'n\"ew: #x'")
    );
    assert_eq!(
        change(FileFormat::Yaml, "/db/list/1/k", text, "w").expect("change"),
        text.replace("k: v", "k: w")
    );
    for value in ["w, x: y}", "yes", "012", "#x", "*x", "- x", "two\nlines", "x ", "it's"] {
        change(FileFormat::Yaml, "/db/list/1/k", text, value).expect("change");
    }
    for value in ["a]}", "a|b", "a:b", "!a"] {
        let changed = change(FileFormat::Yaml, "pw", "pw: old\n", value).expect("change");
        assert_eq!(changed, format!("pw: '{value}'\n"), "quoted for readers that are stricter");
    }
    // Numbers, order, doubled neighbours and merges elsewhere are bytes.
    let text = "é: ü\nn: 12345678901234567890123\nb: &b {p: 1.10}\nm: *b\nk: {<<: *b, a: 1, a: 2}\ntoken: abc\nz: !x 0x1F\n";
    assert_eq!(change(FileFormat::Yaml, "token", text, "yes").expect("change"), text.replace("abc", "'yes'"));
    let pin = "pin: 123456 # six\n";
    assert_eq!(change(FileFormat::Yaml, "pin", pin, "654321").expect("change"), "pin: 654321 # six\n");
    let text = "pin: six # digits\n";
    assert_eq!(change(FileFormat::Yaml, "pin", text, "654321").expect("change"), "pin: '654321' # digits\n");
}

#[test]
fn yaml_that_readers_differ_on_is_refused() {
    for plain in [
        "012345",
        "1e3",
        "12345678901234567890123",
        "1.10",
        "0x1F",
        "0o17",
        "0b1",
        "-5",
        "+5",
        ".5",
        "1_000",
        "1:30",
        "190:20:30.15",
        "2026-01-02",
        "2001-12-14t21:59:43.10-05:00",
        "yes",
        "No",
        "ON",
        "~",
        "null",
        "true",
        ".inf",
        "-.INF",
        ".NaN",
        "y",
    ] {
        refused(FileFormat::Yaml, "pw", &format!("pw: {plain}\n"), "differ");
    }
    for plain in [
        "12e4x",
        "0xyz",
        "v1.10",
        "1-a",
        "a1e3",
        "1password",
        "null0",
        "it's",
        "0a1b2c3d-0000-4000-8000-000000000000",
    ] {
        change(FileFormat::Yaml, "pw", &format!("pw: {plain}\n"), "new").expect(plain);
    }
    refused(FileFormat::Yaml, "pw", "pw: hunter2\npw: hunter2\n", "twice");
    refused(FileFormat::Yaml, "/a/pw", "a: {pw: hunter2}\na: {pw: x}\n", "twice");
    for (one, other) in [
        ("true", "yes"),
        ("on", "TRUE"),
        ("true", "1"),
        ("no", "false"),
        ("null", "~"),
        ("1", "0x1"),
        ("1", "+1"),
        ("1", "1.0"),
        ("1", "01"),
        ("8", "010"),
        ("10", "1_0"),
        ("90", "1:30"),
        ("15", "0o17"),
    ] {
        for (one, other) in [(one, other), (other, one)] {
            let key = format!("/{one}");
            refused(FileFormat::Yaml, &key, &format!("? {one}\n: hunter2\n? {other}\n: x\n"), "the same key");
            refused(FileFormat::Yaml, &key, &format!("? {other}\n: x\n? {one}\n: hunter2\n"), "the same key");
        }
        refused(
            FileFormat::Yaml,
            &format!("/{one}/a"),
            &format!("{one}: {{a: hunter2}}\n{other}: {{}}\n"),
            "the same key",
        );
    }
    for (one, other) in
        [("true", "'yes'"), ("1", "2"), ("1", "'0x1'"), ("a", "b"), ("x1", "x01"), ("1", "1.0.0")]
    {
        change(FileFormat::Yaml, &format!("/{one}"), &format!("{one}: old\n{other}: x\n"), "new")
            .expect(other);
    }
    change(FileFormat::Yaml, "/a/true", "a: {true: old}\nyes: x\n", "new").expect("in another mapping");
    refused(FileFormat::Yaml, "pw", "pw: !!str hunter2\n", "tag");
    refused(FileFormat::Yaml, "/a/pw", "a: !vault {pw: hunter2}\n", "tag");
    refused(FileFormat::Yaml, "pw", "pw: &x hunter2\nb: *x\n", "anchor");
    refused(FileFormat::Yaml, "/a/pw", "a: &x {pw: hunter2}\nb: *x\n", "anchor");
    refused(FileFormat::Yaml, "/b/pw", "a: &x {pw: hunter2}\nb: *x\n", "anchor");
    refused(FileFormat::Yaml, "pw", "pw: |\n  hunter2\nz: 1\n", "block");
    refused(FileFormat::Yaml, "pw", "pw: [hunter2]\n", "not a single value");
    refused(FileFormat::Yaml, "pw", "pw: hunter2\n---\npw: hunter2\n", "more than one YAML document");
    refused(FileFormat::Yaml, "pw", "\u{feff}pw: hunter2\n", "byte order mark");
    refused(FileFormat::Yaml, "pw", "b: 1\n", "there is no `pw`");
    refused(FileFormat::Yaml, "pw", "q: &k pw\npw: hunter2\n*k : x\n", "twice");
    refused(FileFormat::Yaml, "/a/pw", "q: &k a\na: {pw: hunter2}\n*k : {pw: x}\n", "twice");
    change(FileFormat::Yaml, "pw", "q: &k other\npw: old\n*k : x\n", "new").expect("another key");
    for other in ['\u{85}', '\u{2028}', '\u{2029}'] {
        refused(FileFormat::Yaml, "pw", &format!("pw: hunter2\n# c{other}pw: x\n"), "ends a line");
        refused(FileFormat::Yaml, "pw", &format!("pw: hunter2\nb: x{other}pw\n"), "ends a line");
        refused(FileFormat::Yaml, "pw", &format!("pw: 'hunter2{other}x'\n"), "ends a line");
        change(FileFormat::Yaml, "pw", &format!("pw: old\nb: 'ü{other}x'\n"), "new").expect("in quotes");
    }
    let deep = format!("pw: hunter2\nd: {}{}\n", "[".repeat(5000), "]".repeat(5000));
    refused(FileFormat::Yaml, "pw", &deep, "nested too deeply");
    let deep = format!("pw: old\nd: {}{}\n", "[".repeat(200), "]".repeat(200));
    change(FileFormat::Yaml, "pw", &deep, "new").expect("200 levels");
}

#[test]
fn json_keeps_its_layout() {
    let text = "{\n\t\"a\": {\"b/c\": \"old\", \"n\": 1.50, \"x\": [1, \"y\"], \"n\": -0}, \"pin\": 1234\n}";
    let changed = change(FileFormat::Json, "/a/b~1c", text, "ne\\w\n").expect("change");
    assert_eq!(changed, text.replace(r#""old""#, r#""ne\\w\n""#));
    assert_eq!(
        change(FileFormat::Json, "/a/x/1", text, "z").expect("change"),
        text.replace("\"y\"", "\"z\"")
    );
    assert_eq!(change(FileFormat::Json, "pin", text, "5678").expect("change"), text.replace("1234", "5678"));
    assert_eq!(change(FileFormat::Json, "pin", text, "5x").expect("change"), text.replace("1234", "\"5x\""));
    refused(FileFormat::Json, "a", "{a: 1}", "not valid JSON");
    refused(FileFormat::Json, "a", "{\"a\": 1.0}", "neither a string nor a whole number");
    refused(FileFormat::Json, "a", "{\"a\": true}", "neither a string nor a whole number");
    refused(FileFormat::Json, "a", r#"{"a": "hunter2", "\u0061": "x"}"#, "twice");
    refused(FileFormat::Json, "/a/b", r#"{"a": {"b": "hunter2"}, "a": {"b": "x"}}"#, "twice");
    refused(FileFormat::Json, "/a/b", r#"{"a": "hunter2"}"#, "there is no field");
    let deep = format!("{{\"pw\":\"x\",\"d\":{}{}}}", "[".repeat(300), "]".repeat(300));
    change(FileFormat::Json, "pw", &deep, "new").expect("300 levels");
}

#[test]
fn dotenv_values_survive_their_quoting() {
    let text = "A=1 # keep\nexport  PW = 'old'\n#PW=no\nB=\"2\"\r\n";
    for value in ["new", "a b", "it's", "d$ollar`", "two\nlines", "#hash", "ünï", "it's\ntwo", "q\"uote"] {
        let changed = change(FileFormat::Dotenv, "PW", text, value).expect("change");
        assert!(
            changed.starts_with("A=1 # keep\nexport  PW = ") && changed.ends_with("\n#PW=no\nB=\"2\"\r\n"),
            "{changed}"
        );
    }
    for value in ["n'e\"w", "q\"uote\\", "it's $5", "${X}", "a\rb"] {
        let error = change(FileFormat::Dotenv, "PW", text, value).expect_err(value);
        assert_eq!(error.kind, ErrorKind::Unsupported, "{value}: readers would differ on it");
    }
    for bare in ["a.b:c/d-e_f@g%h+i,j=k==", "ünï", "a!b", "a*b?[c]", "a^b", "{a}", "a~b"] {
        change(FileFormat::Dotenv, "PW", &format!("PW={bare}\n"), "new").expect(bare);
    }
    for quoted in
        ["'a b'", "\"a b\"", "'pa$$word'", "\"it's\"", "'say \"x\"'", "'a#b'", "\"a\nb\"", "'a\nPW=b'"]
    {
        change(FileFormat::Dotenv, "PW", &format!("A=1\nPW={quoted}\nB=2"), "new").expect(quoted);
    }
}

#[test]
fn quotes_span_lines_in_dotenv() {
    for cert in [
        "CERT=\"begin\nPW=inside\nend\"\n",
        "CERT='begin\nPW=inside\nend' # PW=x\n",
        "export CERT=\"be\\\"gin\nPW=inside\n'end\"\n",
        "# it's\nCERT='\nPW=inside\n'\nCERT2=\"\nPW=inside\"\n",
    ] {
        refused(FileFormat::Dotenv, "PW", cert, "there is no `PW`");
        let text = format!("{cert}PW=real\n");
        assert_eq!(
            change(FileFormat::Dotenv, "PW", &text, "new").expect("change"),
            format!("{cert}PW=new\n")
        );
        let text = format!("PW=real\n{cert}");
        assert_eq!(
            change(FileFormat::Dotenv, "PW", &text, "new").expect("change"),
            format!("PW=new\n{cert}")
        );
    }
    // A shell sees a quote inside of a word, and a backslash before the end of a line; libraries do not.
    refused(FileFormat::Dotenv, "PW", "A=it's\nPW=hunter2\nB=it's\n", "differ on where");
    refused(FileFormat::Dotenv, "PW", "A=it's fine\nPW=hunter2\n", "differ on where");
    refused(FileFormat::Dotenv, "PW", "A=x\\\nPW=hunter2\n", "differ on where");
}

#[test]
fn dotenv_that_readers_differ_on_is_refused() {
    for (raw, why) in [
        ("$BASE-hunter2", "`$`"),
        ("\"$BASE-hunter2\"", "`$`"),
        ("'${BASE}-hunter2'", "`$`"),
        ("`hunter2`", "backtick"),
        ("hunter2\\ al", "backslash"),
        ("\"hun\\\"ter2\"", "backslash"),
        ("'hunter2\\'", "backslash"),
        ("\"hunter2\\n\"", "backslash"),
        ("\"hun\"\"ter2\"", "behind its quotes"),
        ("'hun'ter2", "behind its quotes"),
        ("hun'ter2", "differ on where"),
        ("hun'ter'2", "a quote"),
        ("'hunter2", "differ on where"),
        ("hunter2 x", "white space"),
        ("hunter2#x", "means something to a shell"),
        ("hunter2;x", "means something to a shell"),
        ("~hunter2", "means something to a shell"),
        ("hunter2:~/x", "means something to a shell"),
        (" hunter2", "followed by a space"),
        ("hunter2\r", "carriage return"),
        ("'hunter2'\r", "carriage return"),
    ] {
        refused(FileFormat::Dotenv, "PW", &format!("A=1\nPW={raw}\nB=2\n"), why);
    }
    refused(FileFormat::Dotenv, "PW", "PW=hunter2\nPW=x\n", "twice");
    for line in ["PW=hunter2 # keep", "PW='hunter2' # keep", "export PW=\"hunter2\"\t#", "PW=hunter2 # x\r"] {
        refused(FileFormat::Dotenv, "PW", &format!("{line}\nB=2\n"), "followed by a comment");
    }
    for braces in ["{hunter2,x}", "hunter{1..2}"] {
        refused(FileFormat::Dotenv, "PW", &format!("export PW={braces}\n"), "bash expands them");
        change(FileFormat::Dotenv, "PW", &format!("PW={braces}\n"), "new").expect(braces);
    }
    for other in [
        "export A=1 PW=x",
        "A=1 PW=x",
        "A=1; PW=x",
        "true && PW=x",
        "readonly PW=x",
        "declare -x PW=x",
        "typeset PW=x",
        "local PW=x",
        "PW+=x",
        "PW[0]=x",
        "if true; then PW=x; fi",
        "unset A PW",
        "read -r PW",
        "'PW'=q",
        "\"PW\"=q",
        "export 'PW=q'",
        "P\\W=q",
        "for PW in a; do :; done",
        "select PW in a; do break; done",
        "printf -v PW q",
        "printf -vPW q",
        "getopts a PW",
        "mapfile PW < /dev/null",
        "readarray -t PW < /dev/null",
        "eval \"PW=q\"",
        "eval 'export PW=q'",
        "trap 'PW=q' EXIT",
        "export -n PW",
        "declare +x PW",
        "declare -n A=PW",
        "((PW++))",
        "while read PW; do :; done < /dev/null",
        "PW: q",
    ] {
        refused(FileFormat::Dotenv, "PW", &format!("PW=hunter2\n{other}\n"), "in another form");
        refused(FileFormat::Dotenv, "PW", &format!("{other}\nPW=hunter2\n"), "in another form");
    }
    for harmless in [
        "# PW=x",
        "A=1 # PW=x",
        "A='x PW=y'",
        "A=http://h/?PW=x",
        "APW=x",
        "A_PW=x",
        "PWD=x",
        "A=\"$PW\"",
        "A=${PW}",
        "export PW",
        "readonly PW",
        "export A=PW",
        "A='it is PW'",
        "A=$PW-x",
        "A=it\\'s",
    ] {
        change(FileFormat::Dotenv, "PW", &format!("PW=old\n{harmless}\n"), "new").expect(harmless);
        change(FileFormat::Dotenv, "PW", &format!("{harmless}\nPW=old\n"), "new").expect(harmless);
    }
    for end in ["\r", "\r\r\n", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}"] {
        refused(FileFormat::Dotenv, "PW", &format!("PW=hunter2\n# c{end}PW=x\n"), "does not end a line");
    }
    refused(FileFormat::Dotenv, "PW", "\u{feff}PW=hunter2\n", "byte order mark");
    refused(FileFormat::Dotenv, "C", "A=1\n", "there is no `C`");
}

#[test]
fn a_spelling_that_cannot_come_back_shows_in_the_rehearsal() {
    for (format, text) in [
        (FileFormat::Json, r#"{"pw": "a\/b"}"#),
        (FileFormat::Json, r#"{"pw": "ol\u0064"}"#),
        (FileFormat::Yaml, "pw: \"ol\\x64\"\n"),
        (FileFormat::Yaml, "pw: \"ol\n  d\"\n"),
        (FileFormat::Yaml, "pw: ol\n  d\n"),
    ] {
        let document = Document::new(format, Some("pw"), text);
        let (old, spelling) = document.value().expect("read");
        let there = document.with_value(&Secret::new("new"), None).expect("change");
        let back = Document::new(format, Some("pw"), there.expose()).with_value(&old, Some(spelling));
        assert!(back.is_ok_and(|back| back.expose() != text), "{text}");
    }
}

#[test]
fn an_unclear_credential_is_refused() {
    let check = |value: &str| refuse_unclear(&Material::single("value", Secret::new(value)));
    for (value, why) in [
        ("", "empty"),
        (" \n", "empty"),
        ("\u{200b}", "empty"),
        ("hunter2 ", "cannot be seen"),
        ("\thunter2", "cannot be seen"),
        ("hunter2\r", "cannot be seen"),
        ("hunter2\u{a0}", "cannot be seen"),
        ("hunter2\u{200b}", "cannot be seen"),
        ("\u{feff}hunter2", "cannot be seen"),
        ("hun\0ter2", "control character"),
        ("${hunter2}", "reference"),
    ] {
        let error = check(value).expect_err(value);
        assert!(error.message.contains(why) && !format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    for value in [
        "x",
        "-----BEGIN KEY-----\nhunter2\n-----END KEY-----\n",
        "two\nlines",
        "a\tb",
        "ünï",
        "pa${x}y",
        "é",
    ] {
        check(value).expect(value);
    }
}

#[test]
fn errors_quote_nothing() {
    for format in [FileFormat::Json, FileFormat::Yaml, FileFormat::Dotenv] {
        let error = change(format, "a", "a: [hunter2\na='hunter2", "x").expect_err("malformed");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

/// What a shell reads, if it can read the file at all.
fn as_shell(text: &str) -> Option<String> {
    let mut file = tempfile::NamedTempFile::new().expect("file");
    std::io::Write::write_all(&mut file, text.as_bytes()).expect("write");
    let script = r#". "$0" 2>/dev/null; printf "%s." "$PW""#;
    let out = std::process::Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(file.path())
        .env_clear()
        .output()
        .expect("sh");
    let read = String::from_utf8(out.stdout).ok()?;
    out.status.success().then(|| read.strip_suffix('.').map(str::to_owned)).flatten()
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    /// What we take for the value is what a shell takes, before and after a change.
    #[test]
    fn a_shell_reads_what_we_read(
        before in "([A-C]=['\"]?[a#'\"\\\\ \n]{0,4}['\"]?\n)?",
        raw in "['\"]?[ab$'\"\\\\# ~;{}\n=]{0,6}['\"]?",
        new in "[ab$'\"\\\\# ~;{}\n=`]{1,6}",
    ) {
        let text = format!("{before}PW={raw}\nD=2\n");
        let document = Document::new(FileFormat::Dotenv, Some("PW"), &text);
        let Ok((value, _)) = document.value() else { return Ok(()) };
        let Some(read) = as_shell(&text) else { return Ok(()) };
        proptest::prop_assert_eq!(&read, value.expose(), "{:?}", text);
        if let Ok(changed) = document.with_value(&Secret::new(new.as_str()), None) {
            let read = as_shell(changed.expose());
            proptest::prop_assert_eq!(read.as_deref(), Some(new.as_str()), "{:?}", changed.expose());
        }
    }
}

/// OpenSSH does not read a private key without the newline at its end; of everything else, that is the editor's.
#[test]
fn a_text_in_pem_keeps_the_newline_at_its_end() {
    let pem = "-----BEGIN KEY-----\nAAAA\n-----END KEY-----";
    for (text, value) in [
        (format!("{pem}\n"), format!("{pem}\n")),
        (pem.to_owned(), pem.to_owned()),
        ("word\n".to_owned(), "word".to_owned()),
    ] {
        let document = Document::new(FileFormat::Text, None, &text);
        let (found, spelling) = document.value().expect("a value");
        assert_eq!(found.expose(), value);
        let new = Secret::new(format!("{pem}\n"));
        let changed = document.with_value(&new, None).expect("written");
        let there = Document::new(FileFormat::Text, None, changed.expose());
        assert_eq!(there.value().expect("a value").0.expose(), new.expose());
        let back = there.with_value(&found, Some(spelling)).expect("written");
        assert_eq!(back.expose().trim_end(), text.trim_end());
        assert!(value != new.expose() || back.expose() == text, "{back:?}");
    }
}

#[test]
fn what_a_server_echoes_is_not_shown() {
    let text = Secret::new(r#"{"pw":"hunter2-hunter2","n":1}"#);
    let said = super::strings(&text).scrub(r#"Value 'hunter2-hunter2' at 'value' is refused"#);
    assert!(!said.contains("hunter2"), "{said}");
}
