//! Sockets with an address of their own, which may not be free at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// How long an address may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A UDP socket at `address`, in the namespace of the thread that asks.
///
/// It waits for an address that is taken: a child that is just being started holds what it inherited
/// for a moment after this process has closed it. And for one that is not there yet: an IPv6 address
/// of a device that has just come up cannot be bound to at once.
///
/// # Errors
///
/// What the kernel says of the address, still so after 20 seconds.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let begun = Instant::now();
    loop {
        match UdpSocket::bind(address) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                ) && begun.elapsed() < PATIENCE =>
            {
                thread::sleep(Duration::from_millis(10));
            }
            bound => return bound,
        }
    }
}
