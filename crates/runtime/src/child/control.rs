//! What gateway and guard tell one another, over a pair of connected sockets.
//!
//! The gateway's first message carries the program's three standard streams as file descriptors, so that the program
//! has the gateway's pipes themselves and the guard copies nothing. All messages are of fixed size. Both ends are the
//! same binary, so there is no version to negotiate.

use super::fault::Exit;
use rustix::{
    cmsg_space,
    io::{FdFlags, fcntl_setfd},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

/// How many descriptors travel: standard input, output and error.
const STREAMS: usize = 3;

/// Gateway to guard: end the program, which may take so long after SIGTERM. The first one only sets that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) grace: Duration,
}

pub(super) const ORDER_BYTES: usize = 4;

impl Order {
    pub(super) fn encode(self) -> [u8; ORDER_BYTES] {
        u32::try_from(self.grace.as_millis()).unwrap_or(u32::MAX).to_le_bytes()
    }

    pub(super) fn decode(bytes: [u8; ORDER_BYTES]) -> Self {
        let grace = Duration::from_millis(u32::from_le_bytes(bytes).into());
        Self { grace }
    }
}

/// Guard to gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Report {
    /// The program runs; the number is its process and its process group.
    Started(i32),
    /// The program could not be run; the number is the operating system's.
    Failed(i32),
    Ended(Exit),
}

pub(super) const REPORT_BYTES: usize = 5;

impl Report {
    pub(super) fn encode(self) -> [u8; REPORT_BYTES] {
        let (tag, number) = match self {
            Self::Started(process) => (b'S', process),
            Self::Failed(errno) => (b'F', errno),
            Self::Ended(Exit::Code(code)) => (b'C', code),
            Self::Ended(Exit::Signal(signal)) => (b'K', signal),
            Self::Ended(Exit::Unseen) => (b'U', 0),
        };
        let mut bytes = [tag; REPORT_BYTES];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    pub(super) fn decode([tag, a, b, c, d]: [u8; REPORT_BYTES]) -> io::Result<Self> {
        let number = i32::from_le_bytes([a, b, c, d]);
        match tag {
            b'S' => Ok(Self::Started(number)),
            b'F' => Ok(Self::Failed(number)),
            b'C' => Ok(Self::Ended(Exit::Code(number))),
            b'K' => Ok(Self::Ended(Exit::Signal(number))),
            b'U' => Ok(Self::Ended(Exit::Unseen)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "no report of a guard")),
        }
    }
}

/// Sends the first order, with the streams of the program.
pub(super) fn send_streams(socket: impl AsFd, order: Order, streams: [&OwnedFd; STREAMS]) -> io::Result<()> {
    let bytes = order.encode();
    let descriptors = streams.map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(STREAMS))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    if !along.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("there is no room for three descriptors"));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&bytes)], &mut along, SendFlags::empty())?;
    if sent == bytes.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::WriteZero.into())
    }
}

/// Waits for the first order and its streams.
pub(super) fn receive_streams(socket: impl AsFd) -> io::Result<(Order, [OwnedFd; STREAMS])> {
    let mut bytes = [0; ORDER_BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(STREAMS))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut along,
        RecvFlags::empty(),
    )?;
    let mut streams = Vec::with_capacity(STREAMS);
    for message in along.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            streams.extend(descriptors);
        }
    }
    let streams: [OwnedFd; STREAMS] = streams
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a first order without three streams"))?;
    // The guard has a single thread, so that no program is started between the receipt and this.
    for stream in &streams {
        fcntl_setfd(stream, FdFlags::CLOEXEC)?;
    }
    if received.bytes == ORDER_BYTES {
        Ok((Order::decode(bytes), streams))
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    #[test]
    fn reports_and_orders_arrive_as_they_were_sent() {
        let reports = [
            Report::Started(i32::MAX),
            Report::Failed(2),
            Report::Ended(Exit::Code(255)),
            Report::Ended(Exit::Signal(9)),
            Report::Ended(Exit::Unseen),
        ];
        for report in reports {
            assert_eq!(Report::decode(report.encode()).unwrap(), report);
        }
        assert!(Report::decode([0; REPORT_BYTES]).is_err());
        for grace in [Duration::ZERO, Duration::from_millis(1500), Duration::from_hours(1)] {
            assert_eq!(Order::decode(Order { grace }.encode()), Order { grace });
        }
        let endless = Order { grace: Duration::MAX };
        assert_eq!(Order::decode(endless.encode()).grace.as_millis(), u32::MAX.into());
    }

    #[test]
    fn streams_travel_over_a_socket() {
        let (here, there) = UnixStream::pair().unwrap();
        let pipes: Vec<_> = (0..STREAMS).map(|_| io::pipe().unwrap()).collect();
        let ends: Vec<OwnedFd> = pipes.iter().map(|(_, end)| end.try_clone().unwrap().into()).collect();
        let order = Order {
            grace: Duration::from_secs(2),
        };
        send_streams(&here, order, [&ends[0], &ends[1], &ends[2]]).unwrap();
        let (received, streams) = receive_streams(&there).unwrap();
        assert_eq!(received, order);
        drop(ends);
        for (number, (stream, (mut pipe, end))) in streams.into_iter().zip(pipes).enumerate() {
            drop(end);
            io::PipeWriter::from(stream)
                .write_all(&[u8::try_from(number).unwrap()])
                .unwrap();
            let mut heard = Vec::new();
            pipe.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, [u8::try_from(number).unwrap()]);
        }
    }

    #[test]
    fn what_is_no_first_order_is_refused() {
        let (here, there) = UnixStream::pair().unwrap();
        (&here).write_all(&[0; ORDER_BYTES]).unwrap();
        assert!(receive_streams(&there).is_err(), "no streams came along");
        drop(here);
        assert!(receive_streams(&there).is_err(), "nobody is there");
        assert!(receive_streams(io::pipe().unwrap().0).is_err(), "no socket");
    }
}
