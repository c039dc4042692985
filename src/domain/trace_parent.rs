//! The trace that a process is a part of, as W3C Trace Context writes it.

use std::fmt;
use std::str::FromStr;

/// A `traceparent`: the trace, and the span that called. In its text form: `00-TRACE-SPAN-FLAGS`, in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not all zero.
    pub trace: [u8; 16],
    /// The span; not all zero.
    pub span: [u8; 8],
    /// Bit 0: the trace is kept (sampled).
    pub flags: u8,
}

/// A text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not a valid traceparent (00-TRACE-SPAN-FLAGS, in lower-case hex)")]
pub struct BadTraceParent;

impl TraceParent {
    /// Whether whoever began the trace wants it kept.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl FromStr for TraceParent {
    type Err = BadTraceParent;

    fn from_str(text: &str) -> Result<Self, BadTraceParent> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(BadTraceParent);
        let (version, trace, span, flags) = (part()?, part()?, part()?, part()?);
        let more = parts.next().is_some();
        let [version] = bytes(version)?;
        // A later version may say more behind the flags; 255 is forbidden.
        if version == 0xff || (version == 0 && more) {
            return Err(BadTraceParent);
        }
        let (trace, span, [flags]) = (bytes(trace)?, bytes(span)?, bytes(flags)?);
        if trace == [0; 16] || span == [0; 8] {
            return Err(BadTraceParent);
        }
        Ok(Self { trace, span, flags })
    }
}

/// Lower-case hex, of just so many bytes.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], BadTraceParent> {
    if text.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(BadTraceParent);
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| BadTraceParent)?;
    Ok(bytes)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", hex::encode(self.trace), hex::encode(self.span), self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_the_specification_allows_is_read_and_nothing_else() {
        let parent: TraceParent = GOOD.parse().expect("valid");
        assert!(parent.is_sampled() && parent.to_string() == GOOD);
        let later = format!("{}-more", GOOD.replacen("00", "cc", 1));
        assert_eq!(later.parse(), Ok(parent));
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!unsampled.parse::<TraceParent>().expect("valid").is_sampled());
        for bad in [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &GOOD[..GOOD.len() - 1],
            &GOOD.replace("b7ad6b7169203331", "0000000000000000"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", "00000000000000000000000000000000"),
            &GOOD.replace("0af7", "0ag7"),
            &GOOD.replace("0af7", "0áf"),
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(BadTraceParent), "{bad}");
        }
    }
}
