//! Texts made fit for a channel: escaped first, then cut, so that nothing is cut in two.

/// What is at the end of a text that was cut.
const CUT: &str = "…";

/// A text as Slack's `mrkdwn` takes it, so that it is a text and nothing else: no mention, no link. Mentions that
/// need no markup in what accepts Slack's webhooks elsewhere (`@channel`) are broken as well.
pub(super) fn slack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("@\u{200b}"),
            c => out.push(c),
        }
    }
    out
}

/// A text of at most `most` units, cut between whole characters and entities. A unit is one of UTF-16: whatever
/// way a channel counts characters, it does not count more.
pub(super) fn cut(text: &str, most: usize) -> String {
    if units(text) <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub(units(CUT));
    let (mut end, mut used) = (0, 0);
    for piece in pieces(text) {
        used += units(piece);
        if used > room {
            break;
        }
        end += piece.len();
    }
    format!("{}{CUT}", text[..end].trim_end())
}

pub(super) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// What must not be cut in two: an entity, or a character with what belongs to it.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let length = entity(rest).unwrap_or_else(|| character(rest));
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece)
    })
}

/// The length of an entity at the beginning of a text.
fn entity(text: &str) -> Option<usize> {
    ["&amp;", "&lt;", "&gt;"].iter().find(|entity| text.starts_with(**entity)).map(|entity| entity.len())
}

/// The length of the first character of a text, with the marks on it and what is joined to it.
fn character(text: &str) -> usize {
    let joins = |c: char| c == '\u{200d}';
    let belongs = |c: char| {
        matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{20d0}'..='\u{20ff}' | '\u{200b}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}')
    };
    let flag = |c: char| ('\u{1f1e6}'..='\u{1f1ff}').contains(&c);
    let mut length = 0;
    let mut before: Option<char> = None;
    let mut flags = 0;
    for c in text.chars() {
        let goes_on = match before {
            None => true,
            // An entity begins here, whatever would join it.
            Some(_) if c == '&' => false,
            Some(last) => belongs(c) || joins(c) || joins(last) || flag(c) && flag(last) && flags == 1,
        };
        if !goes_on {
            break;
        }
        flags += usize::from(flag(c));
        length += c.len_utf8();
        before = Some(c);
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escaped_first_and_then_cut_between_whole_pieces() {
        assert_eq!(slack("a <!channel> & <@U1>"), "a &lt;!channel&gt; &amp; &lt;@\u{200b}U1&gt;");
        assert_eq!(cut("ab&amp;cd", 6), "ab…", "an entity is not cut in two");
        assert_eq!(cut("ab&amp;cd", 9), "ab&amp;cd");
        assert_eq!(cut("ab&amp;cde", 8), "ab&amp;…");
        assert_eq!(cut("e\u{301}e\u{301}e\u{301}", 4), "e\u{301}…", "nor a letter from its accent");
        let family = "👨\u{200d}👩\u{200d}👧";
        assert_eq!(cut(&format!("a{family}b"), 8), "a…", "nor a family");
        assert_eq!(cut("🇩🇪🇫🇷", 6), "🇩🇪…", "nor a flag");
        assert_eq!(cut("abc", 3), "abc");
    }

    proptest! {
        /// Whatever the text: it fits, it is a text of whole entities, and nothing in it is markup.
        #[test]
        fn nothing_escapes_and_nothing_is_too_long(text in "[a-z<>&@!#|👨\u{200d}👩🇩🇪\u{301}]{0,80}", most in 1_usize..60) {
            let fit = cut(&slack(&text), most);
            prop_assert!(units(&fit) <= most.max(1), "{fit}");
            prop_assert!(!fit.contains('<') && !fit.contains('>'));
            for part in fit.split('&').skip(1) {
                prop_assert!(["amp;", "lt;", "gt;"].iter().any(|entity| part.starts_with(entity)), "{fit}");
            }
        }
    }
}
