//! Deadlines for what the API server says, and a sign where it takes up a watch.
//!
//! The client itself would wait for an answer without end, and says nothing of a watch that was taken
//! up again while nothing changes. Here every answer must begin in time. A body that goes silent is
//! given up: of a list that is a failure; a watch ends as if the server had ended it, so that it is
//! taken up where it was.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower::{BoxError, Layer, Service};

use super::delays::Delays;
use crate::metrics::Received;

/// Since when the server holds a watch for us; `None` while it does not.
pub(super) type Taken = Option<Instant>;

/// What was not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impatience {
    /// The beginning of an answer.
    #[error("no answer within {} seconds", .0.as_secs())]
    Answer(Duration),
    /// The rest of one.
    #[error("no more of an answer within {} seconds", .0.as_secs())]
    Rest(Duration),
}

/// Puts deadlines on every request, and tells of watches.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// Who is told.
    pub(super) taken: watch::Sender<Taken>,
    /// The deadlines.
    pub(super) delays: Delays,
    /// Where it is counted how much comes.
    pub(super) received: Received,
}

impl<S> Layer<S> for Patience {
    type Service = Patient<S>;

    fn layer(&self, inner: S) -> Patient<S> {
        Patient { inner, patience: self.clone() }
    }
}

/// A service with deadlines.
#[derive(Clone, Debug)]
pub(super) struct Patient<S> {
    inner: S,
    patience: Patience,
}

type Answer<B> = Pin<Box<dyn Future<Output = Result<Response<PatientBody<B>>, BoxError>> + Send>>;

impl<S, T, B> Service<Request<T>> for Patient<S>
where
    S: Service<Request<T>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<PatientBody<B>>;
    type Error = BoxError;
    type Future = Answer<B>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<T>) -> Answer<B> {
        let watches = is_watch(request.uri());
        let Patience { taken, delays, received } = self.patience.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let _ = taken.send_replace(None);
            let late = |_| Impatience::Answer(delays.answer);
            let answer = timeout(delays.answer, answer).await.map_err(late)?;
            let response = answer.map_err(Into::into)?;
            let watches = watches && response.status().is_success();
            if watches {
                let _ = taken.send_replace(Some(Instant::now()));
            }
            let limit = if watches { delays.watch } else { delays.list };
            let watches = watches.then_some(taken);
            Ok(response.map(|body| PatientBody::new(body, limit, watches, received)))
        })
    }
}

/// Whether a request asks for a watch and not for a list.
fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

/// A body that may not be silent for long.
#[derive(Debug)]
pub(super) struct PatientBody<B> {
    inner: Pin<Box<B>>,
    silence: Pin<Box<Sleep>>,
    /// How long that may be.
    limit: Duration,
    /// Who is told when the watch has ended; `None` where this is none.
    watches: Option<watch::Sender<Taken>>,
    received: Received,
}

impl<B> PatientBody<B> {
    fn new(
        inner: B,
        limit: Duration,
        watches: Option<watch::Sender<Taken>>,
        received: Received,
    ) -> Self {
        Self { inner: Box::pin(inner), silence: Box::pin(sleep(limit)), limit, watches, received }
    }

    fn ended(&mut self) {
        if let Some(taken) = &self.watches {
            let _ = taken.send_replace(None);
        }
    }
}

impl<B> Body for PatientBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = self.inner.as_mut().poll_frame(context) {
            let frame = frame.map(|frame| frame.map_err(Into::into));
            if let Some(Ok(frame)) = &frame {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.received.bytes.inc_by(u64::try_from(length).unwrap_or(u64::MAX));
                let deadline = Instant::now() + self.limit;
                self.silence.as_mut().reset(deadline);
            } else {
                self.ended();
            }
            return Poll::Ready(frame);
        }
        ready!(self.silence.as_mut().poll(context));
        self.ended();
        let end = if self.watches.is_some() {
            None
        } else {
            Some(Err(Impatience::Rest(self.limit).into()))
        };
        Poll::Ready(end)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
