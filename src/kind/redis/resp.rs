//! The protocol of Redis (RESP 2): what is sent, and what comes back, within bounds.
//!
//! By hand, since it is less than what a client would bring, and since a client believes whatever length a server
//! announces.

use zeroize::Zeroizing;

/// No response that is asked for here is larger: some ten thousand users.
pub(super) const LARGEST: usize = 8 << 20;
const LONGEST_LINE: usize = 64 << 10;
/// A list in a list is as deep as it gets.
const DEEPEST: usize = 4;

/// What a server answers to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// A text, short or long. What is not UTF-8 in it is replaced.
    Text(String),
    /// The command failed; in the server's words, which begin with a code.
    Error(String),
    /// A number.
    Integer(i64),
    /// A list of replies.
    List(Vec<Reply>),
    /// There is no such thing.
    Nil,
}

impl Reply {
    /// The text that it is.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What the server says of the command, if that failed.
    pub(super) fn error(self) -> Option<String> {
        match self {
            Self::Error(said) => Some(said),
            _ => None,
        }
    }

    /// The texts of the list that it is.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        let items = if let Self::List(items) = self { items.as_slice() } else { &[] };
        items.iter().filter_map(Self::text)
    }
}

/// What came is not of this protocol, or has no bound.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A command as it is sent. It may hold a password.
pub(super) fn encode(command: &[&str], into: &mut Zeroizing<Vec<u8>>) {
    into.extend(format!("*{}\r\n", command.len()).bytes());
    for word in command {
        into.extend(format!("${}\r\n", word.len()).bytes());
        into.extend(word.bytes());
        into.extend(b"\r\n");
    }
}

/// The first reply in what was received, and how many bytes it has; `None` while a part of it is missing.
///
/// # Errors
/// When it never becomes one.
pub(super) fn parse(input: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let mut at = 0;
    Ok(value(input, &mut at, DEEPEST)?.map(|reply| (reply, at)))
}

fn value(input: &[u8], at: &mut usize, depth: usize) -> Result<Option<Reply>, Malformed> {
    let rest = input.get(*at..).unwrap_or_default();
    let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
        return if rest.len() > LONGEST_LINE { Err(Malformed) } else { Ok(None) };
    };
    let (kind, line) = rest[..end].split_first().ok_or(Malformed)?;
    let line = || String::from_utf8_lossy(line).into_owned();
    let number = || line().parse::<i64>().map_err(|_| Malformed);
    *at += end + 2;
    Ok(Some(match kind {
        b'+' => Reply::Text(line()),
        b'-' => Reply::Error(line()),
        b':' => Reply::Integer(number()?),
        b'$' | b'*' => {
            let Some(length) = length(number()?)? else { return Ok(Some(Reply::Nil)) };
            if *kind == b'*' {
                let depth = depth.checked_sub(1).ok_or(Malformed)?;
                let mut items = Vec::new();
                for _ in 0..length {
                    let Some(item) = value(input, at, depth)? else { return Ok(None) };
                    items.push(item);
                }
                return Ok(Some(Reply::List(items)));
            }
            let Some(bytes) = input.get(*at..*at + length + 2) else { return Ok(None) };
            *at += length + 2;
            let text = bytes.strip_suffix(b"\r\n").ok_or(Malformed)?;
            Reply::Text(String::from_utf8_lossy(text).into_owned())
        }
        _ => return Err(Malformed),
    }))
}

/// A length that a server announces; `None` for a value that is not there.
fn length(number: i64) -> Result<Option<usize>, Malformed> {
    match usize::try_from(number) {
        Ok(length) if length <= LARGEST => Ok(Some(length)),
        Err(_) if number == -1 => Ok(None),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Reply {
        Reply::Text(text.to_owned())
    }

    #[test]
    fn every_reply_is_read_from_any_piece_of_it_on() {
        for (bytes, reply) in [
            ("+OK\r\n", text("OK")),
            ("-NOPERM no\r\n", Reply::Error("NOPERM no".to_owned())),
            (":-7\r\n", Reply::Integer(-7)),
            ("$5\r\na\r\nbc\r\n", text("a\r\nbc")),
            ("$0\r\n\r\n", text("")),
            ("$-1\r\n", Reply::Nil),
            ("*-1\r\n", Reply::Nil),
            ("*0\r\n", Reply::List(Vec::new())),
            (
                "*2\r\n$1\r\na\r\n*1\r\n:1\r\n",
                Reply::List(vec![text("a"), Reply::List(vec![Reply::Integer(1)])]),
            ),
        ] {
            let more = format!("{bytes}+next\r\n");
            assert_eq!(parse(more.as_bytes()), Ok(Some((reply, bytes.len()))), "{bytes:?}");
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes.as_bytes()[..cut]), Ok(None), "{:?}", &bytes[..cut]);
            }
        }
    }

    #[test]
    fn what_is_none_or_has_no_bound_is_refused() {
        let deep = "*1\r\n".repeat(6);
        let long = "+".to_owned() + &"x".repeat(LONGEST_LINE + 1);
        let others = [
            "HTTP/1.1 400\r\n",
            "$x\r\n",
            "$99999999999\r\n",
            "*99999999999\r\n",
            "$-2\r\n",
            "\r\n",
            "$1\r\nabc\r\n",
        ];
        for bytes in others.into_iter().chain([deep.as_str(), long.as_str()]) {
            assert_eq!(parse(bytes.as_bytes()), Err(Malformed), "{:?}", &bytes[..bytes.len().min(20)]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_makes_it_panic_or_read_too_far(bytes in proptest::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'1'), Just(b'-'), any::<u8>()
        ], 0..64)) {
            if let Ok(Some((_, used))) = parse(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn what_is_sent_is_read_as_it_was(words in proptest::collection::vec(".*", 0..6)) {
            let mut sent = Zeroizing::new(Vec::new());
            encode(&words.iter().map(String::as_str).collect::<Vec<_>>(), &mut sent);
            let items = words.iter().map(|word| text(word)).collect();
            prop_assert_eq!(parse(&sent), Ok(Some((Reply::List(items), sent.len()))));
        }
    }
}
