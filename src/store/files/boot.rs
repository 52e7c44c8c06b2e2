//! Which start of the machine a directory was last written in: the second line of its lock's file.
//!
//! A machine that has been up all the time has lost no power. May not look at a directory.

use std::fs;

/// Another text for each start of the machine (Linux, proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the machine may have lost its power since a server last began to write, which noted that.
pub(super) fn may_have_lost_power(noted: Option<&str>) -> bool {
    let now = current();
    now.is_none() || noted != now.as_deref()
}

/// The text for this start.
pub(super) fn current() -> Option<String> {
    let id = fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The one that was noted last, in the text of a lock's file.
pub(super) fn noted(text: &str) -> Option<String> {
    let id = text.lines().nth(1)?;
    Some(id.to_owned()).filter(|id| !id.is_empty())
}
