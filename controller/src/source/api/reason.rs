//! What a failure of the API server means, in one line that says what to do.
//!
//! The same failure gives the same line each time, so that it is told once: nothing that counts up or
//! tells the time goes into it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use kube::Error as ClientError;
use kube::client::AuthError;
use kube::core::Status;
use kube::runtime::watcher;

use super::connection::ApiError;

/// A failure to follow a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The line.
    pub(super) reason: String,
    /// How long the server asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// What it means for the stream.
    pub(super) turn: Turn,
}

/// How to go on after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// As the stream does by itself.
    GoOn,
    /// With a new list: the server has forgotten where we were, which is no failure. The stream would
    /// ask for that place again if the answer as a whole was this refusal.
    Expired,
    /// With a new list: something in the stream was lost.
    Anew,
    /// The server refuses a list that is streamed.
    Unstreamed,
}

/// Whom it is about: the resource, and where the server is.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) resource: &'a str,
    pub(super) group: &'a str,
    pub(super) server: &'a str,
}

impl Failure {
    /// What an error of the stream means.
    pub(super) fn of(error: &watcher::Error, about: About<'_>) -> Self {
        match error {
            watcher::Error::InitialListFailed(error) => Self::of_client(error, "list", about),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Self::of_client(error, "watch", about)
            }
            watcher::Error::WatchError(status) => Self::of_status(status, "watch", about),
            watcher::Error::NoResourceVersion => Self {
                reason: format!(
                    "the API server at {} gives {} without a resourceVersion",
                    about.server, about.resource
                ),
                retry_after: None,
                turn: Turn::Anew,
            },
        }
    }

    /// What it means that there is no client.
    pub(super) fn of_connection(error: &ApiError) -> Self {
        Self { reason: error.to_string(), retry_after: None, turn: Turn::Anew }
    }

    fn of_client(error: &ClientError, verb: &str, about: About<'_>) -> Self {
        let About { server, resource, .. } = about;
        let (reason, turn) = match error {
            ClientError::Api(status) => return Self::of_status(status, verb, about),
            ClientError::SerdeError(error) => {
                let reason = format!(
                    "what the API server at {server} says of {resource} cannot be read: {}",
                    category(error)
                );
                (reason, Turn::Anew)
            }
            ClientError::Auth(error) => (no_credentials(error, server), Turn::GoOn),
            other => (unreachable(other, server), Turn::GoOn),
        };
        Self { reason, retry_after: None, turn }
    }

    fn of_status(status: &Status, verb: &str, about: About<'_>) -> Self {
        let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let turn = match status.code {
            410 => Turn::Expired,
            // Older servers do not take the parameters.
            400 | 422 if verb == "watch" => Turn::Unstreamed,
            _ => Turn::GoOn,
        };
        Self { reason: refusal(status, verb, about), retry_after, turn }
    }
}

fn refusal(status: &Status, verb: &str, About { resource, group, server }: About<'_>) -> String {
    let full = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let said = brief(said);
    match status.code {
        401 => format!(
            "the API server at {server} does not know who we are (401): the token or certificate has \
             expired or is another cluster's; give policyd valid credentials of this cluster"
        ),
        403 if resource == "nodes" => format!(
            "the API server refuses to {verb} nodes (403): the component that turns on --scoped-watch or \
             --isolate-unknown adds get, list and watch on them to the ClusterRole `policyd` ({said})"
        ),
        403 => format!(
            "the API server refuses to {verb} {full} (403): bind the ClusterRole `policyd`, which allows \
             get, list and watch on it, to the account that policyd runs as ({said})"
        ),
        404 => format!(
            "the API server at {server} does not serve {full} (404): it must be a Kubernetes API \
             server of version 1.20 or later ({said})"
        ),
        410 => format!("the API server has forgotten where the watch of {resource} was (410)"),
        429 => format!("the API server at {server} has too much to do (429)"),
        code => format!("the API server at {server} fails to {verb} {full} ({code}): {said}"),
    }
}

/// What somebody on the way may have answered as a whole page, in one short line.
fn brief(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Where and why an answer cannot be parsed differs each time; of what sort it is does not.
fn category(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Io => "it broke off",
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Syntax => "it is no JSON",
        serde_json::error::Category::Data => "it is no list and no event",
    }
}

fn no_credentials(error: &AuthError, server: &str) -> String {
    format!("cannot get credentials for the API server at {server}: {error}")
}

/// Why the server cannot be reached, or was lost.
fn unreachable(error: &(dyn StdError + 'static), server: &str) -> String {
    let chain: Vec<&(dyn StdError + 'static)> =
        std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source())
            .collect();
    if let Some(error) = chain.iter().find_map(|error| error.downcast_ref::<AuthError>()) {
        return no_credentials(error, server);
    }
    let innermost = chain.last().map_or_else(String::new, ToString::to_string);
    let kind = chain.iter().rev().find_map(|error| error.downcast_ref::<io::Error>());
    let tls = chain.iter().any(|error| {
        let text = error.to_string();
        text.contains("certificate") || text.contains("corrupt message")
    });
    let advice = match kind.map(io::Error::kind) {
        _ if tls => "check the certificate authority that policyd was given, and the server's name",
        Some(io::ErrorKind::ConnectionRefused) => "nothing listens there; is it running?",
        Some(
            io::ErrorKind::TimedOut
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable,
        ) => "is this node's way to it open?",
        _ => "is it running, and this node's way to it open?",
    };
    format!("cannot reach the API server at {server}: {innermost}; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_out_of_reach_is_said_with_what_to_look_at() {
        let of = |kind: io::ErrorKind, text: &str| {
            unreachable(&ClientError::Service(Box::new(io::Error::new(kind, text.to_owned()))), "S")
        };
        let untrusted = of(io::ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer");
        assert_eq!(
            untrusted,
            "cannot reach the API server at S: invalid peer certificate: UnknownIssuer; check the certificate \
             authority that policyd was given, and the server's name"
        );
        assert!(
            of(io::ErrorKind::TimedOut, "timed out").ends_with("is this node's way to it open?")
        );
        assert!(of(io::ErrorKind::ConnectionRefused, "refused").contains("nothing listens there"));
    }

    #[test]
    fn a_credential_that_cannot_be_renewed_is_no_matter_of_reach() {
        let error = ClientError::Service(Box::new(AuthError::ExecPluginFailed));
        assert_eq!(
            unreachable(&error, "S"),
            "cannot get credentials for the API server at S: exec-plugin response did not contain a status"
        );
    }

    #[test]
    fn a_server_that_has_too_much_to_do_says_for_how_long() {
        let mut status = Status::failure("later", "TooManyRequests").with_code(429);
        status.details = serde_json::from_str(r#"{"retryAfterSeconds": 7}"#).unwrap();
        let about = About { resource: "pods", group: "", server: "S" };
        let failure = Failure::of(&watcher::Error::WatchError(Box::new(status)), about);
        let reason = "the API server at S has too much to do (429)".to_owned();
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(failure, Failure { reason, retry_after, turn: Turn::GoOn });
    }
}
