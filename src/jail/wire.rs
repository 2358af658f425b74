//! What harness, supervisor and slots say to each other: JSON in frames, over socket pairs.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage};
use rustix::net::{SendFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::job::Job;
use super::vigil::Sight;
use super::{Isolation, Limits, Python, Start};

/// The largest frame. Programs are texts that a model wrote.
const MOST_BYTES: u32 = 1 << 30;

/// How many descriptors one message can carry.
pub(super) const MOST_FDS: usize = 12;

/// The first thing a supervisor is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) python: Python,
    pub(super) limits: Limits,
    pub(super) level: Isolation,
    pub(super) start: Start,
    /// Where folders may be made.
    pub(super) temp: PathBuf,
}

/// What to run: one job, or a candidate and the judge that asks it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) jobs: Vec<Job>,
    pub(super) limits: Limits,
}

/// What became of each job; or what the slot could not do, after which the slot is gone.
pub(super) type Answer = Result<Vec<Outcome>, String>;

/// What a slot saw of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) seen: Sight,
    /// The folder it ran in.
    pub(super) home: PathBuf,
    /// Whether nothing of that folder is left.
    pub(super) removed: bool,
}

/// Sends a value.
pub(super) fn send(mut to: &UnixStream, value: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, value)?;
    let length = u32::try_from(frame.len() - 4).ok().filter(|length| *length <= MOST_BYTES);
    let length = length.ok_or_else(|| io::Error::other("a message of more than 1 GiB"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame)
}

/// Receives a value; `None` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(mut from: &UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            return Ok(None);
        }
        read => read?,
    }
    let length = u32::from_le_bytes(length);
    if length > MOST_BYTES {
        return Err(io::Error::other("a message of more than 1 GiB"));
    }
    let mut bytes = Vec::new();
    from.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&bytes)?))
}

/// Sends `bytes`, which fit into a socket's buffer, together with descriptors.
pub(super) fn send_fds(to: &UnixStream, bytes: &[u8], fds: &[impl AsFd]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let sent = sendmsg(to, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::empty())?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::other("a message that was cut")) }
}

/// Receives one byte and the descriptor that comes with it; `None` when the other side is gone.
pub(super) fn receive_fd(from: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.map(Some).ok_or_else(|| io::Error::other("a message without a descriptor"))
}
