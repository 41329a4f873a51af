//! A place for the latest of something: who puts a newer one there replaces what nobody has taken
//! yet. So however far behind the taker is, only one is held for it.

use std::sync::Arc;

use super::sync::ArrayQueue;

/// The place. Clones are the same one.
pub struct Latest<T>(Arc<ArrayQueue<T>>);

impl<T> Clone for Latest<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self(Arc::new(ArrayQueue::new(1)))
    }
}

impl<T> Latest<T> {
    /// Puts one there. True if the place was empty: nobody has been told of it yet. If not, whoever
    /// was told of the one before finds this one.
    pub fn put(&self, value: T) -> bool {
        self.0.force_push(value).is_none()
    }

    /// Takes what is there.
    pub fn take(&self) -> Option<T> {
        self.0.pop()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_taken_and_told_of_once() {
        let latest = Latest::default();
        assert_eq!([latest.put(1), latest.put(2), latest.put(3)], [true, false, false]);
        assert_eq!([latest.take(), latest.take()], [Some(3), None]);
        assert!(latest.put(4));
    }

    #[test]
    fn the_last_one_always_arrives_where_two_threads_meet() {
        let (latest, (tell, told)) = (Latest::default(), std::sync::mpsc::channel());
        let taker = latest.clone();
        let taker = std::thread::spawn(move || {
            told.iter().map(|()| taker.take().expect("told once of each")).last()
        });
        for value in 0..20_000 {
            if latest.put(value) {
                tell.send(()).unwrap();
            }
        }
        drop(tell);
        assert_eq!(taker.join().unwrap(), Some(19_999));
    }
}
