//! Approvals that other processes leave while this one works.

use super::Session;
use crate::engine::EngineError;
use crate::rotation::Event;

impl Session {
    /// Takes approvals that came, each verified at the moment at which it comes on the record.
    pub(super) fn take_approvals(&mut self) -> Result<(), EngineError> {
        // Those that cannot be taken let nothing begin; whoever left them waits for their record, and is told.
        for signed in self.engine.journal.take_approvals().unwrap_or_default() {
            let now = self.engine.clock.now().wall;
            let run = Some(self.engine.journal.run());
            let event = match self.state.admit(&signed, run, Some(now)) {
                Ok(_) if self.safe.clean(&signed.statement) != signed.statement => Event::Noted {
                    text: "an approval was refused: its text contains a secret of this run".into(),
                },
                Ok(approval) => Event::Approved {
                    by: approval.by.clone(),
                    key: approval.signer.fingerprint(),
                    phases: approval.phases,
                    signed,
                },
                Err(refused) => Event::Noted { text: format!("an approval was refused: {refused}") },
            };
            self.hold(event)?;
        }
        Ok(())
    }
}
