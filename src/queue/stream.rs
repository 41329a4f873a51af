//! What one thread tells any number of others, who read it at their own pace: the last items, of a
//! bounded number and of bounded bytes. Items are kept once for all readers, and only while there
//! are any, so that a reader costs nothing here however slow it is; it is told how many it missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// What a stream keeps at most. The newest item is kept however large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keeps {
    /// So many items.
    pub items: usize,
    /// So many bytes, as whoever pushes reckons them.
    pub bytes: usize,
}

struct Kept<T> {
    /// The newest items, oldest first, with what each takes.
    items: VecDeque<(Arc<T>, usize)>,
    bytes: usize,
    /// How many were pushed in all: the number of the next one.
    pushed: u64,
    readers: usize,
}

impl<T> Kept<T> {
    fn oldest(&self) -> u64 {
        self.pushed - self.items.len() as u64
    }
}

fn lock<T>(kept: &Mutex<Kept<T>>) -> MutexGuard<'_, Kept<T>> {
    // Nothing panics while it is held.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The end that tells. The stream is over when the last clone of it is gone.
pub struct StreamSender<T> {
    kept: Arc<Mutex<Kept<T>>>,
    most: Keeps,
    /// Wakes those who wait.
    news: watch::Sender<()>,
}

impl<T> Clone for StreamSender<T> {
    fn clone(&self) -> Self {
        Self { kept: Arc::clone(&self.kept), most: self.most, news: self.news.clone() }
    }
}

impl<T> StreamSender<T> {
    /// A stream that nobody reads yet.
    pub fn new(most: Keeps) -> Self {
        let kept = Kept { items: VecDeque::new(), bytes: 0, pushed: 0, readers: 0 };
        Self { kept: Arc::new(Mutex::new(kept)), most, news: watch::Sender::new(()) }
    }

    /// A reader of what is pushed from now on.
    pub fn subscribe(&self) -> StreamReader<T> {
        let mut kept = lock(&self.kept);
        kept.readers += 1;
        let next = kept.pushed;
        StreamReader { kept: Arc::clone(&self.kept), next, news: self.news.subscribe() }
    }

    /// Whether anybody reads: else what is pushed goes nowhere.
    pub fn is_read(&self) -> bool {
        lock(&self.kept).readers > 0
    }

    /// Tells all readers of an item that takes so many bytes. The oldest ones make room.
    pub fn push(&self, item: T, bytes: usize) {
        let mut kept = lock(&self.kept);
        if kept.readers == 0 {
            return;
        }
        kept.pushed += 1;
        kept.bytes += bytes;
        kept.items.push_back((Arc::new(item), bytes));
        let mut gone = Vec::new();
        while kept.items.len() > self.most.items
            || (kept.bytes > self.most.bytes && kept.items.len() > 1)
        {
            let Some((item, bytes)) = kept.items.pop_front() else { break };
            kept.bytes -= bytes;
            gone.push(item);
        }
        drop(kept);
        // Nobody waits while they are freed, and what they do then may use the stream.
        drop(gone);
        self.news.send_replace(());
    }
}

/// Why a reader got no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamGap {
    /// So many made room before they were read; reading goes on behind them.
    Missed(u64),
    /// There will be no more.
    Over,
}

/// The end that listens.
pub struct StreamReader<T> {
    kept: Arc<Mutex<Kept<T>>>,
    /// The number of the item that it reads next.
    next: u64,
    news: watch::Receiver<()>,
}

impl<T> StreamReader<T> {
    /// The next item, if it is there already.
    ///
    /// # Errors
    /// [`StreamGap`].
    pub fn try_next(&mut self) -> Result<Option<Arc<T>>, StreamGap> {
        // Looked at before the items: what is pushed last is not missed.
        let over = self.news.has_changed().is_err();
        let kept = lock(&self.kept);
        let oldest = kept.oldest();
        if self.next < oldest {
            let missed = oldest - self.next;
            self.next = oldest;
            return Err(StreamGap::Missed(missed));
        }
        match kept.items.get((self.next - oldest) as usize) {
            Some((item, _)) => {
                self.next += 1;
                Ok(Some(Arc::clone(item)))
            }
            None if over => Err(StreamGap::Over),
            None => Ok(None),
        }
    }

    /// The next item, once it is there. Nothing is lost when this is dropped before it is ready.
    ///
    /// # Errors
    /// [`StreamGap`].
    pub async fn next(&mut self) -> Result<Arc<T>, StreamGap> {
        loop {
            // Before looking, so that what is pushed in between wakes.
            self.news.mark_unchanged();
            if let Some(item) = self.try_next()? {
                return Ok(item);
            }
            // An error says that it is over, and so will the next look, behind the last item.
            let _ = self.news.changed().await;
        }
    }
}

impl<T> Drop for StreamReader<T> {
    fn drop(&mut self) {
        let mut kept = lock(&self.kept);
        kept.readers -= 1;
        if kept.readers == 0 {
            kept.bytes = 0;
            let gone = std::mem::take(&mut kept.items);
            drop(kept);
            // As in `push`.
            drop(gone);
        }
    }
}

impl<T> std::fmt::Debug for StreamReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamReader").field("next", &self.next).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::block_on;
    use super::*;

    fn stream(items: usize, bytes: usize) -> StreamSender<u32> {
        StreamSender::new(Keeps { items, bytes })
    }

    /// How many items are kept, and how many bytes.
    fn kept(stream: &StreamSender<u32>) -> (usize, usize) {
        let kept = lock(&stream.kept);
        (kept.items.len(), kept.bytes)
    }

    fn read(reader: &mut StreamReader<u32>) -> Result<Option<u32>, StreamGap> {
        reader.try_next().map(|item| item.map(|item| *item))
    }

    #[test]
    fn each_reader_gets_what_was_pushed_since_it_came_in_order() {
        let stream = stream(10, 100);
        stream.push(0, 1);
        let mut first = stream.subscribe();
        stream.push(1, 1);
        let mut second = stream.subscribe();
        stream.push(2, 1);
        assert_eq!([read(&mut first), read(&mut first)], [Ok(Some(1)), Ok(Some(2))]);
        assert_eq!(read(&mut second), Ok(Some(2)));
        assert_eq!([read(&mut first), read(&mut second)], [Ok(None), Ok(None)]);
    }

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes_and_are_counted() {
        let stream = stream(3, 100);
        let mut reader = stream.subscribe();
        (0..5).for_each(|item| stream.push(item, 1));
        assert_eq!(read(&mut reader), Err(StreamGap::Missed(2)));
        assert_eq!(read(&mut reader), Ok(Some(2)));
        stream.push(5, 60);
        stream.push(6, 60);
        assert_eq!(kept(&stream), (1, 60));
        assert_eq!(read(&mut reader), Err(StreamGap::Missed(3)));
        assert_eq!(read(&mut reader), Ok(Some(6)));
        stream.push(7, 1_000);
        assert_eq!(read(&mut reader), Ok(Some(7)), "the newest, however large");
        stream.push(8, 1);
        assert_eq!(kept(&stream), (1, 1));
        assert_eq!(read(&mut reader), Ok(Some(8)));
    }

    #[test]
    fn what_is_dropped_is_freed_while_the_stream_can_be_used() {
        use std::sync::OnceLock;
        use std::sync::atomic::{AtomicUsize, Ordering};

        static STREAM: OnceLock<StreamSender<Item>> = OnceLock::new();
        static FREED: AtomicUsize = AtomicUsize::new(0);
        struct Item;
        impl Drop for Item {
            fn drop(&mut self) {
                let stream = STREAM.get().expect("it is there");
                assert!(stream.kept.try_lock().is_ok(), "it is freed under the lock");
                FREED.fetch_add(1, Ordering::SeqCst);
            }
        }
        let stream = STREAM.get_or_init(|| StreamSender::new(Keeps { items: 3, bytes: 30 }));
        stream.push(Item, 1);
        assert_eq!(FREED.load(Ordering::SeqCst), 1, "nobody reads it");
        let reader = stream.subscribe();
        (0..5).for_each(|_| stream.push(Item, 1));
        assert_eq!(FREED.load(Ordering::SeqCst), 3, "too many");
        stream.push(Item, 29);
        assert_eq!(FREED.load(Ordering::SeqCst), 5, "too large together");
        drop(reader);
        assert_eq!(FREED.load(Ordering::SeqCst), 7, "nobody reads them any more");
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let stream = stream(10, 100);
        let readers = [stream.subscribe(), stream.subscribe()];
        stream.push(1, 1);
        drop(readers);
        stream.push(2, 1);
        assert!(!stream.is_read());
        assert_eq!(kept(&stream), (0, 0));
        let mut late = stream.subscribe();
        stream.push(3, 1);
        assert_eq!(read(&mut late), Ok(Some(3)));
    }

    #[test]
    fn who_waits_is_woken_by_each_item_and_by_the_end() {
        let stream = stream(1_000, 100_000);
        let mut reader = stream.subscribe();
        let teller = std::thread::spawn(move || {
            for item in 0..200 {
                if item % 7 == 0 {
                    std::thread::yield_now();
                }
                stream.push(item, 1);
            }
        });
        for item in 0..200 {
            assert_eq!(block_on(reader.next()).map(|got| *got), Ok(item));
        }
        teller.join().unwrap();
        assert_eq!(block_on(reader.next()), Err(StreamGap::Over));
        assert_eq!(read(&mut reader), Err(StreamGap::Over));
    }
}
