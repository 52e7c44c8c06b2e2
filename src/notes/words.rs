//! How a line shows what a peer wrote, on one line and not a long one; and how it counts.

use std::fmt;

/// What a peer wrote, for the log: one line, cut where it is long.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

/// A longer text is shown up to here.
const SHOWN_CHARS_MAX: usize = 500;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, char) in self.0.chars().enumerate() {
            match char {
                _ if n == SHOWN_CHARS_MAX => return f.write_str("…"),
                char if steers(char) => write!(f, "{}", char.escape_default())?,
                char => write!(f, "{char}")?,
            }
        }
        Ok(())
    }
}

/// Control characters, line breaks of Unicode, and what turns, hides or joins text.
pub fn steers(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `1 group`, `2 groups`.
pub fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        several => format!("{several} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_wrote_is_one_line_in_the_log_and_not_a_long_one() {
        let shown = Shown("a\nWARN b\u{1b}[2J").to_string();
        assert_eq!(shown, r"a\nWARN b\u{1b}[2J");
        let long = "é".repeat(SHOWN_CHARS_MAX + 1);
        let shown = Shown(&long).to_string();
        assert_eq!(shown, format!("{}…", "é".repeat(SHOWN_CHARS_MAX)));
    }
}
