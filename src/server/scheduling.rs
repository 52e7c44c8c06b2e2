//! How a thread shares a core with others. The one file with `unsafe` in it: no crate sets a thread's
//! policy and leaves its niceness as the operator chose it.

#![allow(unsafe_code)]

use std::io;

/// From now on this thread, when it wakes, waits until whoever has the core pauses, and does not cut
/// in (`SCHED_BATCH`, sched(7)). Its share of the core and its niceness stay.
pub(super) fn never_preempt() -> io::Result<()> {
    // SAFETY: `sched_param` is a C struct of integers, for which all zeros is a value, and the one
    // that this policy asks for. The kernel reads it during the call and keeps no pointer to it; 0
    // names the calling thread.
    let result = unsafe {
        let parameters: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters)
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_for_it_without_privileges() {
        std::thread::spawn(|| never_preempt().unwrap())
            .join()
            .unwrap();
    }
}
