//! The journal's door for fuzzing, see [`crate::fuzzing`].

use rand::SeedableRng as _;

use super::key::{SigningKey, VerifyingKeys, run_origin};
use super::record::Record;
use super::verify::verify;
use super::{chain, record};
use crate::rotation::Event;
use crate::secret::Secret;

/// A key pair that is no secret, always the same.
fn keys() -> (SigningKey, VerifyingKeys) {
    let text = signed_note::generate_key(&mut rand::rngs::StdRng::seed_from_u64(0), "stanch-journal").0;
    let key = SigningKey::parse(&Secret::new(text)).expect("a key");
    let public = VerifyingKeys::parse(&key.verifier()).expect("its public half");
    (key, public)
}

/// Reads bytes as a journal. Returns its records, good or not, one for each line that is one, after
/// numbers, chain and signatures were mended: without that, hardly any change would get past the
/// first line's hash.
pub(crate) fn read(bytes: &[u8]) -> Vec<Record> {
    let (key, public) = keys();
    let mut good = 0;
    let (report, tail) =
        verify(bytes, chain::Frontier::default(), &public, |_, _| good += 1).expect("memory can be read");
    assert_eq!(report.records, good);
    assert!(report.anchored <= report.records && report.checkpoints <= report.records);
    assert!(tail.end + report.torn <= bytes.len() as u64);

    let (mended, records) = mend(bytes, &key);
    let (report, tail) =
        verify(&mended[..], chain::Frontier::default(), &public, |_, _| ()).expect("memory can be read");
    if !records.is_empty() {
        assert_eq!((report.fault, report.torn, report.records), (None, 0, records.len() as u64));
        assert_eq!(tail.end, mended.len() as u64);
    }
    records
}

fn mend(bytes: &[u8], key: &SigningKey) -> (Vec<u8>, Vec<Record>) {
    let mut frontier = chain::Frontier::default();
    let (mut lines, mut records) = (Vec::new(), Vec::<Record>::new());
    let mut previous = chain::NO_PREVIOUS;
    for line in bytes.split(|b| *b == b'\n') {
        let Ok(mut record) = Record::parse(line) else { continue };
        match (&record.event, records.first()) {
            (Event::Opened { plan, .. }, None) => record.envelope.plan = plan.digest(),
            (Event::Opened { .. }, Some(_)) | (_, None) => continue,
            (_, Some(first)) => {
                record.envelope.run.clone_from(&first.envelope.run);
                record.envelope.plan.clone_from(&first.envelope.plan);
            }
        }
        record.envelope.seq = frontier.leaves();
        record.envelope.prev = hex::encode(previous.0);
        if let Event::Checkpoint { note } = &mut record.event {
            let envelope = &record.envelope;
            match key.sign(&run_origin(&envelope.run), envelope.seq, frontier.root(), &envelope.about()) {
                Ok(signed) => *note = signed,
                // A run whose name cannot stand in a checkpoint cannot be opened either.
                Err(_) => continue,
            }
        }
        let from = lines.len();
        record::write(&record.envelope, &record.event, &mut lines);
        let again = Record::parse(&lines[from..]).expect("what was written can be read");
        assert_eq!(again.line(), lines[from..], "a record is written as it was read");
        previous = chain::leaf(&lines[from..]);
        frontier.push(previous);
        lines.push(b'\n');
        records.push(record);
    }
    (lines, records)
}
