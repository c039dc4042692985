//! The doors of the fuzz targets in `fuzz/`: each takes bytes, reads them as the tool would read what
//! comes from outside, and panics where something is said that must hold for any bytes.
//!
//! A module of the library, and not code in `fuzz/`, because most of what reads such bytes is private
//! and ought to stay so. It exists in tests, which replay the kept corpus, and under the feature
//! `fuzzing`; the tool never contains it.

mod records;
#[cfg(feature = "tool")]
mod servers;
mod walk;

pub use records::{journal, plan, runbook};
#[cfg(feature = "tool")]
pub use servers::{aws, http, vault};

/// Whether a text can steer a terminal.
fn steers(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t'))
}

/// Numbers that look random and depend on the input alone, so that a failure can be replayed.
struct Dice(u64);

impl Dice {
    fn new(input: &[u8]) -> Self {
        Self(input.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// One of `sides` numbers from 0.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    type Door = fn(&[u8]);

    /// What fuzzing kept, once more, through the same doors.
    #[test]
    fn the_kept_corpus_is_still_read() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        let doors: &[(&str, Door)] = &[
            ("runbook", super::runbook),
            ("plan", super::plan),
            ("journal", super::journal),
            #[cfg(feature = "tool")]
            ("vault", super::vault),
            #[cfg(feature = "tool")]
            ("http", super::http),
            #[cfg(feature = "tool")]
            ("aws", super::aws),
        ];
        for (name, door) in doors {
            let mut read = 0;
            for entry in std::fs::read_dir(kept.join(name)).expect("a corpus") {
                let path = entry.expect("entry").path();
                let bytes = std::fs::read(&path).expect("file");
                let result = std::panic::catch_unwind(|| door(&bytes));
                assert!(result.is_ok(), "{} makes `{name}` panic", path.display());
                read += 1;
            }
            assert!(read > 10, "the corpus of `{name}` has {read} files");
        }
    }
}
