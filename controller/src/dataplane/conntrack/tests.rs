use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use netlink_packet_core::ErrorMessage;
use nix::libc::{EINTR, ENOBUFS, ENOENT, ENOMEM};

use super::*;

/// What comes of a request, in order. After it nothing comes in time.
type Script = Arc<Mutex<VecDeque<io::Result<Vec<u8>>>>>;

struct Scripted(Script);

impl Wire for Scripted {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        let next = self.0.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
    }
}

fn table(script: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Table {
    Table::over(Box::new(Scripted(Arc::new(Mutex::new(script.into_iter().collect())))))
}

fn errno<T>(number: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(number))
}

fn bytes(payload: NetlinkPayload<NetfilterMessage>, flags: u16) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    (header.sequence_number, header.flags) = (1, flags);
    let mut message = NetlinkMessage::new(header, payload);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// A datagram connection that 10.0.0.1 has opened to 10.0.0.2.
fn connection(flags: u16) -> Vec<u8> {
    let tuple = |from: &str, to: &str, port: u16| {
        vec![
            Tuple::Ip(vec![
                IPTuple::SourceAddress(from.parse().unwrap()),
                IPTuple::DestinationAddress(to.parse().unwrap()),
            ]),
            Tuple::Proto(vec![ProtoTuple::Protocol(IpProtocol::Udp), ProtoTuple::SourcePort(port)]),
        ]
    };
    let attributes = vec![
        ConntrackAttribute::CtaTupleOrig(tuple("10.0.0.1", "10.0.0.2", 5000)),
        ConntrackAttribute::CtaTupleReply(tuple("10.0.0.2", "10.0.0.1", 53)),
    ];
    let header = NetfilterHeader::new(NetfilterProtoFamily::IPv4, 0, 0);
    let message = NetfilterMessage::new(header, ConntrackMessage::New(attributes));
    bytes(NetlinkPayload::from(message), flags)
}

fn done(code: i32) -> Vec<u8> {
    let mut done = DoneMessage::default();
    done.code = code;
    bytes(NetlinkPayload::Done(done), 0)
}

fn answer(code: i32) -> Vec<u8> {
    let mut error = ErrorMessage::default();
    error.code = std::num::NonZeroI32::new(code);
    bytes(NetlinkPayload::Error(error), 0)
}

/// What is read, or the failure in words.
fn read(script: impl IntoIterator<Item = io::Result<Vec<u8>>>) -> Result<usize, String> {
    let mut count = 0;
    let read = table(script).read(Family::V4, |_| count += 1);
    read.map(|()| count).map_err(|error| crate::dataplane::error_chain(&error))
}

#[test]
fn a_listing_is_whole_or_it_failed() {
    let asked = "cannot ask the kernel for its connections: ";
    let whole = [connection(0), done(0)].concat();
    assert_eq!(read([Ok(whole)]), Ok(1));
    assert_eq!(read([Ok(connection(0)), errno(EINTR), Ok(connection(0)), Ok(done(0))]), Ok(2));
    for (name, script, expected) in [
        ("the kernel had no room", vec![Ok(connection(0)), errno(ENOBUFS)], asked.to_owned()),
        (
            "it ends without an end",
            vec![Ok(connection(0))],
            format!("{asked}no answer came in time"),
        ),
        (
            "it breaks off and says so at its end",
            vec![Ok(connection(0)), Ok(done(-ENOMEM))],
            "the kernel refuses to list connections: Cannot allocate memory".to_owned(),
        ),
        (
            "it was interrupted",
            vec![Ok(connection(NLM_F_DUMP_INTR)), Ok(done(0))],
            "cannot read the kernel's answer about connections: it changed".to_owned(),
        ),
        (
            "a message is cut",
            vec![Ok(connection(0)[..40].to_vec()), Ok(done(0))],
            "cannot read the kernel's answer about connections: ".to_owned(),
        ),
        (
            "a datagram is empty",
            vec![Ok(Vec::new()), Ok(done(0))],
            "cannot read the kernel's answer about connections: it is empty".to_owned(),
        ),
        (
            "it is refused",
            vec![Ok(answer(-ENOMEM))],
            "the kernel refuses to list connections: Cannot allocate memory".to_owned(),
        ),
    ] {
        let failure = read(script).unwrap_err();
        assert!(failure.starts_with(&expected), "{name}: {failure}");
    }
}

#[test]
fn a_connection_is_forgotten_or_gone_or_it_failed() {
    let mut found = Vec::new();
    table([Ok(connection(0)), Ok(done(0))]).read(Family::V4, |entry| found.push(entry)).unwrap();
    let entry = &found[0];
    let forget = |script: Vec<io::Result<Vec<u8>>>| table(script).forget(entry);
    assert!(forget(vec![errno(EINTR), Ok(answer(0))]).unwrap());
    assert!(!forget(vec![Ok(answer(-ENOENT))]).unwrap(), "somebody else was first");
    for (name, script) in [
        ("the kernel had no room", vec![errno(ENOBUFS)]),
        ("no answer", vec![]),
        ("an empty answer", vec![Ok(Vec::new())]),
        ("another answer", vec![Ok(done(0))]),
        ("refused", vec![Ok(answer(-ENOMEM))]),
    ] {
        assert!(forget(script).is_err(), "{name}");
    }
}
