//! The log: lines on standard error, as text or JSON.
//!
//! A thread of its own writes them. Whoever logs never waits, and never fails, for a reader that is
//! slow or gone: what does not fit into the queue is dropped, counted, and told of.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::args::LogFormat;

/// What these log of each attempt, the source says once and in a line that helps. A filter that names
/// them gets them all the same.
const QUIET: &str = "kube_client=off,kube_runtime=off,rustls_platform_verifier=off";
/// How many lines may wait to be written.
const QUEUE: usize = 4096;
/// How long an end waits for the lines before it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error("`{filter}` is no log filter")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The thread that writes.
    #[error("cannot start the log")]
    Thread(#[source] io::Error),
}

/// Starts the log. A log that was started before, as in tests, stays. What is still in the queue is
/// written when the answer is dropped.
///
/// # Errors
/// Where the filter is not understood.
pub fn start(format: LogFormat, level: Option<&str>) -> Result<Queue, LogError> {
    let environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    let filter = level.map(str::to_owned).or(environment).unwrap_or_else(|| "info".to_owned());
    let parsed = EnvFilter::try_new(format!("{QUIET},{filter}"))
        .map_err(|source| LogError::Filter { filter: filter.clone(), source })?;
    let queue = Queue::new(io::stderr(), QUEUE).map_err(LogError::Thread)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_target(false)
        // It would say on standard error that standard error is gone, and panic.
        .log_internal_errors(false)
        .with_writer(queue.lines.clone());
    let _ = match format {
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            lines.with_ansi(colour).try_init()
        }
    };
    Ok(queue)
}

/// Waits, when dropped, until the lines so far are written, for a moment at most.
#[derive(Debug)]
pub struct Queue {
    lines: Lines,
}

#[derive(Clone, Debug)]
struct Lines {
    sender: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

enum Entry {
    Line(Vec<u8>),
    /// To be answered once all before it is written.
    Flush(SyncSender<()>),
}

impl Queue {
    fn new(sink: impl Write + Send + 'static, capacity: usize) -> io::Result<Self> {
        let (sender, entries) = mpsc::sync_channel(capacity);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_all(sink, &entries, &count);
        })?;
        Ok(Self { lines: Lines { sender, dropped } })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let (done, written) = mpsc::sync_channel(1);
        let mut entry = Entry::Flush(done);
        while let Err(mpsc::TrySendError::Full(back)) = self.lines.sender.try_send(entry) {
            if Instant::now() >= deadline {
                return;
            }
            entry = back;
            thread::sleep(Duration::from_millis(5));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_all(mut sink: impl Write, entries: &Receiver<Entry>, dropped: &AtomicU64) {
    for entry in entries {
        // A reader that is gone misses its lines; enforcement does not depend on it.
        match entry {
            Entry::Line(line) => drop(sink.write_all(&line)),
            Entry::Flush(done) => drop(done.try_send(())),
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            drop(writeln!(
                sink,
                "policyd: {lost} log lines were dropped, nobody read them in time"
            ));
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl Write for &Lines {
    /// Takes one whole line: so is it handed over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(Entry::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A sink that writes nothing while somebody holds it.
    #[derive(Clone, Default)]
    struct Held(Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_sink_that_hangs_holds_nobody_up_and_what_it_missed_is_counted() {
        let sink = Held::default();
        let queue = Queue::new(sink.clone(), 2).unwrap();
        let held = sink.0.lock().unwrap();
        let begun = Instant::now();
        for number in 0..100 {
            (&queue.lines).write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        assert!(begun.elapsed() < PATIENCE);
        drop(held);
        let begun = Instant::now();
        drop(queue);
        assert!(begun.elapsed() < PATIENCE, "what is left is written at the end");
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("0\n"), "{text}");
        assert!(text.contains("log lines were dropped"), "{text}");
    }

    #[test]
    fn a_sink_that_fails_is_no_error_of_those_who_log() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = Queue::new(Gone, 8).unwrap();
        for _ in 0..20 {
            assert_eq!((&queue.lines).write(b"line\n").unwrap(), 5);
        }
    }
}
