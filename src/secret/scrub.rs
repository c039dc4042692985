//! Taking secrets out of texts that came from outside: messages of servers and programs, which may
//! echo what they were sent, and in another form.
//!
//! A text is looked at in several views: as it is, with its escapes decoded, as hexadecimal digits,
//! as base64 and base32 in each alignment, backwards, and without what separates letters. In each of them any long
//! enough run of characters of any secret is searched, without regard to case. So an encoding inside
//! another one is found as well, and so is a part of a secret.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::view::View;
use super::{Material, Secret};

/// What stands in a secret's place.
const REDACTED: &[u8] = b"[redacted]";
/// Shorter values would shred ordinary words; what is issued here is longer.
const SHORTEST: usize = 4;
/// Below this length a value must stand alone: `root` is redacted, `rooted` is not.
const NOT_A_WORD: usize = 8;
/// From this length on a part of a value is searched, too: half of it, in the bounds of `LEAST`. What
/// then may stand in a text is less than what a search by force has to find: of 24 characters, 13.
const LONG: usize = 16;
/// The bounds of the run that is searched of a long value. Eight characters of an ordinary text are
/// rarely the same by chance; twelve of a value of any length are enough to betray where it was seen.
const LEAST: (usize, usize) = (8, 12);
/// How many bytes the index knows of a place in a value.
const WINDOW: usize = 4;
/// Where the first of them stands in a value that is long enough: kinds of credentials begin alike.
const SKIP: usize = 4;
/// How many harmless texts are remembered, and how long they may be.
const REMEMBERED: (usize, usize) = (1024, 256);
/// How many hexadecimal digits a SHA-256 has.
const SHA256_DIGITS: usize = 64;
/// How many encodings may stand in each other.
const DEPTH: usize = 3;

/// One value to search, in lower case.
struct Needle {
    bytes: Zeroizing<Vec<u8>>,
    /// The shortest run that counts.
    least: usize,
    /// Whether only its letters and digits are kept, for texts without separators.
    bare: bool,
}

/// A place in a needle. Places with the same end of their hash are a list.
struct Place {
    hash: u32,
    needle: u32,
    offset: u32,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// Knows secrets, and takes them out of texts. Its memory is about four times what the secrets take.
#[derive(Default)]
pub struct Scrubber {
    needles: Vec<Needle>,
    places: Vec<Place>,
    /// The first place of each list. As many as a power of two.
    heads: Vec<u32>,
    /// Texts in which none of the needles stands. A run says most of its sentences once a credential.
    harmless: Mutex<HashSet<Box<str>>>,
    /// The SHA-256 of what was learnt, in hex. `clean` leaves it: consumers attest with it, and servers name users by it.
    digests: HashSet<String>,
}

impl std::fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrubber(…)")
    }
}

impl Scrubber {
    /// Learns the secret parts of a credential; public ones, such as an access key's id, may be shown.
    pub fn add(&mut self, material: &Material) {
        material.secret_parts().for_each(|secret| {
            self.learn(secret);
            self.digests.insert(secret.sha256_hex());
        });
        // As a store holds a credential of several parts.
        self.digests.insert(material.to_json().sha256_hex());
    }

    /// Whether a short text tells one of the secrets, or lets one be guessed: it has a part of one, or its SHA-256 in hex.
    pub fn tells(&self, text: &str) -> bool {
        let lower = text.to_ascii_lowercase();
        let mut runs = lower.as_bytes().windows(SHA256_DIGITS);
        runs.any(|run| std::str::from_utf8(run).is_ok_and(|run| self.digests.contains(run)))
            || self.clean(text) != text
    }

    fn learn(&mut self, secret: &Secret) {
        let text = secret.expose().trim();
        self.search(text);
        // The password of a connection's address, and the short lines of a long value.
        if let Some((_, rest)) = text.split_once("://")
            && let Some((user, _)) = rest.split_once('@')
            && let Some((_, password)) = user.split_once(':')
        {
            self.search(password);
        }
        if text.contains('\n') {
            let short = |line: &&str| (NOT_A_WORD..2 * LEAST.1).contains(&line.len());
            text.lines().map(str::trim).filter(short).for_each(|line| self.search(line));
        }
    }

    fn search(&mut self, text: &str) {
        let lower = text.to_ascii_lowercase().into_bytes();
        let bare: Vec<u8> = lower.iter().copied().filter(|b| is_letter(*b)).collect();
        if bare.len() >= NOT_A_WORD {
            self.insert(bare, true);
        }
        if lower.len() >= SHORTEST {
            self.insert(lower, false);
        }
    }

    fn insert(&mut self, bytes: Vec<u8>, bare: bool) {
        let bytes = Zeroizing::new(bytes);
        let long = bytes.len() >= LONG;
        let least = if long { (bytes.len() / 2).clamp(LEAST.0, LEAST.1) } else { bytes.len() };
        // Of so many neighbouring places, any run that counts has one whole.
        let stride = least - WINDOW + 1;
        let first = SKIP.min(stride - 1);
        let offsets = (first..=bytes.len() - WINDOW).step_by(stride);
        let known = |place: &Place| {
            let other = &self.needles[place.needle as usize];
            other.bare == bare && *other.bytes == *bytes
        };
        // The last place differs most among credentials of one kind.
        let last = offsets.clone().last().unwrap_or_default();
        if self.list(hash(&bytes[last..])).any(known) {
            return;
        }
        let needle = self.needles.len() as u32;
        for offset in offsets {
            self.place(hash(&bytes[offset..]), needle, offset as u32);
        }
        self.needles.push(Needle { bytes, least, bare });
        self.harmless.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn place(&mut self, hash: u32, needle: u32, offset: u32) {
        if self.places.len() >= self.heads.len() / 2 {
            let size = (self.heads.len() * 2).max(64);
            self.heads = vec![NONE; size];
            for at in 0..self.places.len() {
                let head = self.places[at].hash as usize & (size - 1);
                self.places[at].next = std::mem::replace(&mut self.heads[head], at as u32);
            }
        }
        let head = hash as usize & (self.heads.len() - 1);
        let next = std::mem::replace(&mut self.heads[head], self.places.len() as u32);
        self.places.push(Place { hash, needle, offset, next });
    }

    fn list(&self, hash: u32) -> impl Iterator<Item = &Place> {
        let head = self.heads.get(hash as usize & self.heads.len().wrapping_sub(1)).copied();
        let first = self.places.get(head.unwrap_or(NONE) as usize);
        std::iter::successors(first, |place| self.places.get(place.next as usize))
            .filter(move |place| place.hash == hash)
    }

    /// The text with `[redacted]` wherever a secret, or a part of one, stands in it.
    pub fn clean(&self, text: &str) -> String {
        if self.needles.is_empty() || text.len() < SHORTEST {
            return text.to_owned();
        }
        if self.harmless().contains(text) {
            return text.to_owned();
        }
        let mut hit = vec![false; text.len()];
        self.look(&View::of(text), DEPTH, &mut hit);
        if !hit.contains(&true) {
            let mut harmless = self.harmless();
            if harmless.len() < REMEMBERED.0 && text.len() <= REMEMBERED.1 {
                harmless.insert(text.into());
            }
            return text.to_owned();
        }
        let mut clean = Vec::with_capacity(text.len());
        let mut within = false;
        for (start, c) in text.char_indices() {
            let end = start + c.len_utf8();
            let redact = hit[start..end].contains(&true);
            if redact && !within {
                clean.extend_from_slice(REDACTED);
            } else if !redact {
                clean.extend_from_slice(&text.as_bytes()[start..end]);
            }
            within = redact;
        }
        String::from_utf8_lossy(&clean).into_owned()
    }

    fn harmless(&self) -> MutexGuard<'_, HashSet<Box<str>>> {
        self.harmless.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks in `hit` what of the text is a secret in this view of it, or in a view of this one.
    fn look(&self, view: &View, depth: usize, hit: &mut [bool]) {
        if view.len() < SHORTEST {
            return;
        }
        let bare = view.only(is_letter);
        self.find(view, false, hit);
        self.find(&view.reversed(), false, hit);
        self.find(&bare, true, hit);
        self.find(&bare.reversed(), true, hit);
        if depth > 0 {
            view.decoded(&mut |inner| self.look(&inner, depth - 1, hit));
        }
    }

    fn find(&self, view: &View, bare: bool, hit: &mut [bool]) {
        let text = view.lower();
        let mut at = 0;
        while at + WINDOW <= text.len() {
            let mut end = at;
            for place in self.list(hash(&text[at..])) {
                let needle = &self.needles[place.needle as usize];
                if needle.bare != bare {
                    continue;
                }
                let (before, after) = needle.bytes.split_at(place.offset as usize);
                let same = |(a, b): &(&u8, &u8)| a == b;
                let left = before.iter().rev().zip(text[..at].iter().rev()).take_while(same).count();
                let right = after.iter().zip(&text[at..]).take_while(same).count();
                let run = at - left..at + right;
                if left + right >= needle.least && self.counts(needle, &text, run.clone(), view) {
                    view.mark(run, hit);
                    end = end.max(at + right);
                }
            }
            at = end.max(at + 1);
        }
    }

    /// Whether a run that is long enough is no ordinary word, or several of them.
    fn counts(&self, needle: &Needle, text: &[u8], run: std::ops::Range<usize>, view: &View) -> bool {
        if needle.bare {
            // Short ones only letter by letter: `h u n t e r`.
            return run.len() >= LEAST.1 || view.extent(run.clone()) >= 2 * run.len() - 1;
        }
        let letter = |at: Option<usize>| {
            at.and_then(|at| text.get(at)).is_some_and(|b| is_letter(*b) || !b.is_ascii())
        };
        needle.bytes.len() >= NOT_A_WORD || !(letter(run.start.checked_sub(1)) || letter(Some(run.end)))
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

/// A hash of the first bytes (FNV-1a, whose last bits are folded): not enough to tell what they were.
fn hash(bytes: &[u8]) -> u32 {
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = bytes[..WINDOW].iter().fold(0x811c_9dc5, fold);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    fn knowing(secrets: &[&str]) -> Scrubber {
        let mut scrubber = Scrubber::default();
        secrets.iter().for_each(|s| scrubber.add(&Material::single("value", Secret::new(*s))));
        scrubber
    }

    fn percent(text: &str, keep: fn(&u8) -> bool, lower: bool) -> String {
        let one = |b: u8| match (keep(&b), lower) {
            (true, _) => char::from(b).to_string(),
            (false, false) => format!("%{b:02X}"),
            (false, true) => format!("%{b:02x}"),
        };
        text.bytes().map(one).collect()
    }

    /// Base32 with its padding, as RFC 4648 has it.
    fn base32(text: &str) -> String {
        let mut bits: String = text.bytes().map(|b| format!("{b:08b}")).collect();
        bits.push_str(&"0".repeat(bits.len().next_multiple_of(5) - bits.len()));
        let digit = |five: &[u8]| {
            let at = five.iter().fold(0, |n, bit| n * 2 + usize::from(bit - b'0'));
            char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[at])
        };
        let mut out: String = bits.as_bytes().chunks(5).map(digit).collect();
        out.push_str(&"=".repeat(out.len().next_multiple_of(8) - out.len()));
        out
    }

    /// Every way in which a server or a program could repeat a text.
    fn forms(secret: &str) -> Vec<String> {
        let bytes = secret.as_bytes();
        let list = |sep: &str, form: fn(&u8) -> String| bytes.iter().map(form).collect::<Vec<_>>().join(sep);
        let spaced = |sep: &str| secret.chars().map(String::from).collect::<Vec<_>>().join(sep);
        let mut forms = vec![
            secret.to_owned(),
            secret.to_uppercase(),
            secret.to_lowercase(),
            secret.chars().rev().collect(),
            spaced(" "),
            spaced("-"),
            hex::encode(bytes),
            hex::encode_upper(bytes),
            list(":", |b| format!("{b:02x}")),
            list("", |b| format!("\\x{b:02x}")),
            list(", ", |b| b.to_string()),
            list(" ", |b| b.to_string()),
            list("", |b| format!("\\{b:03o}")),
            list("", |b| format!("\\0{b:03o}")),
            list(" ", |b| format!("{b:03o}")),
            list(", ", |b| format!("0{b:o}")),
            list(", ", |b| format!("0o{b:o}")),
            list(", ", |b| format!("0x{b:02x}")),
            list(" ", |b| format!("0X{b:02X}")),
            list("", |b| format!("={b:02X}")),
            list("=\r\n", |b| char::from(*b).to_string()).chars().filter(char::is_ascii).collect::<String>(),
            secret.chars().map(|c| format!("U+{:04X}", c as u32)).collect::<Vec<_>>().join(" "),
            secret.chars().map(|c| format!("\\u{{{:x}}}", c as u32)).collect(),
            secret.chars().map(|c| format!("\\U{:08x}", c as u32)).collect(),
            list("||", |b| format!("chr({b})")),
            list(" . ", |b| format!("CHAR({b})")),
            list(" ", |b| format!("{b:08b}")),
            list("", |b| format!("{b:08b}")),
            percent(secret, |_| false, false),
            percent(secret, |_| false, true),
            percent(secret, u8::is_ascii_alphanumeric, false),
            percent(&percent(secret, |_| false, false), u8::is_ascii_alphanumeric, false),
            serde_json::to_string(secret).expect("JSON"),
            serde_json::to_string(&serde_json::to_string(secret).expect("JSON")).expect("JSON"),
            secret.encode_utf16().map(|u| format!("\\u{u:04x}")).collect(),
            format!("{secret:?}"),
            secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;"),
            secret.bytes().map(|b| format!("&#x{b:x};")).collect(),
            format!("'{}'", secret.replace('\'', "'\\''")),
            STANDARD.encode(STANDARD.encode(format!("u:{secret}"))),
            percent(&STANDARD.encode(secret), u8::is_ascii_alphanumeric, false),
        ];
        for front in ["", "u", "us", "user:"] {
            for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
                forms.push(engine.encode(format!("{front}{secret}\n")));
            }
        }
        for front in ["", "u", "us", "use", "user"] {
            let padded = base32(&format!("{front}{secret}"));
            forms.extend([padded.trim_end_matches('=').to_lowercase(), padded.to_lowercase(), padded]);
        }
        forms.push(base32(&STANDARD_NO_PAD.encode(secret)));
        let lines = STANDARD.encode(format!("user:{secret}:{secret}"));
        forms.push(lines.as_bytes().chunks(20).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\r\n"));
        forms
    }

    #[test]
    fn the_base32_of_these_tests_is_that_of_the_rfc() {
        assert_eq!(base32("foobar"), "MZXW6YTBOI======");
        assert_eq!(base32("fooba"), "MZXW6YTB");
    }

    /// A trace of a text: any of its letters in a row.
    fn trace(text: &str, of: &str) -> bool {
        let of: Vec<char> = of.chars().collect();
        of.windows(8.min(of.len())).any(|part| text.contains(&part.iter().collect::<String>()))
    }

    #[test]
    fn no_form_of_a_secret_is_left() {
        for secret in [
            "hunter2-Horse",
            "q8#Z(k!x<Vw&7=r_Tn:5.b",
            "hvs.CAESIJq3Zx0000Yk2b8wWm5s",
            "J9fQv2Lr8TzXk4WmB7NcPd3HsY6gAe1UoR5iKt0q",
            "pässwörd-für-ünïcode",
        ] {
            let scrubber = knowing(&["another-one-entirely", secret, "hvs.CAESIzzzzzzzzzzzzzzzzzzz"]);
            for form in forms(secret) {
                let text = format!("denied: {form} was not accepted");
                let clean = scrubber.clean(&text);
                assert!(clean.contains("[redacted]"), "{secret}: {text}");
                assert!(!trace(&clean, &form), "{secret}: {text}: {clean}");
                assert!(clean.starts_with("denied: ") && clean.ends_with(" was not accepted"), "{clean}");
            }
        }
    }

    /// The last line of a dump holds too little to count by itself.
    #[test]
    fn no_line_of_a_dump_is_left() {
        let secret = "J9fQv2Lr8TzXk4WmB7NcPd3HsY6gAe1UoR5iKt0q";
        let line = |digits: fn(&[u8]) -> String, bar: &str| {
            let lines = secret.as_bytes().chunks(16).enumerate();
            let one = |(n, part): (usize, &[u8])| {
                format!("{:08x}: {}  {bar}{}{bar}", n * 16, digits(part), String::from_utf8_lossy(part))
            };
            lines.map(one).collect::<Vec<_>>().join("\n")
        };
        let straight = |part: &[u8]| part.chunks(2).map(hex::encode).collect::<Vec<_>>().join(" ");
        let swapped = |part: &[u8]| {
            part.chunks(2)
                .map(|two| two.iter().rev().map(|b| format!("{b:02x}")).collect())
                .collect::<Vec<String>>()
                .join(" ")
        };
        let folded = secret.as_bytes().chunks(9).map(String::from_utf8_lossy).collect::<Vec<_>>().join("\n");
        for dump in [line(straight, ""), line(straight, "|"), line(swapped, "|"), folded] {
            let clean = knowing(&[secret]).clean(&dump);
            assert!(!trace(&clean, secret) && !trace(&clean, &hex::encode(&secret[32..])), "{dump}: {clean}");
            assert!(clean.len() < dump.len() / 2, "{dump}: {clean}");
        }
    }

    #[test]
    fn half_of_a_long_secret_is_one() {
        let secret = "J9fQv2Lr8TzXk4WmB7NcPd3HsY6gAe1UoR5iKt0q";
        let scrubber = knowing(&[secret, "hvs.CAESIJq3Zx0000Yk2b8wWm5s", "0123456789abcdef"]);
        for start in 0..=secret.len() - 12 {
            for form in forms(&secret[start..start + 12]) {
                assert!(scrubber.clean(&form).contains("[redacted]"), "{form}");
            }
        }
        assert_eq!(scrubber.clean("hvs.CAESIJq3Z…"), "[redacted]…");
        assert_eq!(scrubber.clean("01234567 (first), 89abcdef"), "[redacted] (first), [redacted]");
        // Less than that is how people tell two of them apart.
        assert_eq!(scrubber.clean("J9fQv2Lr…, 0q"), "J9fQv2Lr…, 0q");
    }

    /// A text that was harmless is looked at again once there is more to find.
    #[test]
    fn a_secret_is_found_in_a_text_that_was_harmless_before_it_was_learnt() {
        let mut scrubber = knowing(&["another-one-entirely"]);
        let text = "403 for hunter2-Horse";
        assert_eq!((scrubber.clean(text), scrubber.clean(text)), (text.to_owned(), text.to_owned()));
        scrubber.add(&Material::single("value", Secret::new("hunter2-Horse")));
        assert_eq!(scrubber.clean(text), "403 for [redacted]");
    }

    #[test]
    fn parts_of_a_value_that_are_secrets_by_themselves() {
        let scrubber = knowing(&["postgres://app:hunter2@db.internal/app", "user=app\npin=hunter7\n"]);
        assert_eq!(scrubber.clean("login failed for app (hunter2)"), "login failed for app ([redacted])");
        assert_eq!(scrubber.clean("line 2: pin=hunter7"), "line 2: [redacted]");
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n";
        assert_eq!(knowing(&[key]).clean("at MIIEvQIBADANBgkqhkiG9w0BAQEFAASC"), "at [redacted]");
    }

    #[test]
    fn public_parts_and_ordinary_words_stay() {
        let key = Material::single("access_key_id", Secret::new("AKIAIOSFODNN7EXAMPLE"))
            .with("secret_access_key", Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
        let text = "AKIAIOSFODNN7EXAMPLE (active), and wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(key.scrub(text), "AKIAIOSFODNN7EXAMPLE (active), and [redacted]");
        let scrubber = knowing(&["root", "oldvalue", "prod"]);
        for text in ["the old value of production is rooted", "", "ab", "root-cause: no", "é€ 12, 34"] {
            let expected = text.replace("root-", "[redacted]-");
            assert_eq!(scrubber.clean(text), expected);
        }
        assert_eq!(scrubber.clean("x=oldvalue1 Root é"), "x=[redacted]1 [redacted] é");
    }

    #[test]
    fn ten_thousand_secrets_are_searched_at_once() {
        let recipe = crate::secret::Recipe::new(crate::secret::Alphabet::Alphanumeric, 40).expect("recipe");
        let secrets: Vec<Secret> =
            (0..10_000).map(|_| Secret::new(format!("hvs.CAESI{}", recipe.generate().expose()))).collect();
        let mut scrubber = Scrubber::default();
        secrets.iter().for_each(|s| scrubber.add(&Material::single("token", s.clone())));
        let size = scrubber.places.len();
        secrets.iter().for_each(|s| scrubber.add(&Material::single("token", s.clone())));
        assert_eq!(scrubber.places.len(), size, "what is known already is not kept twice");
        assert!(size * size_of::<Place>() < 4 << 20);
        for secret in secrets.iter().step_by(997) {
            let text = format!("403 for {}", STANDARD.encode(format!("x:{}", secret.expose())));
            assert_eq!(scrubber.clean(&text), "403 for eD[redacted]");
        }
        let plain = "the server is sealed: ask its operators to unseal it, then resume the run";
        assert_eq!(scrubber.clean(plain), plain);
    }
}
