//! From when until when a certificate counts, read from its DER (RFC 5280 §4.1).
//!
//! Pure. Looks at nothing else in it: whether it is in order is for rustls to say.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// Both ends count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Validity {
    /// That of a certificate. None: it is none.
    pub(super) fn of(certificate: &[u8]) -> Option<Validity> {
        let mut certificate = Der(certificate).enter(SEQUENCE)?;
        let mut to_be_signed = certificate.enter(SEQUENCE)?;
        if to_be_signed.0.first() == Some(&VERSION) {
            to_be_signed.enter(VERSION)?;
        }
        to_be_signed.enter(INTEGER)?; // the serial number
        to_be_signed.enter(SEQUENCE)?; // how it is signed
        to_be_signed.enter(SEQUENCE)?; // who has issued it
        let mut validity = to_be_signed.enter(SEQUENCE)?;
        Some(Validity {
            not_before: validity.time()?,
            not_after: validity.time()?,
        })
    }
}

/// What is left of some DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, and what it is.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let len = bytes
                    .iter()
                    .fold(0, |len, byte| len << 8 | usize::from(*byte));
                (len, rest)
            }
            _ => return None,
        };
        let (inside, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, inside))
    }

    /// The inside of the next element, which has to be of that kind.
    fn enter(&mut self, tag: u8) -> Option<Der<'a>> {
        let (found, inside) = self.next()?;
        (found == tag).then_some(Der(inside))
    }

    fn time(&mut self) -> Option<SystemTime> {
        let (tag, digits) = self.next()?;
        let digits = digits.strip_suffix(b"Z")?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = digits.split_at_checked(2)?;
                let year = number(year)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = digits.split_at_checked(4)?;
                (number(year)?, rest)
            }
            _ => return None,
        };
        let parts: Vec<u64> = rest.chunks(2).map(number).collect::<Option<_>>()?;
        let &[month, day, hour, minute, second] = &parts[..] else {
            return None;
        };
        let is_time = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
        let days = days_before(year, month)?.checked_add(day.checked_sub(1)?)?;
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        is_time.then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Days from 1970 to the first of a month. None: it is before that.
fn days_before(year: u64, month: u64) -> Option<u64> {
    const DAYS: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let before = year.checked_sub(1970)?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let leap_days = leaps(year - 1) - leaps(1969) + u64::from(is_leap && month > 2);
    let of_year = DAYS.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    Some(before * 365 + leap_days + of_year)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn seconds(time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    fn certificate(from: (i32, u8, u8), until: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(until.0, until.1, until.2);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        for (from, until, wanted) in [
            ((1975, 1, 1), (2026, 11, 30), (157_766_400, 1_795_996_800)),
            ((2000, 2, 29), (2024, 3, 1), (951_782_400, 1_709_251_200)),
            ((2049, 12, 31), (2100, 3, 1), (2_524_521_600, 4_107_542_400)),
        ] {
            let validity = Validity::of(&certificate(from, until)).unwrap();
            let found = (seconds(validity.not_before), seconds(validity.not_after));
            assert_eq!(found, wanted, "{from:?} {until:?}");
        }
    }

    #[test]
    fn what_is_cut_or_changed_anywhere_is_read_or_refused_and_never_more() {
        let whole = certificate((2020, 1, 1), (2030, 1, 1));
        let validity = Validity::of(&whole).unwrap();
        for len in 0..whole.len() {
            assert_eq!(Validity::of(&whole[..len]), None, "{len}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = Validity::of(&changed); // no panic
            }
        }
        assert_eq!(Validity::of(&whole), Some(validity));
    }
}
