//! A program's three pipes and what came out of them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::watch::Stop;

/// A report is one line of at most some 2 KiB.
const REPORT_BYTES: usize = 8 << 10;

/// How much of the printed text is kept.
pub(super) const TAIL_BYTES: usize = 4 << 10;

/// Where stdout stands among the three.
const STDOUT: usize = 0;

/// Where the report pipe stands among the three.
const REPORT: usize = 2;

/// The pipes and what was read from them.
#[derive(Debug)]
pub(super) struct Drain {
    /// stdout, stderr and the report; none where the end was reached.
    pub(super) pipes: [Option<OwnedFd>; 3],
    /// All of stdout is wanted.
    keep: bool,
    most_printed: u64,
    printed: u64,
    /// The last bytes of stdout and stderr.
    pub(super) tail: Vec<u8>,
    /// All of stdout, where it is wanted.
    pub(super) stdout: Vec<u8>,
    pub(super) report: Vec<u8>,
}

impl Drain {
    /// Of a program that may print `most_printed` bytes.
    pub(super) fn new(pipes: [OwnedFd; 3], keep: bool, most_printed: u64) -> Drain {
        let empty = Vec::new;
        Drain {
            pipes: pipes.map(Some),
            keep,
            most_printed,
            printed: 0,
            tail: empty(),
            stdout: empty(),
            report: empty(),
        }
    }

    pub(super) fn all_closed(&self) -> bool {
        self.pipes.iter().all(Option::is_none)
    }

    /// What was printed: all of stdout where it is wanted, else the last bytes of stdout and stderr.
    #[cfg(target_os = "linux")]
    pub(super) fn printed(&self) -> &[u8] {
        if self.keep { &self.stdout } else { &self.tail }
    }

    /// The limit that was reached by writing.
    pub(super) fn excess(&self) -> Option<Stop> {
        if self.printed > self.most_printed {
            Some(Stop::Output)
        } else if self.report.len() > REPORT_BYTES {
            Some(Stop::Report)
        } else {
            None
        }
    }

    /// Reads from a pipe that has something, so that it does not block.
    pub(super) fn read_one(&mut self, place: usize) -> io::Result<()> {
        let Some(pipe) = &self.pipes[place] else {
            return Ok(());
        };
        let mut buffer = [0; 16 << 10];
        let count = match rustix::io::read(pipe.as_fd(), &mut buffer) {
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let bytes = &buffer[..count];
        if bytes.is_empty() {
            self.pipes[place] = None;
        } else if place == REPORT {
            self.report.extend_from_slice(bytes);
        } else {
            self.printed += bytes.len() as u64;
            if place == STDOUT && self.keep {
                self.stdout.extend_from_slice(bytes);
            }
            self.tail.extend_from_slice(bytes);
            let excess = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..excess);
        }
        Ok(())
    }
}
