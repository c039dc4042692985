//! The report as JUnit's XML, which GitLab, Jenkins and others show beside tests: a suite a credential, a test a
//! milestone.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report as Xml, TestCase, TestCaseStatus, TestSuite};

use super::{Credential, Report};
use crate::rotation::End;

/// The XML of a report.
pub(super) fn write(report: &Report, mark: &str) -> String {
    let name = format!("{} in {}", report.runbook, report.environment);
    let mut xml = Xml::new(&name);
    xml.set_time(Duration::from_millis(report.took_ms));
    let mut suite = TestSuite::new(&name);
    suite.add_property(Property::new("report", mark));
    let mut ended = TestCase::new("the run ends as done", end(report));
    ended.set_classname(&name).set_time(Duration::from_millis(report.took_ms));
    suite.add_test_case(ended);
    xml.add_test_suite(suite);
    for credential in &report.credentials {
        xml.add_test_suite(suite_of(report, &name, credential));
    }
    xml.to_string().expect("writing into memory does not fail") + "\n"
}

fn suite_of(report: &Report, name: &str, credential: &Credential) -> TestSuite {
    let mut suite = TestSuite::new(format!("{name}: {}", credential.name));
    for milestone in &credential.milestones {
        let status = match (milestone.span, report.end) {
            (Some(_), _) => TestCaseStatus::success(),
            // Not yet, or nothing to reach: an issuer that cannot disable, a credential that no store holds.
            (None, None | Some(End::Done)) => said(TestCaseStatus::skipped(), &credential.truth),
            (None, Some(_)) => said(failure(), &credential.truth),
        };
        let reached = if milestone.name == "proved" { "proved dead" } else { milestone.name };
        let mut case = TestCase::new(format!("the old {} is {reached}", credential.name), status);
        case.set_classname(name);
        if let Some(span) = milestone.span {
            case.set_time(Duration::from_millis(span.ms));
        }
        suite.add_test_case(case);
    }
    suite
}

fn end(report: &Report) -> TestCaseStatus {
    let words = report.summary.first().map_or("", |line| line.words.as_str());
    let is_whole = report.failures.is_empty() && report.unsettled == 0;
    let mut status = match report.end {
        Some(End::Done) => return TestCaseStatus::success(),
        // How a run in stages stands between two of them.
        None if is_whole => TestCaseStatus::skipped(),
        _ => failure(),
    };
    let failures = report.failures.iter().map(|failed| format!("{}: {}", failed.step, failed.message));
    let details: Vec<String> = failures.chain(report.follow_ups.iter().cloned()).collect();
    status.set_description(details.join("\n"));
    said(status, words)
}

fn failure() -> TestCaseStatus {
    TestCaseStatus::non_success(NonSuccessKind::Failure)
}

fn said(mut status: TestCaseStatus, words: &str) -> TestCaseStatus {
    status.set_message(words);
    status
}
