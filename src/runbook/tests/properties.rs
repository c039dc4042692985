//! What holds for any text and any value.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::Period;
use crate::runbook::read::tree;

/// Any value, as a runbook could hold it.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "(true|no|1e3|0x1|~|null|<<|- a|a: b|# c|\\$\\{env.x\\}|9s)".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-z]{1,8}|.{1,6}", inner), 0..6)
                .prop_map(|entries| entries.into_iter().filter(|(key, _)| key != "<<").collect()),
        ]
    })
}

/// Puts a value somewhere into a good runbook.
fn damage(mut runbook: Value, path: &[usize], value: Value) -> Value {
    let mut place = &mut runbook;
    for step in path {
        let size = match &*place {
            Value::Object(fields) if !fields.is_empty() => fields.len(),
            Value::Array(items) if !items.is_empty() => items.len(),
            _ => break,
        };
        place = match place {
            Value::Object(fields) => fields.values_mut().nth(step % size).unwrap(),
            Value::Array(items) => &mut items[step % size],
            _ => unreachable!(),
        };
    }
    *place = value;
    runbook
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_check_panic(text in "(.|\n|[a-z]+: |  |- |\\$\\{|\"|\\{|\\[|&a |\\*a|<<: |\\||>){0,60}") {
        let source = named(text);
        let checked = check(&source);
        render(&checked.findings, &source, true, 80);
        reported(&checked.findings, &source);
    }

    #[test]
    fn json_is_read_as_it_is(value in values()) {
        // JSON is YAML, but for characters that YAML wants escaped.
        let text: String = value.to_string().chars().flat_map(|c| if c.is_ascii() && c != '\u{7f}' { vec![c] } else {
            let mut units = [0; 2];
            match c as u32 {
                0..=0xffff => c.encode_utf16(&mut units).iter().flat_map(|unit| format!("\\u{unit:04x}").chars().collect::<Vec<_>>()).collect(),
                code => format!("\\U{code:08x}").chars().collect(),
            }
        }).collect();
        let read = tree::parse(&text).map(|tree| tree.to_json());
        prop_assert_eq!(read.as_ref().ok(), Some(&value), "{}: {:?}", text, read);
    }

    #[test]
    fn damaged_runbooks_are_judged_as_the_schema_judges_them(
        which in 0_usize..5, path in prop::collection::vec(0_usize..8, 1..8), value in values(),
    ) {
        let good = json(&read(&files("runbooks")[which])).unwrap();
        let bad = damage(good, &path, value);
        let source = named(serde_json::to_string_pretty(&bad).unwrap());
        let Some(value) = json(&source) else { return Ok(()) };
        let checked = check(&source);
        render(&checked.findings, &source, false, 80);
        let valid = jsonschema::draft202012::new(&schema()).unwrap().is_valid(&value);
        let structural = checked.findings.iter().find(|finding| STRUCTURAL.contains(&finding.code) && !finding.message.contains(" (in "));
        if let Some(finding) = structural {
            // The schema takes 1.0 for an integer and knows no 32-bit limit.
            let number = finding.message.contains("fraction") || finding.code == "out-of-range" || finding.code == "pattern";
            prop_assert!(!valid || number, "{:?}", finding);
        } else if !valid {
            prop_assert!(checked.errors() > 0);
        }
        if valid && checked.errors() == 0 {
            prop_assert!(checked.runbook.is_some());
        }
        prop_assert!(checked.findings.iter().all(|finding| finding.code != "unreadable"), "{:?}", checked.findings);
    }

    #[test]
    fn periods_survive(n in 0_u64..100_000, unit in "(ms|s|m|h|d)") {
        let text = format!("{n}{unit}");
        if let Ok(period) = text.parse::<Period>() {
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
            prop_assert_eq!(json!(period), Value::from(period.to_string()));
        }
    }
}
