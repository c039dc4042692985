//! `stanch notify`: messages about runs.

mod customers;
mod list;

pub(super) use list::{wrong_json, wrong_text};

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::context::{Access, Context, Open};
use super::drive::block_on_this_thread;
use super::{CliError, Exit, Global, print, print_json, tell};
use crate::clock::add;
use crate::follow::notify::{self, Budget, Channels, Composer, Delivery, Moment, Outbox};

/// The scaffold of `notify.yaml`.
const SCAFFOLD: &str = include_str!("../../../templates/notify.yaml");
/// One try takes at most this long where a person or a timer waits for it.
const DEADLINE: Duration = Duration::from_secs(10);
/// No try begins later than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Preview, send and list the messages about runs.
#[derive(Debug, Args)]
pub(super) struct NotifyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write a commented notify.yaml to start from.
    Init {
        /// Write it to this file. Default: standard output.
        file: Option<PathBuf>,
    },
    /// Show the messages of a run as every channel gets them. Sends nothing.
    Preview(customers::PreviewArgs),
    /// Send a message to customers, as you saw it in the preview.
    Send(customers::SendArgs),
    /// Send what was not sent yet.
    Flush(FlushArgs),
    /// List the messages of a run, and whether each was sent.
    Status(list::StatusArgs),
    /// Print the JSON Schema of notify.yaml, for editors.
    Schema,
}

/// Send what was not sent yet.
#[derive(Debug, Args)]
struct FlushArgs {
    /// The run, or the start of its name. Default: all runs that have messages to send.
    run: Option<String>,
    /// Also send those again that a channel refused, or of which the end is not known. The latter may arrive twice.
    #[arg(long)]
    again: bool,
}

pub(super) fn main(open: Open<'_>, global: &Global, args: NotifyArgs) -> Result<Exit, CliError> {
    match args.what {
        What::Init { file } => init(file),
        What::Schema => print_json(&crate::runbook::notify_schema()).map(|()| Exit::Done),
        What::Preview(args) => {
            block_on_this_thread(customers::preview(&open(Access::Reads)?, global, &args))?
        }
        What::Send(args) => {
            let context = open(Access::Writes)?;
            tell::refuse_in_drill(&context)?;
            block_on_this_thread(customers::send(&context, global, &args))?
        }
        What::Flush(args) => {
            let context = open(Access::Writes)?;
            tell::refuse_in_drill(&context)?;
            block_on_this_thread(flush(&context, global, &args))?
        }
        What::Status(args) => block_on_this_thread(list::main(&open(Access::Reads)?, global, &args))?,
    }
}

fn init(file: Option<PathBuf>) -> Result<Exit, CliError> {
    let Some(path) = file else { return print(SCAFFOLD).map(|()| Exit::Done) };
    let place = path.display();
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
    match made.and_then(|mut file| file.write_all(SCAFFOLD.as_bytes())) {
        Ok(()) => {
            eprintln!("wrote {place}; edit it, then: STANCH_NOTIFY={place} stanch notify status");
            Ok(Exit::Done)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(CliError::new(Exit::Usage, format!("{place} already exists; nothing was changed")))
        }
        Err(error) => Err(CliError::new(Exit::Failed, format!("cannot write {place}: {error}"))),
    }
}

/// The channels of a run.
async fn channels(context: &Context, run: &str) -> Result<Channels, CliError> {
    let state = context.ledger.load(run).await?;
    Ok(tell::channels(context, Some(state.plan()))?)
}

/// Every moment of a run that there is something to say about, in order.
async fn moments(context: &Context, run: &str) -> Result<Vec<Moment>, CliError> {
    let (mut composer, mut moments, mut wrong) = (Composer::default(), Vec::new(), None);
    let mut take = |record| match composer.take(record, &|_, _| true) {
        Ok(moment) => moments.extend(moment),
        Err(error) => wrong = Some(error.to_string()),
    };
    let report = context.ledger.records(run, &mut take).await?;
    match report.fault.map(|fault| fault.to_string()).or(wrong) {
        None => Ok(moments),
        Some(why) => Err(notify::NotifyError::Record { run: run.to_owned(), why }.into()),
    }
}

async fn flush(context: &Context, global: &Global, args: &FlushArgs) -> Result<Exit, CliError> {
    // A mistake in the file is said also where no run has messages.
    tell::channels(context, None)?;
    let runs = match &args.run {
        Some(run) => vec![context.ledger.find(Some(run)).await?],
        None => list::with_messages(context).await?,
    };
    let mut all = Flushed::default();
    let mut failed = None;
    for run in &runs {
        match flush_one(context, run, args.again).await {
            Ok(flushed) => all.add(&flushed),
            Err(error) if args.run.is_some() => return Err(error),
            // The process that works on it sends its messages.
            Err(error) if error.exit == Exit::Locked => eprintln!("{run}: a process is sending its messages"),
            // One bad run must not hold up the others.
            Err(error) => {
                eprintln!("not sent: the messages of {run}");
                error.print(false);
                failed.get_or_insert(error.exit);
            }
        }
    }
    let Flushed { open, bad, sent } = all;
    if global.json {
        print_json(&serde_json::json!({ "sent": sent, "waiting": open, "not_sent": bad }))?;
    } else {
        print(&format!(
            "sent {}; {open} still to be sent; {bad} refused or in doubt\n",
            crate::text::counted(sent as u64, "message")
        ))?;
    }
    Ok(match (open, bad) {
        _ if failed.is_some() => failed.unwrap_or(Exit::Failed),
        (0, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Unreachable,
    })
}

/// What came of sending.
#[derive(Debug, Default)]
struct Flushed {
    open: usize,
    bad: usize,
    sent: usize,
}

impl Flushed {
    fn add(&mut self, other: &Self) {
        self.open += other.open;
        self.bad += other.bad;
        self.sent += other.sent;
    }
}

/// Composes what is missing of a run's messages, and tries each that waits once.
async fn flush_one(context: &Context, run: &str, again: bool) -> Result<Flushed, CliError> {
    let outbox = Outbox::of(&context.outbox, run);
    let channels = channels(context, run).await?;
    outbox.begin()?;
    let _claim = outbox.claim()?;
    notify::compose(&*context.ledger, run, &outbox, &channels).await?;
    if again {
        for mut entry in outbox.entries()? {
            if matches!(entry.delivery, Delivery::Refused | Delivery::InDoubt) {
                // What may be there already stays marked; it gets one more try.
                entry.repeat |= entry.delivery == Delivery::InDoubt;
                entry.delivery = Delivery::Waiting;
                outbox.keep(&entry)?;
            }
        }
    }
    let before = count(&outbox, Delivery::Sent)?;
    let until = add(context.clock.now().wall, PATIENCE);
    let budget = Budget { deadline: DEADLINE, until, at_once: true };
    let open = notify::send(&outbox, &channels, None, &context.clock, budget).await?;
    let sent = count(&outbox, Delivery::Sent)? - before;
    let bad = count(&outbox, Delivery::Refused)? + count(&outbox, Delivery::InDoubt)?;
    list::report_wrong(run, &outbox)?;
    Ok(Flushed { open, bad, sent })
}

fn count(outbox: &Outbox, delivery: Delivery) -> Result<usize, CliError> {
    Ok(outbox.entries()?.iter().filter(|entry| entry.delivery == delivery).count())
}
