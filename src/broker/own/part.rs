//! What one turn adds to a list that is made in turns.
//!
//! Pure. May not know what is listed.

/// What rows may add to a list, each, before the next turn.
const LISTED_BYTES_A_ROW: usize = 1024;

/// What one turn adds to a list.
pub(in crate::broker) struct Part<'a> {
    out: &'a mut Vec<u8>,
    is_first: &'a mut bool,
    pub(in crate::broker) looked_at: usize,
    most: usize,
}

impl<'a> Part<'a> {
    /// So many rows at most.
    pub(in crate::broker) fn new(
        out: &'a mut Vec<u8>,
        is_first: &'a mut bool,
        most: usize,
    ) -> Part<'a> {
        Part {
            out,
            is_first,
            looked_at: 0,
            most,
        }
    }

    pub(in crate::broker) fn goes_on(&self) -> bool {
        self.looked_at < self.most
    }

    /// One row more, which is written if it is shown. False: that is enough for this turn.
    pub(in crate::broker) fn look_at(
        &mut self,
        is_shown: bool,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let before = self.out.len();
        self.looked_at += 1;
        if is_shown {
            if !std::mem::take(self.is_first) {
                self.out.push(b',');
            }
            write(self.out);
        }
        // A long row is as much as several.
        self.looked_at += (self.out.len() - before) / LISTED_BYTES_A_ROW;
        self.goes_on()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_turn_are_few_and_long_ones_fewer() {
        let (mut out, mut is_first) = (Vec::new(), true);
        let mut part = Part::new(&mut out, &mut is_first, 10);
        assert!(part.look_at(true, |out| out.extend_from_slice(b"1")));
        assert!(part.look_at(false, |_| ()));
        assert!(!part.look_at(true, |out| out.resize(2 + 8 * LISTED_BYTES_A_ROW, b'2')));
        assert!(out.starts_with(b"1,2"));
    }
}
