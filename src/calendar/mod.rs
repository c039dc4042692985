//! What is due, and when: the arithmetic of days, zones and evidence. Pure: the present, the zones' rules and the
//! evidence arrive as values.

mod entry;
mod evidence;
mod feed;
#[cfg(test)]
mod tests;
mod windows;

pub use entry::{Entry, Rotation, Standing};
pub use evidence::{Evidence, Rotations, Source};
pub use feed::to_icalendar;
pub use windows::Windows;
