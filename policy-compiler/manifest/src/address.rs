//! Addresses that a person gives as the end of a connection.

use std::net::IpAddr;

/// Why an address can be no end of a connection between pods, nodes and the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEnd {
    /// `0.0.0.0` or `::`.
    #[error("it stands for no address at all; write 203.0.113.7, or whichever is meant")]
    Unspecified,
    /// `127.0.0.0/8` or `::1`.
    #[error("it is a loopback address, which never leaves a pod or node; name the pod or node")]
    Loopback,
}

/// The address that `text` is, an IPv4 address inside IPv6 (`::ffff:10.0.0.1`) as that of IPv4, which
/// is what is on the wire. `None` where the text is no address.
#[must_use]
pub fn end(text: &str) -> Option<Result<IpAddr, NotAnEnd>> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    Some(if address.is_unspecified() {
        Err(NotAnEnd::Unspecified)
    } else if address.is_loopback() {
        Err(NotAnEnd::Loopback)
    } else {
        Ok(address)
    })
}
