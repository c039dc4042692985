//! Ways to read a text: each byte of a view knows where in the text it comes from.

use std::ops::Range;

use zeroize::Zeroize as _;

/// Shorter runs of digits are numbers and words, not an encoding of a secret that counts.
const SHORTEST_RUN: usize = 5;
/// As few binary digits are no secret that counts, and ordinary texts have fewer.
const FEWEST_BITS: usize = 32;
/// A list of numbers that is shorter is no secret that counts.
const FEWEST_NUMBERS: usize = 4;
/// How many characters may stand between two numbers of a list.
const WIDEST_GAP: usize = 6;

/// A text, read in some way.
#[derive(Default)]
pub(super) struct View {
    bytes: Vec<u8>,
    /// From where to where in the text each byte was read. Ordered, forwards or backwards.
    from: Vec<(u32, u32)>,
}

impl View {
    /// The text as it is.
    pub(super) fn of(text: &str) -> Self {
        let from = (0..u32::try_from(text.len()).unwrap_or(u32::MAX)).map(|at| (at, at + 1)).collect();
        Self { bytes: text.as_bytes().to_vec(), from }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len().min(self.from.len())
    }

    pub(super) fn lower(&self) -> Vec<u8> {
        self.bytes.to_ascii_lowercase()
    }

    /// Without the bytes that are not wanted.
    pub(super) fn only(&self, wanted: impl Fn(u8) -> bool) -> Self {
        let mut view = Self::default();
        for at in (0..self.len()).filter(|at| wanted(self.bytes[*at])) {
            view.push(self.bytes[at], self.from[at]);
        }
        view
    }

    pub(super) fn reversed(&self) -> Self {
        let bytes = self.bytes.iter().rev().copied().collect();
        Self { bytes, from: self.from.iter().rev().copied().collect() }
    }

    /// Marks the part of the text that a run of this view was read from.
    pub(super) fn mark(&self, run: Range<usize>, hit: &mut [bool]) {
        for at in self.origin(run) {
            if let Some(hit) = hit.get_mut(at) {
                *hit = true;
            }
        }
    }

    /// How much of the text a run of this view was read from.
    pub(super) fn extent(&self, run: Range<usize>) -> usize {
        self.origin(run).len()
    }

    fn origin(&self, run: Range<usize>) -> Range<usize> {
        let from = &self.from[run];
        let start = from.iter().map(|(start, _)| *start).min().unwrap_or_default();
        let end = from.iter().map(|(_, end)| *end).max().unwrap_or_default();
        start as usize..end as usize
    }

    fn push(&mut self, byte: u8, from: (u32, u32)) {
        self.bytes.push(byte);
        self.from.push(from);
    }

    fn push_char(&mut self, c: char, from: (u32, u32)) {
        let mut buffer = [0; 4];
        c.encode_utf8(&mut buffer).bytes().for_each(|byte| self.push(byte, from));
    }

    /// Hands over every view of what this one may be an encoding of.
    pub(super) fn decoded(&self, each: &mut dyn FnMut(Self)) {
        if self.bytes.iter().any(|b| matches!(b, b'%' | b'\\' | b'&')) {
            let plain = self.unescaped();
            if plain.len() < self.len() {
                each(plain);
            }
        }
        let space = |b: u8| b.is_ascii_whitespace();
        let between = |b: u8| b.is_ascii_whitespace() || matches!(b, b':' | b'-' | b',');
        self.digits(4, 2, &nibble, &between, each);
        self.digits(6, 4, &six_bits, &space, each);
        self.digits(5, 8, &five_bits, &space, each);
        self.numbers(each);
        self.rare(each);
    }

    /// Hands over the views that need something in the text that few texts have.
    fn rare(&self, each: &mut dyn FnMut(Self)) {
        let equals = self.bytes.contains(&b'=');
        let bits = self.bytes.iter().filter(|b| matches!(b, b'0' | b'1')).count();
        if equals {
            let plain = self.quoted_printable();
            if plain.len() < self.len() {
                each(plain);
            }
        }
        if bits >= FEWEST_BITS {
            let bit = |b: u8| matches!(b, b'0' | b'1').then(|| b - b'0');
            let between = |b: u8| b.is_ascii_whitespace() || matches!(b, b',' | b'-' | b'_');
            self.digits(1, 8, &bit, &between, each);
        }
        if bits >= 3 && self.bytes.windows(3).any(|three| three == b"000") {
            self.dump(each);
        }
    }

    /// Quoted-printable: `=6F`, and lines that end in `=`.
    fn quoted_printable(&self) -> Self {
        let mut view = Self::default();
        let mut at = 0;
        while at < self.len() {
            let (length, byte) = match &self.bytes[at..self.len()] {
                [b'=', b'\r', b'\n', ..] => (3, None),
                [b'=', b'\n', ..] => (2, None),
                [b'=', high, low, ..] => match (nibble(*high), nibble(*low)) {
                    (Some(high), Some(low)) => (3, Some(high << 4 | low)),
                    _ => (1, Some(b'=')),
                },
                rest => (1, rest.first().copied()),
            };
            if let Some(byte) = byte {
                view.push(byte, self.span(at..at + length));
            }
            at += length;
        }
        view
    }

    /// The two columns of a dump by `xxd`, `hexdump` or `od`, each without offsets: the digits as bytes, in
    /// either order of bytes, and what stands beside them. An offset has seven or eight digits and begins with `000`.
    fn dump(&self, each: &mut dyn FnMut(Self)) {
        let (mut straight, mut swapped, mut beside) = (Self::default(), Self::default(), Self::default());
        let mut digits = false;
        let mut dumps = false;
        let mut at = 0;
        while at < self.len() {
            let rest = &self.bytes[at..self.len()];
            if rest[0].is_ascii_whitespace() {
                at += 1;
                continue;
            }
            let length = rest.iter().take_while(|b| !b.is_ascii_whitespace()).count();
            let token = &rest[..length];
            let name = token.strip_suffix(b":").unwrap_or(token);
            let hex = name.iter().all(|b| nibble(*b).is_some());
            if hex && matches!(name.len(), 7 | 8) && name.starts_with(b"000") {
                (digits, dumps) = (true, true);
            } else if dumps && digits && hex && matches!(length, 2 | 4) {
                let pair = |from: usize| {
                    let value = token[from..from + 2].iter().fold(0, |n, b| n << 4 | nibble(*b).unwrap_or(0));
                    (value, self.span(at + from..at + from + 2))
                };
                let pairs: Vec<_> = (0..length).step_by(2).map(pair).collect();
                pairs.iter().for_each(|(value, from)| straight.push(*value, *from));
                pairs.iter().rev().for_each(|(value, from)| swapped.push(*value, *from));
            } else if dumps {
                digits = false;
                (at..at + length).for_each(|at| beside.push(self.bytes[at], self.from[at]));
            }
            at += length;
        }
        if dumps {
            [straight, swapped, beside].into_iter().for_each(each);
        }
    }

    /// From where to where in the text these bytes were read.
    fn span(&self, at: Range<usize>) -> (u32, u32) {
        let (first, last) = (self.from[at.start], self.from[at.end - 1]);
        (first.0.min(last.0), first.1.max(last.1))
    }

    /// Percent signs, backslashes and entities decoded, whichever stand here.
    fn unescaped(&self) -> Self {
        let mut view = Self::default();
        let mut at = 0;
        while at < self.len() {
            let rest = &self.bytes[at..self.bytes.len().min(at + 12)];
            let (length, value) = escape(rest).unwrap_or((1, Escaped::Byte(self.bytes[at])));
            let from = (
                self.from[at].0.min(self.from[at + length - 1].0),
                self.from[at + length - 1].1.max(self.from[at].1),
            );
            match value {
                Escaped::Byte(byte) => view.push(byte, from),
                Escaped::Char(c) => view.push_char(c, from),
            }
            at += length;
        }
        view
    }

    /// Runs of digits of so many bits, with what may stand between them: as bytes, in each alignment.
    fn digits(
        &self,
        bits: u32,
        alignments: usize,
        digit: &dyn Fn(u8) -> Option<u8>,
        between: &dyn Fn(u8) -> bool,
        each: &mut dyn FnMut(Self),
    ) {
        let mut run: Vec<(u8, (u32, u32))> = Vec::new();
        for at in 0..=self.len() {
            let byte = self.bytes.get(at).copied().filter(|_| at < self.len());
            if let Some(value) = byte.and_then(digit) {
                run.push((value, self.from[at]));
            } else if byte.is_none_or(|b| !between(b)) {
                if run.len() >= SHORTEST_RUN {
                    (0..alignments.min(run.len())).for_each(|first| each(joined(&run[first..], bits)));
                }
                run.clear();
            }
        }
    }

    /// Lists of numbers, as programs print bytes and characters: decimal, octal, and hexadecimal with `0x`, `x` or
    /// `U+` before each, with `chr(…)` or punctuation around them.
    fn numbers(&self, each: &mut dyn FnMut(Self)) {
        let mut lists = [Self::default(), Self::default(), Self::default()];
        let mut gap = 0;
        let mut at = 0;
        while at < self.len() {
            let rest = &self.bytes[at..self.len()];
            let length = rest.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
            if length == 0 {
                gap += 1;
                at += 1;
                if gap > WIDEST_GAP {
                    flush(&mut lists, each);
                }
                continue;
            }
            let token = &rest[..length];
            // The name of a function, or the `U` of `U+006F`, stands before the number that counts.
            let next = rest.get(length);
            let call = next == Some(&b'(')
                && [&b"chr"[..], b"char", b"nchar", b"unichr"]
                    .iter()
                    .any(|name| token.eq_ignore_ascii_case(name));
            let plus = matches!(token, b"U" | b"u") && next == Some(&b'+');
            if call || plus {
                gap = 0;
                at += length;
                continue;
            }
            let prefixed =
                |prefixes: &[&[u8]]| prefixes.iter().find_map(|p| token.strip_prefix(*p)).unwrap_or(b"");
            let code_point =
                at >= 2 && self.bytes[at - 1] == b'+' && matches!(self.bytes[at - 2], b'U' | b'u');
            let hex = if code_point { token } else { prefixed(&[b"0x", b"0X", b"x", b"u"]) };
            let octal = token.strip_prefix(b"0o").unwrap_or(token);
            let values = [number(token, 10), number(octal, 8), number(hex, 16)];
            let from = self.span(at..at + length);
            for (list, value) in lists.iter_mut().zip(values) {
                match value {
                    Some(byte @ ..=0xff) if !code_point => list.push(byte as u8, from),
                    Some(code) if char::from_u32(code).is_some() && hex.len() >= 4 => {
                        list.push_char(char::from_u32(code).unwrap_or_default(), from);
                    }
                    _ => flush(std::slice::from_mut(list), each),
                }
            }
            gap = 0;
            at += length;
        }
        flush(&mut lists, each);
    }
}

/// Hands over the lists that are long enough to be a text, and begins new ones.
fn flush(lists: &mut [View], each: &mut dyn FnMut(View)) {
    for list in lists.iter_mut().filter(|list| list.len() > 0) {
        let full = std::mem::take(list);
        if full.len() >= FEWEST_NUMBERS {
            each(full);
        }
    }
}

/// A number in this base, if it is one of at most six digits.
fn number(digits: &[u8], base: u32) -> Option<u32> {
    let all = || digits.iter().map(|b| (*b as char).to_digit(base));
    ((1..=6).contains(&digits.len()) && all().all(|digit| digit.is_some()))
        .then(|| all().flatten().fold(0, |n, digit| n * base + digit))
}

fn nibble(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

impl Drop for View {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

enum Escaped {
    Byte(u8),
    Char(char),
}

/// What the escape in front of these bytes stands for, and how long it is.
fn escape(bytes: &[u8]) -> Option<(usize, Escaped)> {
    let text = |range: Range<usize>| bytes.get(range).and_then(|part| std::str::from_utf8(part).ok());
    let hex = |range| text(range).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let octal = |range: Range<usize>| {
        let digits = text(range).filter(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'7')))?;
        u32::from_str_radix(digits, 8).ok()
    };
    let byte = |length, value: Option<u32>| {
        value.and_then(|v| u8::try_from(v).ok()).map(|v| (length, Escaped::Byte(v)))
    };
    let char =
        |length, value: Option<u32>| value.and_then(char::from_u32).map(|c| (length, Escaped::Char(c)));
    match (bytes.first()?, bytes.get(1)?) {
        (b'%', _) => byte(3, hex(1..3)),
        (b'\\', b'x' | b'u') if bytes.get(2) == Some(&b'{') => {
            let end = bytes.iter().position(|b| *b == b'}')?;
            char(end + 1, hex(3..end))
        }
        (b'\\', b'x') => byte(4, hex(2..4)),
        (b'\\', b'U') => char(10, hex(2..10)),
        // `\157`, and `\0157` as `echo` has it.
        (b'\\', b'0'..=b'7') if octal(2..4).is_some() => match octal(2..5).filter(|_| bytes[1] == b'0') {
            Some(value) => byte(5, Some(value)),
            None => byte(4, octal(1..4)),
        },
        (b'\\', b'u') => match (hex(2..6), hex(8..12)) {
            (Some(high @ 0xd800..0xdc00), Some(low @ 0xdc00..0xe000)) => {
                char(12, Some(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)))
            }
            (one, _) => char(6, one),
        },
        (b'\\', b'n' | b'r' | b't') => Some((2, Escaped::Byte(b' '))),
        (b'\\', other) => Some((2, Escaped::Byte(*other))),
        (b'&', _) => {
            let end = bytes.iter().position(|b| *b == b';')?;
            let c = match text(1..end)? {
                "amp" => '&',
                "lt" => '<',
                "gt" => '>',
                "quot" => '"',
                "apos" => '\'',
                number => {
                    let number = number.strip_prefix('#')?;
                    let hex = number.strip_prefix(['x', 'X']).map(|hex| u32::from_str_radix(hex, 16));
                    char::from_u32(hex.unwrap_or_else(|| number.parse()).ok()?)?
                }
            };
            Some((end + 1, Escaped::Char(c)))
        }
        _ => None,
    }
}

/// The bytes that digits of so many bits make.
fn joined(digits: &[(u8, (u32, u32))], bits: u32) -> View {
    let mut view = View::default();
    let (mut value, mut have, mut first) = (0_u32, 0, digits[0].1.0);
    for (digit, (start, end)) in digits {
        if have == 0 {
            first = *start;
        }
        value = (value << bits | u32::from(*digit)) & 0xffff;
        have += bits;
        if have >= 8 {
            have -= 8;
            view.push((value >> have & 0xff) as u8, (first.min(*start), (*end).max(first + 1)));
            first = *start;
        }
    }
    view
}

/// A digit of base64, in either alphabet.
fn six_bits(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// A digit of base32 (RFC 4648), in either case.
fn five_bits(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a',
        b'2'..=b'7' => byte - b'2' + 26,
        _ => return None,
    })
}
