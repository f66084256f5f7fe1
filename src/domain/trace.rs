//! Where something stands in a trace: what the header `traceparent` says (W3C Trace Context, level 2).

use std::fmt;

/// How long it is as it is written, in bytes.
pub const TRACEPARENT_BYTES: usize = 55;
/// Whoever set it has recorded the trace.
const SAMPLED: u8 = 0b01;
/// The flags that level 2 knows: sampled, and that the trace's id is random. Others are not passed on.
const KNOWN_FLAGS: u8 = 0b11;

/// A place in a trace: whose child comes next.
///
/// The standard's `tracestate` does not go along: it is opaque, of whoever traces the publisher, and
/// the receivers of a webhook are somebody else's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// As a header has it. `None` for what the standard calls invalid: other lengths, other
    /// characters than lower-case hexadecimal digits, ids of zeros, and the version `ff`. Of a later
    /// version than `00` counts what that has.
    pub fn try_new(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
        let [b'-', trace @ .., b'-', _, _] = &known[2..] else { return None };
        let (trace_id, span_id) = trace.split_at_checked(32)?;
        let version = bytes::<1>(&known[..2])?[0];
        let is_whole = if version == 0 { rest.is_empty() } else { version != 0xff && matches!(rest, [] | [b'-', ..]) };
        let (trace_id, span_id) = (bytes(trace_id)?, bytes(span_id.strip_prefix(b"-")?)?);
        let flags = bytes::<1>(&known[TRACEPARENT_BYTES - 2..])?[0] & KNOWN_FLAGS;
        (is_whole && trace_id != [0; 16] && span_id != [0; 8]).then_some(Self { trace_id, span_id, flags })
    }

    /// The first place of a new trace, which has a random id.
    pub fn random(is_sampled: bool) -> Self {
        let trace_id = fastrand::u128(1..).to_be_bytes();
        let flags = KNOWN_FLAGS & !SAMPLED | if is_sampled { SAMPLED } else { 0 };
        Self { trace_id, span_id: [0; 8], flags }.child()
    }

    /// Another place in the same trace.
    pub fn child(self) -> Self {
        Self { span_id: fastrand::u64(1..).to_be_bytes(), ..self }
    }

    /// The id of the trace.
    pub fn trace_id(self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the place.
    pub fn span_id(self) -> [u8; 8] {
        self.span_id
    }

    /// Its flags, as far as they are known.
    pub fn flags(self) -> u8 {
        self.flags
    }

    /// True if whoever set it has recorded the trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// The bytes that hexadecimal digits in lower case stand for.
fn bytes<const COUNT: usize>(digits: &[u8]) -> Option<[u8; COUNT]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; COUNT];
    if digits.len() != 2 * COUNT {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// As a header has it, of the version `00`.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace_id, span_id) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_valid_reads_and_prints() {
        let parent = TraceParent::try_new(TEXT.as_bytes()).unwrap();
        assert_eq!(parent.to_string(), TEXT);
        assert_eq!((parent.trace_id()[0], parent.span_id()[7], parent.flags()), (0x0a, 0x31, 1));
        assert!(parent.is_sampled());
        let other =
            |from: &str, to: &str| TraceParent::try_new(TEXT.replace(from, to).as_bytes()).map(|p| p.to_string());
        assert_eq!(other("-01", "-00").unwrap(), TEXT.replace("-01", "-00"));
        // What is unknown of the flags, and of a later version, does not go along.
        assert_eq!(other("-01", "-ff").unwrap(), TEXT.replace("-01", "-03"));
        assert_eq!(other("00-0", "cc-0").unwrap(), TEXT);
        assert_eq!(TraceParent::try_new(TEXT.replacen("00", "cc", 1).as_bytes()).unwrap(), parent);
        assert_eq!(TraceParent::try_new((TEXT.replacen("00", "01", 1) + "-what-comes").as_bytes()).unwrap(), parent);
    }

    #[test]
    fn what_the_standard_calls_invalid_is_none() {
        for text in [
            "".to_owned(),
            TEXT[..54].to_owned(),
            format!("{TEXT}-00"),
            format!("{TEXT}0"),
            TEXT.replacen("00", "01", 1) + "x",
            TEXT.replacen("00", "ff", 1),
            TEXT.replacen("00", "0x", 1),
            TEXT.to_uppercase(),
            TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            TEXT.replace("b7ad6b7169203331", &"0".repeat(16)),
            TEXT.replace('-', "_"),
            TEXT.replace("-b7", "0b7"),
            TEXT.replace("-01", "-0g"),
            "é".repeat(28),
        ] {
            assert_eq!(TraceParent::try_new(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn children_stay_in_the_trace() {
        let (one, other) = (TraceParent::random(true), TraceParent::random(false));
        assert!(one.is_sampled() && !other.is_sampled() && one.trace_id() != other.trace_id());
        let child = one.child();
        assert_eq!((child.trace_id(), child.flags()), (one.trace_id(), one.flags()));
        assert_ne!(child.span_id(), one.span_id());
        for parent in [one, other, child] {
            assert_eq!(TraceParent::try_new(parent.to_string().as_bytes()), Some(parent));
        }
    }
}
