//! What the fuzz targets share. They run with the unit tests, bounded by a
//! number of inputs; `PROPTEST_CASES=10000 cargo test fuzz` makes them run for
//! minutes, with forty times as many.

use proptest::prelude::{Strategy, any};
use proptest::test_runner::{Config, TestRunner};

/// Inputs for each of proptest's cases, which are 256 unless PROPTEST_CASES
/// says otherwise.
const INPUTS_PER_CASE: u32 = 100;
/// Of how many characters and words a text is made.
const PIECES_MAX: usize = 40;

/// Runs `check` on many texts made of ASCII characters and of `words`, so that
/// what has a form is reached soon. A text it panics on is cut down before it
/// is shown.
pub fn texts(words: &'static [&'static str], check: impl Fn(&str)) {
    let piece = any::<u8>().prop_map(|byte| match usize::from(byte).checked_sub(128) {
        None => char::from(byte).to_string(),
        Some(place) => words[place % words.len()].to_owned(),
    });
    let texts = proptest::collection::vec(piece, 0..PIECES_MAX).prop_map(|pieces| pieces.concat());
    let config = Config::default();
    let config = Config { cases: config.cases.saturating_mul(INPUTS_PER_CASE), failure_persistence: None, ..config };
    let ran = TestRunner::new(config).run(&texts, |text| {
        check(&text);
        Ok(())
    });
    ran.unwrap_or_else(|failure| panic!("{failure}"));
}
