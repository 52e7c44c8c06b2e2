//! Which start of the machine a directory was last written in: the second line of its lock's file.
//!
//! A machine that has been up all the time has lost no power. May not lock anything.

use std::fs;
use std::path::Path;

/// The lock's file, which has the process in its first line.
pub(super) const LOCK: &str = "lock";
/// Another text for each start of the machine (Linux, proc(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the machine may have lost its power since a server last began to write there.
pub(super) fn may_have_lost_power(directory: &Path) -> bool {
    let now = current();
    now.is_none() || noted(directory) != now
}

/// This start.
pub(super) fn current() -> Option<String> {
    let id = fs::read_to_string(BOOT_ID).ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// The one that was noted last.
pub(super) fn noted(directory: &Path) -> Option<String> {
    let text = fs::read_to_string(directory.join(LOCK)).ok()?;
    let id = text.lines().nth(1)?;
    Some(id.to_owned()).filter(|id| !id.is_empty())
}
