//! A file that a line of JSON a message is appended to. A message that is in it already is not appended again.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::domain::ErrorKind;
use crate::follow::notify::message::Message;
use crate::provider::CallError;
use crate::text::sanitize;

/// How much of the end of the file is looked through for a message that is there already.
const TAIL: u64 = 16 << 20;

/// Appends a message, durably.
pub(super) fn append(path: &Path, message: &Message) -> Result<Option<String>, CallError> {
    let cannot = |error: std::io::Error| {
        let place = sanitize(&path.display().to_string());
        CallError::rejected(ErrorKind::Local, format!("cannot append to {place}: {error}"))
    };
    // A pipe without a reader would be waited for forever.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(cannot(std::io::ErrorKind::InvalidInput.into())
            .hint("name a regular file; for anything else use a channel of the kind `exec`"));
    }
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(cannot)?;
    let (has, torn) = look(&mut file, &message.short_id()).map_err(cannot)?;
    if has {
        return Ok(None);
    }
    let newline = if torn { "\n" } else { "" };
    let line = format!("{newline}{}\n", message.to_json());
    file.write_all(line.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| cannot(error).doubtful())?;
    Ok(None)
}

/// Whether the message is there, and whether the last line was cut off by a crash.
fn look(file: &mut File, id: &str) -> std::io::Result<(bool, bool)> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut reader = BufReader::new(file.take(TAIL));
    let (mut line, mut torn, wanted) = (Vec::new(), false, format!("\"id\":\"{id}\""));
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok((false, torn));
        }
        torn = !line.ends_with(b"\n");
        if !torn && String::from_utf8_lossy(&line).contains(&wanted) {
            return Ok((true, false));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::notify::channel::tests::message;

    #[test]
    fn a_message_is_there_once_and_a_torn_line_hides_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("messages.jsonl");
        let (one, mut two) = (message(), message());
        two.seq += 1;
        append(&path, &one).expect("appended");
        append(&path, &one).expect("there already");
        // A crash in the middle of the second.
        let text = two.to_json().to_string();
        let mut file = OpenOptions::new().append(true).open(&path).expect("open");
        file.write_all(&text.as_bytes()[..text.len() - 9]).expect("torn");
        append(&path, &two).expect("appended");
        let read = std::fs::read_to_string(&path).expect("read");
        let whole = read.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(whole.count(), 2, "{read}");
        assert!(append(folder.path(), &one).is_err() && append(Path::new("/dev/null"), &one).is_err());
    }
}
