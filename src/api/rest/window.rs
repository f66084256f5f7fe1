//! Which part of a list is shown.

use super::Refusal;
use super::values::Int;

/// So many rows, behind so many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub skip: usize,
    pub take: usize,
}

/// How a dialect has its clients say which part they want.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// What it calls the number of rows.
    pub take: &'static str,
    /// The least that may be asked for; the most is the server's to say.
    pub take_min: usize,
    /// How many there are if nothing is said.
    pub take_default: usize,
    /// What it calls the number of rows before them.
    pub skip: &'static str,
    /// The most that may be passed over, if there is a bound.
    pub skip_max: Option<u32>,
}

impl Paging {
    /// The part that is asked for, of up to `take_max` rows. Fails if it is none.
    pub fn read(self, take: Option<Int>, skip: Option<Int>, take_max: u32) -> Result<Window, Refusal> {
        let (name, min, max) = (self.take, self.take_min, take_max as usize);
        let take = take.map_or(Ok(self.take_default.min(max)), |take| usize::try_from(take.0));
        let take = take.ok().filter(|take| (min..=max).contains(take));
        let take = take.ok_or_else(|| Refusal::bad(format!("{name}: must be {min} to {max}.")))?;
        Ok(Window { skip: self.read_skip(skip)?, take })
    }

    /// How many rows are passed over.
    pub fn read_skip(self, skip: Option<Int>) -> Result<usize, Refusal> {
        let fits = |skip: &usize| self.skip_max.is_none_or(|max| *skip <= max as usize);
        let skip = skip.map_or(Ok(0), |skip| usize::try_from(skip.0)).ok().filter(fits);
        skip.ok_or_else(|| match self.skip_max {
            Some(max) => Refusal::bad(format!("{}: must be 0 to {max}.", self.skip)),
            None => Refusal::bad(format!("{}: must not be below 0.", self.skip)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGING: Paging = Paging { take: "limit", take_min: 1, take_default: 100, skip: "offset", skip_max: Some(9) };

    fn read(take: Option<i64>, skip: Option<i64>, max: u32) -> Result<(usize, usize), String> {
        let window = PAGING.read(take.map(Int), skip.map(Int), max);
        window.map(|window| (window.take, window.skip)).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_window_stays_within_its_bounds() {
        assert_eq!(read(None, None, 1_000), Ok((100, 0)));
        assert_eq!(read(None, Some(9), 50), Ok((50, 9)));
        assert_eq!(read(Some(50), Some(1), 50), Ok((50, 1)));
        for take in [-1, 0, 51, i64::MAX, i64::MIN] {
            assert_eq!(read(Some(take), None, 50), Err("limit: must be 1 to 50.".to_owned()));
        }
        for skip in [-1, 10, i64::MAX] {
            assert_eq!(read(None, Some(skip), 50), Err("offset: must be 0 to 9.".to_owned()));
        }
        let boundless = Paging { skip_max: None, ..PAGING };
        assert_eq!(boundless.read_skip(Some(Int(1 << 40))).map_err(|refusal| refusal.message), Ok(1 << 40));
        assert_eq!(boundless.read_skip(Some(Int(-1))).unwrap_err().message, "offset: must not be below 0.");
    }
}
