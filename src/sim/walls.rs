//! What partitions keep apart.

use super::events::SlotId;

/// The number by which a system says that there is no route.
const UNREACHABLE: i32 = 101;

/// Between which machines nothing arrives.
#[derive(Default)]
pub struct Walls {
    /// By partition: one direction between two machines.
    all: Vec<(u64, SlotId, SlotId)>,
    /// From each machine to each: how many of these there are.
    between: Vec<Vec<u32>>,
}

impl Walls {
    /// Blocks one direction between two machines until [`Walls::fall`] with the same number.
    pub fn stand(&mut self, number: u64, from: SlotId, to: SlotId) {
        self.all.push((number, from, to));
        if self.between.len() <= from {
            self.between.resize_with(from + 1, Vec::new);
        }
        let row = &mut self.between[from];
        row.resize(row.len().max(to + 1), 0);
        row[to] += 1;
    }

    /// Ends one partition.
    pub fn fall(&mut self, number: u64) {
        for (_, from, to) in self.all.extract_if(.., |(known, _, _)| *known == number) {
            self.between[from][to] -= 1;
        }
    }

    /// Ends all partitions.
    pub fn fall_all(&mut self) {
        *self = Self::default();
    }

    /// The number by which the system says so of each datagram, if it does, as where there is no route.
    /// Where two partitions block one way, either may.
    pub fn told(&self, from: SlotId, to: SlotId) -> Option<i32> {
        let across = |wall: &&(u64, SlotId, SlotId)| (wall.1, wall.2) == (from, to);
        let mut across = self.all.iter().filter(across);
        let is_told = self.is_between(from, to) && across.any(|(number, ..)| number % 2 == 0);
        is_told.then_some(UNREACHABLE)
    }

    /// Whether there is any.
    pub fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// Whether nothing arrives.
    pub fn is_between(&self, from: SlotId, to: SlotId) -> bool {
        let row = self.between.get(from);
        row.and_then(|row| row.get(to)).is_some_and(|walls| *walls > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_other_partition_is_told_to_the_sender() {
        let mut walls = Walls::default();
        walls.stand(1, 0, 1);
        assert!(walls.is_between(0, 1) && walls.told(0, 1).is_none());
        walls.stand(2, 0, 1);
        assert!(walls.told(0, 1).is_some() && walls.told(1, 0).is_none());
        walls.fall(2);
        assert!(walls.told(0, 1).is_none());
    }

    #[test]
    fn a_way_is_open_again_when_the_last_partition_across_it_is_over() {
        let mut walls = Walls::default();
        walls.stand(1, 0, 2);
        walls.stand(2, 0, 2);
        walls.stand(2, 2, 1);
        assert!(walls.is_between(0, 2) && walls.is_between(2, 1) && !walls.is_between(2, 0));
        walls.fall(2);
        assert!(walls.is_between(0, 2) && !walls.is_between(2, 1));
        walls.fall(1);
        assert!(!walls.is_between(0, 2));
        walls.stand(3, 1, 0);
        walls.fall_all();
        assert!(!walls.is_between(1, 0));
    }
}
