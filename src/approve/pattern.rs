//! OpenSSH's lists of patterns (`ssh_config(5)`, PATTERNS).

/// Longer patterns match nothing, as in OpenSSH.
const LONGEST: usize = 1023;

/// Whether a text matches a comma-separated list: at least one pattern of it, and none that begins with `!`.
pub(super) fn list_matches(text: &str, list: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',') {
        let (negated, pattern) = match pattern.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        if pattern.len() >= LONGEST {
            return false;
        }
        if matches(text.as_bytes(), pattern.as_bytes()) {
            if negated {
                return false;
            }
            found = true;
        }
    }
    found
}

/// Whether a text matches one pattern: `*` is any text, `?` any character.
fn matches(text: &[u8], pattern: &[u8]) -> bool {
    // The last `*`, and how much of the text it takes: enough to try again from, and never exponential.
    let (mut t, mut p, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (t, p) = (t + 1, p + 1),
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (t, p) = (*taken, *at + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Whether a list names only names, and no pattern.
pub(super) fn is_literal(list: &str) -> bool {
    !list.contains(['*', '?', '!'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_matches_what_openssh_says_it_matches() {
        for (text, list, expected) in [
            ("alice", "alice", true),
            ("alice", "bob,alice", true),
            ("alice", "Alice", false),
            ("alice", "al*e", true),
            ("alice", "a?ice", true),
            ("alice", "a?ce", false),
            ("alice", "*,!alice", false),
            ("alice", "!bob", false),
            ("alice", "*", true),
            ("", "*", true),
            ("a*b", "a*b", true),
            ("aXbYc", "a*b*c", true),
            ("aXbY", "a*b*c", false),
            ("alice", "", false),
            ("alice", ",", false),
        ] {
            assert_eq!(list_matches(text, list), expected, "{text} in {list}");
        }
        assert!(is_literal("a,b@c") && !is_literal("a,!b") && !is_literal("a*"));
    }
}
