//! Whether workers send many writes in one system call, which the settings and the kernel say together.

use std::io::{self, ErrorKind};

use crate::config::Io;
use crate::net::ring;

use super::StartError;

/// How workers write.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) are_used: bool,
    /// For the log.
    pub(super) described: String,
}

impl Rings {
    pub(super) fn of(io: Io, workers: usize) -> Result<Rings, StartError> {
        Rings::decide(io, || ring::probe(workers))
    }

    /// `probe`: whether the kernel lets this process have them.
    fn decide(io: Io, probe: impl FnOnce() -> io::Result<()>) -> Result<Rings, StartError> {
        let refused = match io {
            Io::Epoll => None,
            Io::Auto | Io::Uring => Some(probe()),
        };
        let (are_used, described) = match refused {
            None => (false, "a system call a write".to_owned()),
            Some(Ok(())) => (true, "many writes a system call (io_uring)".to_owned()),
            Some(Err(error)) if io == Io::Uring => return Err(StartError::Ring(refusal(&error))),
            Some(Err(error)) => (false, format!("a system call a write ({})", why(&error))),
        };
        Ok(Rings {
            are_used,
            described,
        })
    }
}

fn why(error: &io::Error) -> String {
    format!("no io_uring: {error}")
}

/// And what to do.
fn refusal(error: &io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => {
            "kernel.io_uring_disabled or a filter of system calls, as containers have one, forbids it"
        }
        ErrorKind::OutOfMemory => "raise the limit of locked memory (LimitMEMLOCK)",
        _ => "this kernel is too old, or has none",
    };
    format!("the kernel refuses io_uring: {error}; {hint}; auto goes on without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(number: i32) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(number))
    }

    #[test]
    fn a_kernel_that_refuses_is_gone_on_without_unless_the_settings_want_rings_alone() {
        let decide = |io, refused: io::Result<()>| {
            let rings = Rings::decide(io, || refused);
            rings.map(|rings| (rings.are_used, rings.described))
        };
        let plain = "a system call a write".to_owned();
        let many = "many writes a system call (io_uring)".to_owned();
        assert_eq!(decide(Io::Auto, Ok(())).unwrap(), (true, many.clone()));
        assert_eq!(decide(Io::Uring, Ok(())).unwrap(), (true, many));
        let auto = decide(Io::Auto, errno(libc::EPERM)).unwrap();
        let wanted = "a system call a write (no io_uring: Operation not permitted (os error 1))";
        assert_eq!(auto, (false, wanted.to_owned()));
        let never = Rings::decide(Io::Epoll, || unreachable!("it is not asked")).unwrap();
        assert_eq!((never.are_used, never.described), (false, plain));
        for (number, hint) in [
            (libc::EPERM, "kernel.io_uring_disabled"),
            (libc::ENOMEM, "LimitMEMLOCK"),
            (libc::ENOSYS, "too old"),
        ] {
            let refused = decide(Io::Uring, errno(number)).unwrap_err().to_string();
            let begins = "server.io: the kernel refuses io_uring: ";
            assert!(
                refused.starts_with(begins) && refused.contains(hint),
                "{refused}"
            );
            assert!(!refused.contains('\n'), "it is one line");
        }
    }
}
