//! When a deployment window opens next.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::domain::{Freeze, Opening, TimeOfDay, Weekday, Window};

/// How many days are looked at from the first on which a window can open. Its days come every week; and where the clock
/// skips all of it, a week later.
const AHEAD_DAYS: i64 = 15;
/// How often one restriction may put off what another one let through, before there is said to be no opening.
const MOST_TRIES: usize = 1000;

/// The deployment windows of a plan, with the rules of their time zones. Without any, it is always open.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// Of each list, one window must be open.
    lists: Vec<Vec<(Window, TimeZone)>>,
    /// On none of these days.
    freezes: Vec<(Freeze, TimeZone)>,
}

impl Windows {
    /// Takes lists of windows, of each of which one must be open, and freezes. `zone` finds a zone's rules.
    ///
    /// # Errors
    /// When a zone's rules are not found.
    pub fn new<'a, E>(
        lists: impl IntoIterator<Item = &'a [Window]>,
        freezes: &[Freeze],
        zone: impl Fn(&str) -> Result<TimeZone, E>,
    ) -> Result<Self, E> {
        let list = |list: &[Window]| {
            list.iter().map(|window| Ok((window.clone(), zone(&window.zone)?))).collect::<Result<Vec<_>, E>>()
        };
        let freezes = freezes.iter().map(|freeze| Ok((freeze.clone(), zone(&freeze.zone)?)));
        Ok(Self {
            lists: lists
                .into_iter()
                .filter(|windows| !windows.is_empty())
                .map(list)
                .collect::<Result<_, E>>()?,
            freezes: freezes.collect::<Result<_, E>>()?,
        })
    }

    /// Whether there is nothing to wait for, ever.
    pub fn is_empty(&self) -> bool {
        self.lists.is_empty() && self.freezes.is_empty()
    }

    /// When it is open next, at or after a moment.
    pub fn next(&self, now: Timestamp) -> Opening {
        let mut at = now;
        for _ in 0..MOST_TRIES {
            let Some(later) = self.put_off(at) else { return Opening::Never };
            if later == at {
                return if at == now { Opening::Now } else { Opening::At(at) };
            }
            at = later;
        }
        Opening::Never
    }

    /// The same moment where every restriction is met then, else the earliest later one at which the first that is not
    /// met can be. `None` where it never is again.
    fn put_off(&self, at: Timestamp) -> Option<Timestamp> {
        for list in &self.lists {
            let open = list.iter().filter_map(|(window, zone)| opens(window, zone, at)).min()?;
            if open > at {
                return Some(open);
            }
        }
        let over = self.freezes.iter().filter_map(|(freeze, zone)| thaws(freeze, zone, at)).max();
        Some(over.unwrap_or(at))
    }
}

/// When a window is open, at or after a moment: the moment itself where it is.
fn opens(window: &Window, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let today = at.to_zoned_datetime(zone.clone()).date();
    // One that opened yesterday may still be open.
    let yesterday = today.yesterday().ok()?;
    let mut day = window.first.map_or(yesterday, |first| first.0.max(yesterday));
    let end = today.max(day).checked_add(AHEAD_DAYS.days()).ok()?;
    while day <= end && window.last.is_none_or(|last| day <= last.0) {
        if window.days.as_ref().is_none_or(|days| days.contains(&Weekday::of(day))) {
            let (open, close) = (moment(day, window.from, zone)?, closes(window, day, zone)?);
            // Where the clock skips all of it, it is over when it opens, and the next one is found from there.
            if close > at {
                return Some(open.max(at));
            }
        }
        day = day.tomorrow().ok()?;
    }
    None
}

/// When a window closes that opens on a day.
fn closes(window: &Window, day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let day = if window.to <= window.from { day.tomorrow().ok()? } else { day };
    moment(day, window.to, zone)
}

/// A time of a day. One that the clock skips is moved on by what it skips, one that it shows twice is the first of the
/// two: an hour that comes again belongs to no window that ends in it.
fn moment(day: Date, time: TimeOfDay, zone: &TimeZone) -> Option<Timestamp> {
    let at = match time.clock() {
        Some(clock) => day.to_datetime(clock),
        None => day.tomorrow().ok()?.at(0, 0, 0, 0),
    };
    Some(at.to_zoned_datetime(zone.clone()).ok()?.timestamp())
}

/// When a freeze is over, where it holds at a moment.
fn thaws(freeze: &Freeze, zone: &TimeZone, at: Timestamp) -> Option<Timestamp> {
    let midnight = |day: Date| Some(day.at(0, 0, 0, 0).to_zoned_datetime(zone.clone()).ok()?.timestamp());
    let (begins, ends) = (midnight(freeze.first.0)?, midnight(freeze.last.0.tomorrow().ok()?)?);
    (begins <= at && at < ends).then_some(ends)
}
