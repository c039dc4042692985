//! Which templates load, and which do not.
#![expect(clippy::disallowed_methods, reason = "a test writes what it likes")]

use super::*;

/// The findings of a file for an audience.
fn findings(audience: Audience, text: &str) -> Vec<Finding> {
    let mut templates = Templates { language: "xx".into(), environment: environment() };
    templates.add(audience, &Source { name: "x.txt".into(), text: text.into() })
}

#[test]
fn what_is_shipped_loads_in_every_language() {
    assert_eq!(INTERNAL.len(), 4, "every pattern compiles");
    let languages: Vec<Templates> =
        ["en", "de"].map(|language| Templates::load(language, None).expect("it loads")).into();
    for (audience, kind) in Audience::iter().flat_map(|a| MessageKind::iter().map(move |k| (a, k))) {
        let has: Vec<bool> = languages.iter().map(|templates| templates.has(audience, kind)).collect();
        assert_eq!(has[0], has[1], "{audience}/{kind} is there in each language");
        assert!(has[0] || audience != Audience::Technicians, "technicians hear everything: {kind}");
        for (templates, values) in
            languages.iter().flat_map(|t| Values::samples(audience).into_iter().map(move |v| (t, v)))
        {
            if let Some((title, text)) = templates.render(audience, kind, &values) {
                assert!(!title.is_empty() && title.len() < 200 && !text.is_empty(), "{title}\n{text}");
                assert!(!text.contains("\n\n\n"), "{text}");
            }
        }
    }
    assert!(matches!(Templates::load("fr", None), Err(TemplateError::NoSuchLanguage(_))));
}

#[test]
fn a_template_for_customers_cannot_name_what_is_internal() {
    for (text, code) in [
        ("== opened\nx {{ run }}\n", "unknown-variable"),
        ("== opened\nx {{ who }}\n", "unknown-variable"),
        ("== opened\nx {% for c in credentials %}{{ c.name }}{% endfor %}\n", "unknown-variable"),
        ("== opened\nx {{ environment }}\n", "unknown-variable"),
        ("== opened\nx {{ debug() }}\n", "unknown-variable"),
        ("== opened\n{{ service }} on db01.prod.internal\n", "internal"),
        ("== opened\n{{ service }} at 10.0.0.7\n", "internal"),
        ("== opened\n{{ service }}, see /var/lib/x\n", "internal"),
        ("== opened\nwrite to ann@example.com\n", "internal"),
        ("== drill\nx\n", "drill-to-customers"),
    ] {
        let found = findings(Audience::Customers, text);
        assert!(found.iter().any(|finding| finding.code == code && finding.at.line > 0), "{text}: {found:?}");
    }
    let text = "== opened\nWe work on {{ service }}, e.g. its keys and/or tokens, since 10:30 UTC.\n";
    assert_eq!(findings(Audience::Customers, text), []);
}

#[test]
fn a_mistake_has_its_place() {
    let text = "# comment\n== opened\ntitle\n{{ nothing }}\n== opened\nx\n== other\nx\n== sunset\n{% if %}\n== cutover\n";
    let found = findings(Audience::Technicians, text);
    let places: Vec<(&str, usize)> = found.iter().map(|finding| (finding.code, finding.at.line)).collect();
    let expected = [
        ("unknown-variable", 4),
        ("duplicate-key", 5),
        ("no-such-message", 7),
        ("template", 10),
        ("empty", 11),
    ];
    assert_eq!(places, expected, "{found:#?}");
}

#[test]
fn own_templates_replace_section_by_section() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("en")).expect("made");
    let path = folder.path().join("en/technicians.txt");
    std::fs::write(&path, "== opened\nOurs: {{ run }}\n").expect("written");
    let templates = Templates::load("en", Some(folder.path())).expect("it loads");
    let values = &Values::samples(Audience::Technicians)[0];
    let title = |kind| templates.render(Audience::Technicians, kind, values).expect("there").0;
    assert_eq!(title(MessageKind::Opened), "Ours: run");
    assert!(title(MessageKind::Proved).contains("proved dead"));
    std::fs::write(&path, "== opened\nOurs: {{ rum }}\n").expect("written");
    let error = Templates::load("en", Some(folder.path())).expect_err("a mistake");
    assert!(matches!(error, TemplateError::Unusable(unusable) if unusable.findings.len() == 1));
    let none = folder.path().join("none");
    let error = Templates::load("en", Some(&none)).expect_err("no directory");
    assert!(matches!(error, TemplateError::NoDirectory(path) if path == none));
}

#[test]
fn a_carriage_return_is_part_of_the_line_end() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("en")).expect("made");
    std::fs::write(
        folder.path().join("en/technicians.txt"),
        "# ours\r\n\r\n== opened\r\nOurs\r\none\r\ntwo\r\n",
    )
    .expect("written");
    let templates = Templates::load("en", Some(folder.path())).expect("it loads");
    let values = &Values::samples(Audience::Technicians)[0];
    let said = templates.render(Audience::Technicians, MessageKind::Opened, values);
    assert_eq!(said, Some(("Ours".to_owned(), "one\ntwo".to_owned())));
}

#[test]
fn a_line_that_begins_no_message_is_found() {
    for (text, code, line) in [
        ("hello\nyou\n== opened\nx\n", "stray-text", 1),
        ("hello\n", "stray-text", 1),
        ("# c\n==cutover\nx\n", "malformed-header", 2),
        ("= cutover\nx\n", "malformed-header", 1),
        ("== opened\nx\n == cutover ==\ny\n", "malformed-header", 3),
        ("== opened\nx\n=== cutover\ny\n", "malformed-header", 3),
        ("== opened\nx\n==\tcutovr\ny\n", "malformed-header", 3),
    ] {
        let found = findings(Audience::Technicians, text);
        let places: Vec<_> = found.iter().map(|finding| (finding.code, finding.at.line)).collect();
        assert_eq!(places, [(code, line)], "{text}: {found:#?}");
    }
    assert_eq!(findings(Audience::Technicians, "== opened\ntitle\n=====\na = b\n= c\n"), []);
}
