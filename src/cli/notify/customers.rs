//! `stanch notify preview` and `stanch notify send`: what customers read, a person has read before.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{DEADLINE, PATIENCE, channels, moments};
use crate::cli::context::Context;
use crate::cli::{CliError, Exit, Global, print, print_json};
use crate::clock::add;
use crate::domain::{Audience, MessageKind};
use crate::follow::notify::{self, Budget, Delivery, Entry, Message, Moment, Outbox};

/// Show the messages of a run as every channel gets them. Sends nothing.
#[derive(Debug, Args)]
pub(super) struct PreviewArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    /// Show only this channel.
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Show only this message.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<MessageKind>,
}

/// Send a message to customers, as you saw it in the preview.
#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The run, or the start of its name. Default: the only open run, else the last run.
    run: Option<String>,
    /// Send to this channel.
    #[arg(long, value_name = "NAME")]
    channel: String,
    /// Send this message.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: MessageKind,
    /// Send the text that the preview showed with this code.
    #[arg(long, value_name = "CODE")]
    confirm: String,
}

fn kind(text: &str) -> Result<MessageKind, String> {
    use strum::IntoEnumIterator as _;
    let names: Vec<&str> = MessageKind::iter().map(MessageKind::name).collect();
    text.parse().map_err(|_| format!("there is no such message; one of: {}", names.join(", ")))
}

/// The last moment of each kind, in the order of the record: an earlier one of the same kind is history.
async fn last_moments(context: &Context, run: &str) -> Result<Vec<Moment>, CliError> {
    let all = moments(context, run).await?;
    let last: Vec<bool> =
        (0..all.len()).map(|at| !all[at + 1..].iter().any(|later| later.kind == all[at].kind)).collect();
    Ok(all.into_iter().zip(last).filter_map(|(moment, last)| last.then_some(moment)).collect())
}

pub(super) async fn preview(
    context: &Context,
    global: &Global,
    args: &PreviewArgs,
) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let channels = channels(context, &run).await?;
    if channels.is_empty() {
        return Err(CliError::new(Exit::Usage, "there are no channels; nothing is ever sent")
            .hint("write a notify.yaml into the state directory: stanch notify init"));
    }
    if let Some(name) = &args.channel {
        known(&channels, name)?;
    }
    let (mut text, mut all) = (String::new(), Vec::new());
    for moment in last_moments(context, &run).await? {
        if args.kind.is_some_and(|kind| kind != moment.kind) {
            continue;
        }
        for channel in &channels.all {
            let audience = channel.channel.audience;
            let left_out = args.channel.as_ref().is_some_and(|name| *name != channel.name)
                || !channel.channel.wants(moment.kind)
                || moment.is_drill() && !channel.channel.drills;
            if left_out {
                continue;
            }
            match moment.message(channel) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let _ = writeln!(
                        text,
                        "── {} ({audience}), {}, record #{}\n{}\n{}",
                        channel.name, moment.kind, message.seq, message.title, message.text
                    );
                    if audience == Audience::Customers {
                        let _ = writeln!(text, "to send it: {}", command(&run, &message));
                    }
                    text.push('\n');
                    all.push(json!({ "message": message, "confirm": message.confirmation() }));
                }
                Err(why) => {
                    let _ = writeln!(
                        text,
                        "── {} ({audience}), {}: not possible: {why}\n",
                        channel.name, moment.kind
                    );
                    all.push(
                        json!({ "channel": channel.name, "kind": moment.kind, "withheld": why.to_string() }),
                    );
                }
            }
        }
    }
    if global.json {
        print_json(&json!(all))?;
    } else if text.is_empty() {
        print("no channel gets a message of this run\n")?;
    } else {
        print(&text)?;
    }
    Ok(Exit::Done)
}

fn command(run: &str, message: &Message) -> String {
    format!(
        "stanch notify send {run} --channel {} --kind {} --confirm {}",
        message.channel,
        message.kind,
        message.confirmation()
    )
}

fn known<'a>(channels: &'a notify::Channels, name: &str) -> Result<&'a notify::Configured, CliError> {
    channels.get(name).ok_or_else(|| {
        let names: Vec<&str> = channels.all.iter().map(|channel| channel.name.as_str()).collect();
        CliError::new(Exit::Usage, "there is no channel of this name; nothing was sent")
            .hint(format!("one of: {}", names.join(", ")))
    })
}

pub(super) async fn send(context: &Context, global: &Global, args: &SendArgs) -> Result<Exit, CliError> {
    let run = context.ledger.find_any(args.run.as_deref()).await?;
    let channels = channels(context, &run).await?;
    let channel = known(&channels, &args.channel)?;
    let refuse = |message: String, hint: String| Err(CliError::new(Exit::Usage, message).hint(hint));
    if channel.channel.audience != Audience::Customers {
        return refuse(
            format!("{} is not a channel for customers; stanch sends its messages itself", channel.name),
            format!("send what waits: stanch notify flush {run}"),
        );
    }
    let preview = format!("stanch notify preview {run} --channel {} --kind {}", channel.name, args.kind);
    let moments = last_moments(context, &run).await?;
    if moments.first().is_some_and(Moment::is_drill) {
        return refuse(
            format!("{run} is a run in the sandbox: a drill never reaches customers; nothing was sent"),
            "name a run of another environment".to_owned(),
        );
    }
    let Some(moment) =
        moments.iter().find(|moment| moment.kind == args.kind && channel.channel.wants(args.kind))
    else {
        return refuse(
            format!("{run} has no message `{}` for {}; nothing was sent", args.kind, channel.name),
            format!("see those that it has: stanch notify preview {run} --channel {}", channel.name),
        );
    };
    let message = moment.message(channel).map_err(|why| {
        CliError::new(Exit::BadRunbook, format!("{why}; nothing was sent"))
            .hint("change the template or the name of the service")
    })?;
    let Some(message) = message else {
        return refuse(
            format!("there is no template `{}` for customers in this language; nothing was sent", args.kind),
            "add a section to customers.txt in your templates".to_owned(),
        );
    };
    if args.confirm != message.confirmation() {
        return refuse(
            "the message is not the one of that preview; nothing was sent".to_owned(),
            format!("read it first: {preview}"),
        );
    }
    let outbox = Outbox::of(&context.outbox, &run);
    outbox.begin()?;
    let _claim = outbox.claim()?;
    let entries = outbox.entries()?;
    let is_this = |entry: &&Entry| entry.message.id() == message.id();
    match entries.iter().find(is_this).map(|entry| entry.delivery) {
        None => {
            let by = Some(context.signature());
            outbox.keep(&Entry { by, ..Entry::new(message.clone()) })?;
        }
        Some(Delivery::Sent) => {
            return refuse(
                format!("{} has this message already; nothing was sent", channel.name),
                format!("see when it was sent: stanch notify status {run}"),
            );
        }
        Some(Delivery::Refused | Delivery::InDoubt) => {
            return refuse(
                "this message was sent before, and was not taken; nothing was sent now".to_owned(),
                format!("send it again: stanch notify flush {run} --again"),
            );
        }
        Some(Delivery::Waiting | Delivery::Sending) => {}
    }
    let until = add(context.clock.now().wall, PATIENCE);
    let budget = Budget { deadline: DEADLINE, until, at_once: true };
    notify::send(&outbox, &channels, Some(&args.channel), &context.clock, budget).await?;
    let entries = outbox.entries()?;
    let delivery = entries.iter().find(is_this).map_or(Delivery::Waiting, |entry| entry.delivery);
    super::list::report_wrong(&run, &outbox)?;
    if global.json {
        print_json(&json!({ "id": message.short_id(), "delivery": delivery }))?;
    } else if delivery == Delivery::Sent {
        print(&format!("sent `{}` to {}\n", message.kind, channel.name))?;
    }
    Ok(match delivery {
        Delivery::Sent => Exit::Done,
        Delivery::Waiting | Delivery::Sending => Exit::Unreachable,
        Delivery::Refused | Delivery::InDoubt => Exit::Failed,
    })
}
