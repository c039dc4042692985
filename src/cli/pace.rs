//! The runtime of a drill, whose time passes at another speed.

use std::sync::OnceLock;

use super::{CliError, Exit};

/// How many times as fast as real time this process plays a drill.
static SPEED: OnceLock<f64> = OnceLock::new();

/// From now on this process plays a drill at this speed.
pub(super) fn play_at(speed: f64) {
    let _ = SPEED.set(speed);
}

/// That speed, where it is not real time.
pub(super) fn speed() -> Option<f64> {
    SPEED.get().copied()
}

/// The runtime of a drill: one thread, whose time passes `speed` times as fast as real time, or as fast as the work
/// is done.
pub(super) fn block_on_virtual<T>(
    speed: Option<f64>,
    catch_up: bool,
    future: impl Future<Output = T>,
) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|e| CliError::new(Exit::Failed, format!("cannot wait for anything here: {e}")))?;
    let result = runtime.block_on(async {
        if let Some(speed) = speed {
            tokio::spawn(crate::clock::pace(speed, catch_up));
        }
        future.await
    });
    runtime.shutdown_background();
    Ok(result)
}
