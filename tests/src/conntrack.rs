//! Forgetting connections: the one request of ctnetlink that the lab needs.
//!
//! A flow that a case allowed would make the next case's packet "established", and a flow of a
//! protocol without ports makes its mirror image a reply. So tables are emptied between rounds.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

use crate::error::LabError;
use crate::namespace::Namespace;
use crate::rtnetlink::acknowledged;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`.
const CT_DELETE: u16 = (1 << 8) | 2;
/// `NLM_F_REQUEST | NLM_F_ACK`.
const REQUEST_ACK: u16 = 0x1 | 0x4;

/// The connection table of one namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: OwnedFd,
}

impl Conntrack {
    /// The table of `namespace`.
    ///
    /// # Errors
    /// Where the kernel has no netfilter netlink.
    pub fn of(namespace: &Namespace) -> Result<Self, LabError> {
        let made = namespace.enter(|| {
            socket(
                AddressFamily::Netlink,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::NetlinkNetFilter,
            )
        })?;
        let socket = made.map_err(|errno| failed("open ctnetlink", errno.into()))?;
        Ok(Self { socket })
    }

    /// Forgets every connection, of both families.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn flush(&self) -> Result<(), LabError> {
        let mut request = Vec::with_capacity(20);
        request.extend(20_u32.to_ne_bytes());
        request.extend(CT_DELETE.to_ne_bytes());
        request.extend(REQUEST_ACK.to_ne_bytes());
        request.extend(1_u32.to_ne_bytes());
        request.extend(0_u32.to_ne_bytes());
        // nfgenmsg: every family, version 0, no resource.
        request.extend([0, 0, 0, 0]);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &request, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(|errno| failed("flush connections", errno.into()))?;
        let mut answer = [0_u8; 512];
        let length = recv(fd, &mut answer, MsgFlags::empty())
            .map_err(|errno| failed("flush connections", errno.into()))?;
        acknowledged(answer.get(..length).unwrap_or(&[]))
            .map_err(|source| failed("flush connections", source))
    }
}

fn failed(operation: &str, source: io::Error) -> LabError {
    LabError::Socket { operation: operation.to_owned(), source }
}
