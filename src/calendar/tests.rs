//! Days, zones and evidence, and the feed as two other programs read it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Entry, Evidence, Rotation, Source, Standing, to_icalendar};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn evidence(source: Source, of: &str, when: &str) -> Evidence {
    Evidence { source, of: of.to_owned(), at: at(when) }
}

fn rotation(cadence: &str, evidence: Vec<Evidence>) -> Rotation {
    let cadence: crate::domain::Cadence = cadence.parse().expect("cadence");
    let zone =
        TimeZone::get(cadence.zone()).expect("the time zone database of this machine (package tzdata)");
    Rotation {
        runbook: "payments".into(),
        environment: "production".into(),
        credential: "api-key".into(),
        owner: None,
        open: None,
        cadence: Some((cadence, zone)),
        evidence,
        findings: vec![],
    }
}

fn rotated(cadence: &str, last: &str, now: &str) -> Entry {
    Entry::new(rotation(cadence, vec![evidence(Source::Journal, "run-1", last)]), at(now))
}

fn due(entry: &Entry) -> String {
    entry.due.as_ref().expect("a day").to_string()
}

#[test]
fn a_day_is_over_at_midnight_of_the_zone() {
    // In Berlin the last rotation was on the 2nd of September, and it is due on the 1st of December.
    let entry = |now| rotated("90d Europe/Berlin", "2026-09-01T22:30:00Z", now);
    for (now, status, days) in [
        ("2026-11-30T22:59:59Z", Standing::Upcoming, 1),
        ("2026-11-30T23:00:00Z", Standing::Due, 0),
        ("2026-12-01T22:59:59Z", Standing::Due, 0),
        ("2026-12-01T23:00:00Z", Standing::Overdue, -1),
    ] {
        let entry = entry(now);
        assert_eq!((entry.status, entry.days), (status, Some(days)), "{now}");
    }
    assert_eq!(due(&entry("2026-11-30T22:59:59Z")), "2026-12-01T00:00:00+01:00[Europe/Berlin]");
    // In UTC it was still the 1st.
    let utc = rotated("90d", "2026-09-01T22:30:00Z", "2026-11-30T23:00:00Z");
    assert_eq!((utc.status, due(&utc)), (Standing::Due, "2026-11-30T00:00:00+00:00[UTC]".into()));
}

#[test]
fn both_nights_on_which_the_clock_changes() {
    // 02:30 does not exist on 2026-03-29: the clock goes from 02:00 to 03:00.
    let spring = rotated("30 2 29 3 * Europe/Berlin", "2026-01-01T00:00:00Z", "2026-03-29T12:00:00Z");
    assert_eq!(due(&spring), "2026-03-29T03:30:00+02:00[Europe/Berlin]");
    assert_eq!(spring.status, Standing::Due);
    // 02:30 is there twice on 2026-10-25, and counts once: the first time.
    let autumn = |last| rotated("30 2 25 * * Europe/Berlin", last, "2026-10-25T12:00:00Z");
    assert_eq!(due(&autumn("2026-10-01T00:00:00Z")), "2026-10-25T02:30:00+02:00[Europe/Berlin]");
    // A rotation in the hour that comes twice is not followed by one at once.
    assert_eq!(due(&autumn("2026-10-25T00:30:00Z")), "2026-11-25T02:30:00+01:00[Europe/Berlin]");
    assert_eq!(due(&autumn("2026-10-25T01:30:00Z")), "2026-11-25T02:30:00+01:00[Europe/Berlin]");
    // A day with 23 or 25 hours is one day.
    for (last, now) in
        [("2026-03-28T12:00:00Z", "2026-03-29T21:59:59Z"), ("2026-10-24T12:00:00Z", "2026-10-25T22:59:59Z")]
    {
        assert_eq!(rotated("1d Europe/Berlin", last, now).status, Standing::Due, "{now}");
        let later = at(now) + jiff::SignedDuration::from_secs(1);
        assert_eq!(
            rotated("1d Europe/Berlin", last, &later.to_string()).status,
            Standing::Overdue,
            "{later}"
        );
    }
    // A midnight that does not exist (Beirut, 2026-03-29 begins at 01:00).
    let beirut = rotated("1d Asia/Beirut", "2026-03-28T12:00:00Z", "2026-03-28T20:00:00Z");
    assert_eq!((due(&beirut), beirut.days), ("2026-03-29T01:00:00+03:00[Asia/Beirut]".into(), Some(1)));
}

#[test]
fn the_31st_and_leap_years() {
    let entry = |cadence, last| due(&rotated(cadence, last, "2029-01-01T00:00:00Z"));
    assert_eq!(entry("0 9 31 * * UTC", "2025-10-31T09:00:00Z"), "2025-12-31T09:00:00+00:00[UTC]");
    assert_eq!(entry("0 9 L * * UTC", "2027-02-01T00:00:00Z"), "2027-02-28T09:00:00+00:00[UTC]");
    assert_eq!(entry("0 9 L * * UTC", "2028-02-01T00:00:00Z"), "2028-02-29T09:00:00+00:00[UTC]");
    assert_eq!(entry("365d", "2027-03-01T00:00:00Z"), "2028-02-29T00:00:00+00:00[UTC]");
    assert_eq!(entry("366d", "2028-02-29T00:00:00Z"), "2029-03-01T00:00:00+00:00[UTC]");
}

#[test]
fn a_rotation_in_the_future_is_an_error() {
    let entry = rotated("90d", "2099-01-01T00:00:00Z", "2026-11-27T00:00:00Z");
    assert_eq!((entry.status, entry.due.is_some(), entry.is_late()), (Standing::Error, false, true));
    assert!(entry.findings[0].contains("in the future: 2099-01-01T00:00:00Z (journal run-1)"), "{entry:?}");
    // Clocks of two machines are not the same to the second.
    assert_eq!(rotated("90d", "2026-11-27T00:04:00Z", "2026-11-27T00:00:00Z").status, Standing::Upcoming);
    assert_eq!(rotated("90d", "2026-11-27T00:06:00Z", "2026-11-27T00:00:00Z").status, Standing::Error);
}

#[test]
fn the_issuer_counts_most_and_a_disagreement_is_found() {
    let now = at("2026-11-27T00:00:00Z");
    let journal = || evidence(Source::Journal, "run-1", "2026-09-01T10:00:00Z");
    let last = |evidence| Entry::new(rotation("90d", evidence), now);
    let by_hand = last(vec![journal(), evidence(Source::Issuer, "AKIA1", "2026-11-01T10:00:00Z")]);
    assert_eq!(by_hand.last.as_ref().map(|last| last.source), Some(Source::Issuer));
    let said = "the evidence disagrees: journal run-1 says 2026-09-01, issuer AKIA1 says 2026-11-01";
    assert_eq!(by_hand.findings, [said]);
    // A later version of a store may be another field; an older one is an older value.
    let later = last(vec![journal(), evidence(Source::Store, "kv2 a", "2026-10-01T10:00:00Z")]);
    let older = last(vec![journal(), evidence(Source::Store, "kv2 a", "2026-08-01T10:00:00Z")]);
    let source = |entry: &Entry| entry.last.as_ref().map(|last| last.source);
    assert_eq!((source(&later), source(&older)), (Some(Source::Journal), Some(Source::Store)));
    assert_eq!((later.findings.len(), older.findings.len()), (1, 1));
    // A run that goes past midnight.
    let same = last(vec![journal(), evidence(Source::Issuer, "AKIA1", "2026-09-02T00:01:00Z")]);
    assert!(same.findings.is_empty(), "{same:?}");
    let unknown = last(vec![]);
    assert_eq!((unknown.status, unknown.is_late()), (Standing::Unknown, true));
}

/// What a long line and its characters are like after two parsers of others have read them.
#[test]
fn two_other_programs_read_the_feed() {
    let now = at("2026-11-27T08:00:00Z");
    let owner = "Zahlungs\u{AD}verkehr ☂ 支払いチーム; \"A, B\" \\ ".repeat(9);
    let mut all = Vec::new();
    for shift in 0..80 {
        // Each begins elsewhere in its line, so that a fold comes between any two bytes.
        let mut rotation = rotation("90d", vec![evidence(Source::Journal, "run-1", "2026-09-01T10:00:00Z")]);
        rotation.owner = Some(format!("{}{owner}", "x".repeat(shift)));
        rotation.credential = format!("key-{shift}");
        all.push(Entry::new(rotation, now));
    }
    all.push(Entry::new(
        rotation(
            "30 2 25 * * Europe/Berlin",
            vec![evidence(Source::Issuer, "AKIA1", "2026-10-01T10:00:00Z")],
        ),
        now,
    ));
    let text = to_icalendar(&all, now);
    assert!(text.ends_with("END:VCALENDAR\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']));
    for line in text.split("\r\n") {
        // `str::split` already shows that no character is cut: each line is UTF-8.
        assert!(line.len() <= 75, "{line}");
    }
    let wanted: Vec<[String; 4]> = all
        .iter()
        .map(|entry| {
            let owner = entry.owner.as_ref().map(|owner| format!("\nOwner: {owner}.")).unwrap_or_default();
            let last = entry.last.as_ref().expect("evidence");
            let about = format!(
                "Runbook payments, environment production, cadence {}.\nLast rotated on {} ({} {}).{owner}",
                entry.cadence.as_deref().expect("cadence"),
                last.at.strftime("%F"),
                last.source,
                last.of
            );
            let start = if entry.timed { "20261025T003000Z" } else { "20261130" };
            let late = if entry.timed { "OVERDUE: " } else { "" };
            let summary = format!("{late}Rotate {} (production)", entry.credential);
            [summary, about, start.to_owned(), "20261127T080000Z".to_owned()]
        })
        .collect();
    assert_eq!(by_ical(&text), wanted);
    assert_eq!(by_calcard(&text), wanted);
    // An event keeps its identity when it moves, and no two share one.
    let ids = |text: &str| -> Vec<String> {
        text.split("\r\n").filter(|line| line.starts_with("UID:")).map(str::to_owned).collect()
    };
    let mut known = ids(&text);
    assert_eq!(known, ids(&to_icalendar(&all, at("2026-12-24T08:00:00Z"))));
    known.sort();
    known.dedup();
    assert_eq!(known.len(), all.len());
}

const FIELDS: [&str; 4] = ["SUMMARY", "DESCRIPTION", "DTSTART", "DTSTAMP"];

fn by_ical(text: &str) -> Vec<[String; 4]> {
    let calendars: Vec<_> =
        ical::IcalParser::new(text.as_bytes()).map(|read| read.expect("a calendar")).collect();
    assert_eq!(calendars.len(), 1);
    let value = |event: &ical::parser::ical::component::IcalEvent, name: &str| {
        let found = event.properties.iter().find(|property| property.name == name).expect("a property");
        unescape(found.value.as_deref().expect("a value"))
    };
    calendars[0].events.iter().map(|event| FIELDS.map(|name| value(event, name))).collect()
}

/// RFC 5545, 3.3.11, for the parser that leaves it to its user.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next().expect("something is escaped") {
                'n' | 'N' => out.push('\n'),
                c => out.push(c),
            },
            c => out.push(c),
        }
    }
    out
}

fn by_calcard(text: &str) -> Vec<[String; 4]> {
    use calcard::icalendar::{ICalendar, ICalendarComponentType, ICalendarProperty, ICalendarValue};
    let calendar = ICalendar::parse(text).expect("a calendar");
    let events = calendar.components.iter().filter(|c| c.component_type == ICalendarComponentType::VEvent);
    let value = |component: &calcard::icalendar::ICalendarComponent, name: ICalendarProperty| {
        let entry = component.entries.iter().find(|entry| entry.name == name).expect("a property");
        match &entry.values[..] {
            [ICalendarValue::Text(text)] => text.clone(),
            [ICalendarValue::PartialDateTime(at)] => {
                let date =
                    format!("{:04}{:02}{:02}", at.year.expect("y"), at.month.expect("m"), at.day.expect("d"));
                match (at.hour, at.minute, at.second) {
                    (Some(h), Some(m), Some(s)) => format!("{date}T{h:02}{m:02}{s:02}Z"),
                    _ => date,
                }
            }
            other => panic!("{other:?}"),
        }
    };
    let fields = [
        ICalendarProperty::Summary,
        ICalendarProperty::Description,
        ICalendarProperty::Dtstart,
        ICalendarProperty::Dtstamp,
    ];
    events.map(|event| fields.clone().map(|name| value(event, name))).collect()
}

/// Deployment windows, as a runbook has them, one list of them a line.
fn windows(lists: &[&str], freezes: &str) -> super::Windows {
    let lists: Vec<Vec<crate::domain::Window>> = lists
        .iter()
        .map(|list| serde_json::from_str(list).unwrap_or_else(|e| panic!("{list}: {e}")))
        .collect();
    let freezes: Vec<crate::domain::Freeze> = serde_json::from_str(freezes).expect("freezes");
    super::Windows::new(lists.iter().map(Vec::as_slice), &freezes, TimeZone::get).expect("zones")
}

/// When it is open next, in UTC: `now`, a moment, or `never`.
fn next(windows: &super::Windows, now: &str) -> String {
    match windows.next(at(now)) {
        crate::domain::Opening::Now => "now".into(),
        crate::domain::Opening::At(at) => at.to_string(),
        crate::domain::Opening::Never => "never".into(),
    }
}

const WORKDAYS: &str =
    r#"[{"days":["mon","tue","wed","thu"],"from":"09:00","to":"16:00","zone":"Europe/Berlin"}]"#;

#[test]
fn a_window_opens_on_its_days_in_its_zone() {
    let week = windows(&[WORKDAYS], "[]");
    for (now, opens) in [
        // A Monday, an hour before UTC says so.
        ("2026-11-30T07:59:59Z", "2026-11-30T08:00:00Z"),
        ("2026-11-30T08:00:00Z", "now"),
        ("2026-11-30T14:59:59.999Z", "now"),
        ("2026-11-30T15:00:00Z", "2026-12-01T08:00:00Z"),
        // From Thursday over the weekend, and into summer time.
        ("2026-12-03T15:00:00Z", "2026-12-07T08:00:00Z"),
        ("2026-03-26T15:00:00Z", "2026-03-30T07:00:00Z"),
    ] {
        assert_eq!(next(&week, now), opens, "{now}");
    }
    assert_eq!(next(&windows(&[], "[]"), "2026-11-28T03:00:00Z"), "now");
    // The one of two that opens first.
    let two = r#"[{"days":["sat"],"from":"10:00","to":"11:00","zone":"UTC"},{"days":["sun"],"from":"10:00","to":"11:00","zone":"UTC"}]"#;
    assert_eq!(next(&windows(&[two], "[]"), "2026-11-28T10:59:59Z"), "now");
    assert_eq!(next(&windows(&[two], "[]"), "2026-11-28T11:00:00Z"), "2026-11-29T10:00:00Z");
}

#[test]
fn a_window_past_midnight_belongs_to_the_day_on_which_it_opens() {
    let night = windows(
        &[
            r#"[{"days":["sat"],"from":"22:00","to":"04:00","zone":"UTC","first":"2026-11-28","last":"2026-12-05"}]"#,
        ],
        "[]",
    );
    for (now, opens) in [
        ("2026-11-01T00:00:00Z", "2026-11-28T22:00:00Z"),
        ("2026-11-29T03:59:59Z", "now"),
        ("2026-11-29T04:00:00Z", "2026-12-05T22:00:00Z"),
        // Its last day is the one on which it opens.
        ("2026-12-06T03:59:59Z", "now"),
        ("2026-12-06T04:00:00Z", "never"),
    ] {
        assert_eq!(next(&night, now), opens, "{now}");
    }
    let day = windows(&[r#"[{"days":["sun"],"from":"00:00","to":"24:00","zone":"UTC"}]"#], "[]");
    assert_eq!(next(&day, "2026-11-29T23:59:59Z"), "now");
    assert_eq!(next(&day, "2026-11-30T00:00:00Z"), "2026-12-06T00:00:00Z");
}

#[test]
fn windows_in_the_nights_on_which_the_clock_changes() {
    let sundays = |from: &str, to: &str| {
        let list = format!(r#"[{{"days":["sun"],"from":"{from}","to":"{to}","zone":"Europe/Berlin"}}]"#);
        windows(&[&list], "[]")
    };
    // 2026-03-29: the clock goes from 02:00 to 03:00, which is 01:00 UTC. What is skipped moves on.
    let spring = |from, to, now| next(&sundays(from, to), now);
    assert_eq!(spring("02:30", "04:00", "2026-03-28T12:00:00Z"), "2026-03-29T01:30:00Z");
    assert_eq!(spring("01:30", "02:30", "2026-03-29T01:29:59Z"), "now");
    assert_eq!(spring("01:30", "02:30", "2026-03-29T01:30:00Z"), "2026-04-04T23:30:00Z");
    // It would close before it opens: on that night it does not open, and a week later it does.
    assert_eq!(spring("02:30", "03:00", "2026-03-28T12:00:00Z"), "2026-04-05T00:30:00Z");
    // 2026-10-25: from 03:00 back to 02:00, so 02:30 is at 00:30 and at 01:30 UTC. The first of the two counts.
    let autumn = |from, to, now| next(&sundays(from, to), now);
    assert_eq!(autumn("02:30", "04:00", "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    assert_eq!(autumn("02:30", "04:00", "2026-10-25T01:15:00Z"), "now");
    assert_eq!(autumn("01:00", "02:30", "2026-10-25T00:29:59Z"), "now");
    assert_eq!(autumn("01:00", "02:30", "2026-10-25T00:30:00Z"), "2026-11-01T00:00:00Z");
    // A window over the whole of such a day has 23 or 25 hours.
    assert_eq!(next(&sundays("00:00", "24:00"), "2026-03-29T21:59:59Z"), "now");
    assert_eq!(next(&sundays("00:00", "24:00"), "2026-10-25T22:59:59Z"), "now");
    assert_eq!(next(&sundays("00:00", "24:00"), "2026-10-25T23:00:00Z"), "2026-10-31T23:00:00Z");
}

#[test]
fn every_list_must_be_open_and_no_freeze_hold() {
    let mornings = r#"[{"from":"06:00","to":"10:00","zone":"Europe/Berlin"}]"#;
    let both = windows(&[WORKDAYS, mornings], "[]");
    assert_eq!(next(&both, "2026-11-30T00:00:00Z"), "2026-11-30T08:00:00Z");
    assert_eq!(next(&both, "2026-11-30T08:59:59Z"), "now");
    assert_eq!(next(&both, "2026-11-30T09:00:00Z"), "2026-12-01T08:00:00Z");
    // Two that are never open together.
    let nights = r#"[{"from":"22:00","to":"23:00","zone":"Europe/Berlin"}]"#;
    assert_eq!(next(&windows(&[WORKDAYS, nights], "[]"), "2026-11-30T00:00:00Z"), "never");
    let freeze = r#"[{"first":"2026-12-21","last":"2027-01-03","zone":"Europe/Berlin","reason":"year end"}]"#;
    let frozen = windows(&[WORKDAYS], freeze);
    assert_eq!(next(&frozen, "2026-12-17T14:00:00Z"), "now");
    assert_eq!(next(&frozen, "2026-12-17T15:00:00Z"), "2027-01-04T08:00:00Z");
    // A freeze alone, too; its days are those of its zone.
    assert_eq!(next(&windows(&[], freeze), "2026-12-20T22:59:59Z"), "now");
    assert_eq!(next(&windows(&[], freeze), "2026-12-20T23:00:00Z"), "2027-01-03T23:00:00Z");
}
