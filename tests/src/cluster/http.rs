//! Plain HTTP to a program inside a namespace: policyd's own endpoints, etcd's gateway.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::Namespace;

/// How long a program on the same machine may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks for `path`.
///
/// # Errors
/// Where nobody answers at `server` in `namespace`.
pub fn get(namespace: &Namespace, server: SocketAddr, path: &str) -> Result<Answer, LabError> {
    ask(namespace, server, &format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n"))
}

/// Sends `body`, which is JSON, to `path`.
///
/// # Errors
/// Where nobody answers at `server` in `namespace`.
pub fn post(
    namespace: &Namespace,
    server: SocketAddr,
    path: &str,
    body: &str,
) -> Result<Answer, LabError> {
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: {server}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(namespace, server, &request)
}

fn ask(namespace: &Namespace, server: SocketAddr, request: &str) -> Result<Answer, LabError> {
    let failed = |source| LabError::Socket { operation: format!("ask http://{server}"), source };
    namespace.enter(|| exchange(server, request))?.map_err(failed)
}

fn exchange(server: SocketAddr, request: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, text))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}
