//! How the names of headers are spelled, on the wire and in the log.

use std::sync::Arc;

use crate::domain::headers::EXTRA_HEADERS_MAX;

/// How the names of a request's headers are spelled that are not written in
/// lower case. Names mean the same however they are spelled, but some
/// receivers compare them letter by letter.
#[derive(Clone, Debug, Default)]
pub struct Spelling {
    /// The owner's: one for each header of a name, in their order.
    pub owners: Arc<[Box<str>]>,
    /// The vendor's.
    pub vendors: &'static [&'static str],
}

/// Spells names, one after the other.
pub struct Speller<'a> {
    spelling: &'a Spelling,
    /// A bit for each of the owner's that has been used; there are fewer than bits.
    used: u64,
}

impl Spelling {
    /// True if all names are written in lower case.
    pub fn is_plain(&self) -> bool {
        self.owners.is_empty() && self.vendors.is_empty()
    }

    /// Begins with the first header.
    pub fn speller(&self) -> Speller<'_> {
        Speller { spelling: self, used: 0 }
    }

    /// Puts them into the head of a request, up to the empty line at its end.
    pub fn respell(&self, bytes: &mut [u8]) {
        let mut speller = self.speller();
        for line in bytes.split_mut(|byte| *byte == b'\n').take_while(|line| *line != b"\r") {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let spelled = std::str::from_utf8(&line[..colon]).ok().and_then(|name| speller.spell(name));
            if let Some(spelled) = spelled {
                line[..colon].copy_from_slice(spelled.as_bytes());
            }
        }
    }
}

impl<'a> Speller<'a> {
    /// The same letters as they are to be written, if that is said.
    pub fn spell(&mut self, name: &str) -> Option<&'a str> {
        let is_same = |spelled: &str| spelled.eq_ignore_ascii_case(name);
        let mut unused = (0..).zip(self.spelling.owners.iter()).filter(|(place, _)| self.used & (1 << place) == 0);
        if let Some((place, spelled)) = unused.find(|(_, spelled)| is_same(spelled)) {
            self.used |= 1 << place;
            return Some(spelled);
        }
        self.spelling.vendors.iter().copied().find(|spelled| is_same(spelled))
    }
}

const _: () = assert!(EXTRA_HEADERS_MAX <= u64::BITS as usize);
