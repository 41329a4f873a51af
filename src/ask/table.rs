//! Numbers for what waits for an answer. A number holds a place and the place's generation, so that
//! whatever comes after the end finds nothing: a late reply can never match another ask.

/// What waits, each with a number that travels as its correlation.
#[derive(Debug)]
pub struct AskTable<W> {
    entries: Vec<Entry<W>>,
    free: Vec<u32>,
    limit: usize,
}

#[derive(Debug)]
struct Entry<W> {
    generation: u32,
    waiter: Option<W>,
}

impl<W> AskTable<W> {
    /// An empty table that holds at most `limit` asks at a time.
    pub fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), free: Vec::new(), limit }
    }

    /// How many asks are open.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether no more can be opened.
    pub fn is_full(&self) -> bool {
        self.len() >= self.limit
    }

    /// Whether no ask is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens an ask and gives its correlation; gives the waiter back when the table is full.
    #[inline]
    pub fn open(&mut self, waiter: W) -> Result<u64, W> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.limit => {
                self.entries.push(Entry { generation: 0, waiter: None });
                (self.entries.len() - 1) as u32
            }
            None => return Err(waiter),
        };
        let entry = &mut self.entries[index as usize];
        entry.waiter = Some(waiter);
        Ok(u64::from(entry.generation) << 32 | u64::from(index))
    }

    /// The number that the next [`AskTable::open`] will give, if it is not full.
    #[inline]
    pub fn next(&self) -> u64 {
        match self.free.last() {
            Some(index) => {
                let generation = self.entries[*index as usize].generation;
                u64::from(generation) << 32 | u64::from(*index)
            }
            None => self.entries.len() as u64,
        }
    }

    /// The waiter of an open ask.
    #[inline]
    pub fn get(&self, correlation: u64) -> Option<&W> {
        let entry = self.entries.get(correlation as u32 as usize)?;
        if entry.generation != (correlation >> 32) as u32 {
            return None;
        }
        entry.waiter.as_ref()
    }

    /// The waiter of an open ask.
    #[inline]
    pub fn get_mut(&mut self, correlation: u64) -> Option<&mut W> {
        let entry = self.entries.get_mut(correlation as u32 as usize)?;
        if entry.generation != (correlation >> 32) as u32 {
            return None;
        }
        entry.waiter.as_mut()
    }

    /// Ends an ask; `None` when it has ended before.
    #[inline]
    pub fn close(&mut self, correlation: u64) -> Option<W> {
        let index = correlation as u32;
        let entry = self.entries.get_mut(index as usize)?;
        if entry.generation != (correlation >> 32) as u32 {
            return None;
        }
        let waiter = entry.waiter.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(index);
        Some(waiter)
    }

    /// What waits, in the order of the places.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.entries.iter().filter_map(|entry| entry.waiter.as_ref())
    }

    /// The correlations of all open asks whose waiter fits, in the order of their places.
    pub fn find(&self, fits: impl Fn(&W) -> bool) -> Vec<u64> {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.waiter.as_ref().is_some_and(&fits))
            .map(|(index, entry)| u64::from(entry.generation) << 32 | index as u64)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_ends_once() {
        let mut asks = AskTable::new(2);
        let next = asks.next();
        let correlation = asks.open("waiter").unwrap();
        assert_eq!((next, asks.get(correlation)), (correlation, Some(&"waiter")));
        assert_eq!(asks.close(correlation), Some("waiter"));
        assert_eq!(asks.close(correlation), None);
    }

    #[test]
    fn a_late_reply_never_matches_the_next_ask_in_the_same_place() {
        let mut asks = AskTable::new(1);
        let first = asks.open(1).unwrap();
        asks.close(first);
        let next = asks.next();
        let second = asks.open(2).unwrap();
        assert_eq!(next, second);
        assert_eq!(first as u32, second as u32, "the place is used again");
        assert_eq!(asks.close(first), None);
        assert_eq!(asks.close(second), Some(2));
    }

    #[test]
    fn a_full_table_gives_the_waiter_back() {
        let mut asks = AskTable::new(1);
        asks.open('a').unwrap();
        assert_eq!(asks.open('b'), Err('b'));
        assert_eq!(asks.len(), 1);
    }

    #[test]
    fn hostile_correlations_match_nothing() {
        let mut asks = AskTable::new(4);
        asks.open(()).unwrap();
        for correlation in [u64::MAX, 1 << 32, 1, u64::from(u32::MAX)] {
            assert_eq!(asks.close(correlation), None);
        }
    }

    #[test]
    fn asks_are_found_by_their_waiter() {
        let mut asks = AskTable::new(4);
        let first = asks.open(7).unwrap();
        asks.open(8).unwrap();
        let third = asks.open(7).unwrap();
        assert_eq!(asks.find(|waiter| *waiter == 7), vec![first, third]);
    }
}
