//! The live view: what a tired person reads at a glance.

use std::collections::HashMap;

use console::Color;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::outgoing::exposure;
use super::style::{Style, clock};
use super::summary;
use super::words;
use crate::clock::{Moment, since};
use crate::domain::{Phase, Verdict};
use crate::engine::Observer;
use crate::plan::Plan;
use crate::rotation::{Direction, Event, State, Status};

/// How many credentials have a line of their own.
const SHOWN: usize = 6;

/// How often the view is drawn in a second, at the most.
const HZ: u8 = 10;

/// The screen, for whoever must write or ask something in between.
#[derive(Debug, Clone)]
pub struct Screen(MultiProgress);

impl Screen {
    /// Takes the view off the screen until [`Screen::show`], for a question whose answer may take long:
    /// nothing waits for the screen meanwhile.
    pub fn hide(&self) {
        let _ = self.0.clear();
        self.0.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Draws the view again.
    pub fn show(&self) {
        self.0.set_draw_target(ProgressDrawTarget::stderr_with_hz(HZ));
    }

    /// Clears the view, does something short, and draws it again.
    pub fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        self.0.suspend(act)
    }
}

pub(super) struct View {
    style: Style,
    screen: MultiProgress,
    head: ProgressBar,
    phases: Vec<(Phase, ProgressBar, Vec<usize>)>,
    credentials: Vec<(ProgressBar, usize, Vec<usize>)>,
    gates: ProgressBar,
    clocks: ProgressBar,
    last: ProgressBar,
    run: String,
}

impl View {
    pub(super) fn new(style: Style, run: &str, state: &State) -> Self {
        let plan = state.plan();
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(HZ));
        let text = |template: &str| {
            let bar = screen.add(ProgressBar::new(1));
            bar.set_style(styled(template, style));
            bar
        };
        let head = text("{wide_msg}");
        let mut phases = Vec::new();
        for waits in &plan.phases {
            let steps: Vec<usize> =
                (0..plan.steps.len()).filter(|s| plan.steps[*s].phase == waits.phase).collect();
            if steps.is_empty() && !waits.waits() {
                continue;
            }
            // A phase that only waits has one thing to do.
            let bar = screen.add(ProgressBar::new(steps.len().max(1) as u64));
            bar.set_style(styled("  {prefix:12} {bar:20} {pos:>3}/{len:<3} {wide_msg}", style));
            phases.push((waits.phase, bar, steps));
        }
        let mut of: HashMap<usize, Vec<usize>> = HashMap::new();
        for (at, step) in plan.steps.iter().enumerate() {
            if let Some(c) = step.action.credential().filter(|c| *c < SHOWN) {
                of.entry(c).or_default().push(at);
            }
        }
        let credentials = (0..plan.credentials.len().min(SHOWN))
            .map(|c| (text("  {wide_msg}"), c, of.remove(&c).unwrap_or_default()))
            .collect();
        let (gates, clocks, last) = (text("  {wide_msg}"), text("  {wide_msg}"), text("  {wide_msg}"));
        let view =
            Self { style, screen, head, phases, credentials, gates, clocks, last, run: run.to_owned() };
        view.draw(None, state);
        view
    }

    pub(super) fn screen(&self) -> Screen {
        Screen(self.screen.clone())
    }

    fn draw(&self, at: Option<Moment>, state: &State) {
        let plan = state.plan();
        let style = self.style;
        let back = matches!(state.direction(), Direction::Back { .. });
        let doing = match (back, state.phase()) {
            (true, _) => style.paint("ROLLING BACK", Color::Yellow, true),
            (false, Some(phase)) => style.paint(phase.name(), Color::Cyan, true),
            (false, None) => "starting".into(),
        };
        let head =
            format!("{} {} {} {doing}   {}", plan.runbook.name, style.later(), plan.environment, self.run);
        self.head.set_message(style.plain(&head));
        for (phase, bar, steps) in &self.phases {
            self.draw_phase(*phase, bar, steps, state, at);
        }
        for (bar, c, steps) in &self.credentials {
            bar.set_message(style.plain(&summary::short_summary(&state.truth_of(*c, steps))));
        }
        self.gates.set_message(style.plain(&gates(plan, state, style)));
        if let Some(at) = at {
            self.clocks.set_message(style.plain(&exposure(state, at.wall)));
        }
    }

    fn draw_phase(
        &self,
        phase: Phase,
        bar: &ProgressBar,
        steps: &[usize],
        state: &State,
        at: Option<Moment>,
    ) {
        let style = self.style;
        let done = steps.iter().filter(|s| *state.status(**s) == Status::Done).count();
        let order = Phase::order(state.plan().strategy);
        let rank = |p: Phase| order.iter().position(|o| *o == p);
        let current = state.phase() == Some(phase);
        let over = state.phase().is_some_and(|now| rank(now) > rank(phase)) || state.end().is_some();
        let mark = match (current, over) {
            _ if steps.iter().any(|s| matches!(state.status(*s), Status::Failed { .. })) => {
                style.paint(style.bad(), Color::Red, true)
            }
            (true, false) => style.paint(style.now(), Color::Cyan, true),
            (_, true) if done == steps.len() => style.paint(style.ok(), Color::Green, false),
            _ => style.later().to_owned(),
        };
        bar.set_prefix(format!("{mark} {phase}"));
        let reached = if steps.is_empty() { usize::from(over) } else { done };
        bar.set_position(reached as u64);
        let mut message = String::new();
        if let (true, Some(at), Some(waits)) = (current, at, state.plan().phase(phase)) {
            let until = state.earliest(waits);
            if done == steps.len() && at.wall < until {
                message = format!("{} left of {}", clock(since(until, at.wall)), state.plan().least(waits));
            } else if done == steps.len() && !waits.until.is_empty() {
                message = "waiting for gates".into();
            }
        }
        bar.set_message(style.plain(&message));
    }
}

impl Observer for View {
    fn recorded(&mut self, at: Moment, events: &[Event], state: &State) {
        for event in events {
            let shown = match event {
                Event::Entered { .. } | Event::Adopted { .. } | Event::Judged { .. } => None,
                event => words::line(event, state),
            };
            if let Some(line) = shown {
                self.last.set_message(self.style.plain(&line));
            }
            // What a person must not miss stays on the screen above the view.
            let keep = match event {
                Event::Turned { .. }
                | Event::Noted { .. }
                | Event::Halted { .. }
                | Event::Drill { .. }
                | Event::Injected { .. }
                | Event::Skipped { .. }
                | Event::Answered { .. }
                | Event::Repaired { .. } => true,
                Event::Settled { .. } => true,
                Event::Outcome { error, .. } => error.is_some(),
                Event::Judged { verdict, .. } => *verdict == Verdict::Fail,
                _ => false,
            };
            if let (true, Some(line)) = (keep, words::line(event, state)) {
                let _ = self.screen.println(self.style.plain(&line));
            }
        }
        self.draw(Some(at), state);
    }

    fn tick(&mut self, at: Moment, state: &State) {
        self.draw(Some(at), state);
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // The summary that follows says all that matters.
        let _ = self.screen.clear();
    }
}

fn gates(plan: &Plan, state: &State, style: Style) -> String {
    let Some(waits) = state.phase().and_then(|p| plan.phase(p)) else { return String::new() };
    let words: Vec<String> = waits
        .until
        .iter()
        .map(|gate| match state.judged().get(gate) {
            None => format!("{gate} not asked yet"),
            Some((verdict, detail)) => {
                let word = verdict.name();
                let color = match verdict {
                    Verdict::Pass => Color::Green,
                    Verdict::Fail => Color::Red,
                    Verdict::Inconclusive | Verdict::Error => Color::Yellow,
                };
                let word = style.paint(word, color, false);
                // What passes needs no words; what does not should fit beside it.
                if *verdict == Verdict::Pass {
                    format!("{gate} {word}")
                } else {
                    format!("{gate} {word} ({detail})")
                }
            }
        })
        .collect();
    if words.is_empty() { String::new() } else { format!("gates  {}", words.join("   ")) }
}

fn styled(template: &str, style: Style) -> ProgressStyle {
    let bars = if style.unicode { "━━╌" } else { "#>-" };
    let template =
        if style.color { template.replace("{bar:20}", "{bar:20.cyan/dim}") } else { template.to_owned() };
    // A template is a constant of this file; a wrong one shows as a plain bar.
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars(bars)
}
