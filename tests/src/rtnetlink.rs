//! Addresses given to and taken from a namespace without a process for each: the one request of
//! rtnetlink that the lab makes often.
//!
//! An address is made a local route and no address of a device: an IPv6 address of a device only
//! works once a thread of the kernel has got round to it, a route works at once.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::error::LabError;
use crate::namespace::Namespace;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
/// `NLM_F_REQUEST | NLM_F_ACK`, and for a new one `NLM_F_REPLACE | NLM_F_CREATE`.
const REQUEST_ACK: u16 = 0x1 | 0x4;
const REPLACE_CREATE: u16 = 0x100 | 0x400;
/// `NLMSG_ERROR`, which also carries an acknowledgement.
const ERROR: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
/// `RT_TABLE_LOCAL`, `RTPROT_STATIC`, `RT_SCOPE_HOST`, `RTN_LOCAL`.
const LOCAL_ROUTE: [u8; 4] = [255, 4, 254, 2];
/// The loopback device is the first of every namespace.
const LOOPBACK: u32 = 1;

/// The further addresses of one namespace.
#[derive(Debug)]
pub struct Addresses {
    socket: OwnedFd,
}

impl Addresses {
    /// Those of `namespace`.
    ///
    /// # Errors
    /// Where no netlink socket can be had.
    pub fn of(namespace: &Namespace) -> Result<Self, LabError> {
        let made = namespace.enter(|| {
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkRoute,
            )
        })?;
        let socket = made.map_err(|errno| LabError::Socket {
            operation: "open rtnetlink".to_owned(),
            source: errno.into(),
        })?;
        Ok(Self { socket })
    }

    /// Adds an address.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add(&self, address: IpAddr) -> Result<(), LabError> {
        self.change(RTM_NEWROUTE, REQUEST_ACK | REPLACE_CREATE, address)
            .map_err(|source| failed("add", address, source))
    }

    /// Removes an address.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn remove(&self, address: IpAddr) -> Result<(), LabError> {
        self.change(RTM_DELROUTE, REQUEST_ACK, address)
            .map_err(|source| failed("remove", address, source))
    }

    fn change(&self, kind: u16, flags: u16, address: IpAddr) -> io::Result<()> {
        let (family, octets) = match address {
            IpAddr::V4(a) => (2_u8, a.octets().to_vec()),
            IpAddr::V6(a) => (10_u8, a.octets().to_vec()),
        };
        let length = u8::try_from(octets.len()).unwrap_or(16);
        let mut body = vec![family, length * 8, 0, 0];
        body.extend(LOCAL_ROUTE);
        body.extend([0; 4]);
        for (attribute, value) in [(RTA_DST, octets), (RTA_OIF, LOOPBACK.to_ne_bytes().to_vec())] {
            body.extend(u16::try_from(value.len() + 4).unwrap_or(u16::MAX).to_ne_bytes());
            body.extend(attribute.to_ne_bytes());
            body.extend(value);
        }
        let total = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
        let mut request = total.to_ne_bytes().to_vec();
        request.extend(kind.to_ne_bytes());
        request.extend(flags.to_ne_bytes());
        request.extend([0; 8]);
        request.extend(body);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answer = [0_u8; 512];
        let length = recv(fd, &mut answer, MsgFlags::empty())?;
        acknowledged(answer.get(..length).unwrap_or(&[]))
    }
}

/// Reads the acknowledgement of a netlink request.
///
/// # Errors
/// The kernel's, or `InvalidData` where it is none.
pub(crate) fn acknowledged(answer: &[u8]) -> io::Result<()> {
    match answer {
        [_, _, _, _, k0, k1, _, _, _, _, _, _, _, _, _, _, e0, e1, e2, e3, ..]
            if u16::from_ne_bytes([*k0, *k1]) == ERROR =>
        {
            match i32::from_ne_bytes([*e0, *e1, *e2, *e3]) {
                0 => Ok(()),
                code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            }
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn failed(operation: &str, address: IpAddr, source: io::Error) -> LabError {
    LabError::Socket { operation: format!("{operation} the address {address}"), source }
}
