//! What partitions keep apart.

use super::events::SlotId;

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
