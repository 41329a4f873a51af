//! The log goes to stderr through a thread of its own, so that a reader that stalls holds up nothing
//! else. What finds no room meanwhile is counted, and said when the reader goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Lines that may wait for the reader.
const LINES: usize = 1_024;
/// For how long the end of the process waits for what has not been written.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many lines there were.
#[derive(Default)]
struct Lines {
    /// Waiting or written.
    taken: AtomicU64,
    written: AtomicU64,
    /// Of those that found no room: not yet said.
    left_out: AtomicU64,
}

/// Writes whole lines, and never waits.
#[derive(Clone)]
pub struct Log {
    to_writer: SyncSender<Vec<u8>>,
    lines: Arc<Lines>,
}

/// Waits, when it is dropped, for a moment until all has been written.
pub struct Rest(Arc<Lines>);

impl Log {
    /// Begins.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub fn to_stderr() -> io::Result<(Self, Rest)> {
        let (to_writer, from_threads) = sync_channel(LINES);
        let lines = Arc::new(Lines::default());
        let shared = Arc::clone(&lines);
        let name = "keyway-log".to_owned();
        thread::Builder::new().name(name).spawn(move || write(&from_threads, &shared))?;
        let rest = Rest(Arc::clone(&lines));
        Ok((Self { to_writer, lines }, rest))
    }
}

fn write(from_threads: &Receiver<Vec<u8>>, lines: &Lines) {
    for line in from_threads {
        // A reader that is gone misses nothing that it would want.
        let _ = io::stderr().write_all(&line);
        let left_out = lines.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let _ = writeln!(
                io::stderr(),
                "{left_out} lines of the log were left out: whoever reads it was too slow"
            );
        }
        lines.written.fetch_add(1, Ordering::Release);
    }
}

impl Write for Log {
    /// Takes a whole event, as the subscriber writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let counted = match self.to_writer.try_send(line.to_vec()) {
            Ok(()) => &self.lines.taken,
            Err(_) => &self.lines.left_out,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let began = Instant::now();
        let Lines { taken, written, .. } = &*self.0;
        while written.load(Ordering::Acquire) < taken.load(Ordering::Relaxed)
            && began.elapsed() < PATIENCE
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
