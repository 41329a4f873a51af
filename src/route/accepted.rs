//! Which message types the routees of a table take, so that a sender is told before it sends that a
//! routee would read its bytes as something else.
//!
//! A routee that lists the name with another layout *misreads*: it is left out for that message.
//! One that does not list the name at all is not: it may do so a moment later, and says so itself
//! when it gets the message.

use crate::base::{MessageType, MessageTypeId, TypeRef};

/// How much of a table fits a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// No routee misreads it.
    Everywhere,
    /// Some routees misread it.
    Somewhere,
    /// All routees misread it.
    Nowhere,
}

/// What the routees of one table take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Types that every routee takes: the only thing that a message looks at usually.
    everywhere: Vec<MessageTypeId>,
    /// The different lists of types that routees have; seldom more than one.
    lists: Vec<Vec<MessageType>>,
    /// By routee: its list. Empty while there is only one.
    list_of: Vec<u16>,
}

impl Accepted {
    /// From the list of each routee, in the table's order.
    pub fn new<'a>(routees: impl Iterator<Item = &'a [MessageType]>) -> Self {
        let mut accepted = Self::default();
        for types in routees {
            // Routees of one node come apart, but lists are few.
            let known = accepted.lists.iter().position(|list| list == types);
            let list = known.unwrap_or_else(|| {
                accepted.lists.push(types.to_vec());
                accepted.lists.len() - 1
            });
            // A table has at most 65,535 routees, and each brings one list.
            accepted.list_of.push(list as u16);
        }
        if let [first, others @ ..] = &accepted.lists[..] {
            let common =
                first.iter().filter(|known| others.iter().all(|list| list.contains(known)));
            accepted.everywhere = common.map(MessageType::id).collect();
        }
        if accepted.lists.len() <= 1 {
            accepted.list_of = Vec::new();
        }
        accepted
    }

    /// Whether every routee takes the type with this id.
    #[inline]
    pub fn is_everywhere(&self, message: MessageTypeId) -> bool {
        self.everywhere.contains(&message)
    }

    /// How many of the routees fit a message.
    pub fn fit(&self, message: &TypeRef) -> Fit {
        let misreading = self.lists.iter().filter(|list| misreads(list, message)).count();
        match misreading {
            0 => Fit::Everywhere,
            all if all == self.lists.len() => Fit::Nowhere,
            _ => Fit::Somewhere,
        }
    }

    /// Whether a routee would take a message of this type for something else.
    pub fn misreads(&self, routee: u16, message: &TypeRef) -> bool {
        let list = self.list_of.get(usize::from(routee)).copied().unwrap_or(0);
        self.lists.get(usize::from(list)).is_some_and(|list| misreads(list, message))
    }
}

/// Whether somebody who takes these types takes this one for something else.
pub fn misreads(types: &[MessageType], message: &TypeRef) -> bool {
    let mut named = types.iter().filter(|known| *known.name == *message.name).peekable();
    named.peek().is_some() && named.all(|known| known.layout != message.layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::LayoutHash;

    fn list(types: &[(&str, u64)]) -> Vec<MessageType> {
        types.iter().map(|(name, layout)| MessageType::new(name, LayoutHash(*layout))).collect()
    }

    fn sent(name: &'static str, layout: u64) -> TypeRef {
        let layout = LayoutHash(layout);
        TypeRef { name, layout, id: MessageTypeId::of(name, layout) }
    }

    #[test]
    fn a_name_with_another_layout_is_misread_and_a_missing_name_is_not() {
        let (old, new) = (list(&[("a", 1), ("b", 1)]), list(&[("a", 2), ("b", 1), ("c", 1)]));
        let routees = [&old, &new, &old].map(Vec::as_slice);
        let accepted = Accepted::new(routees.into_iter());
        let reads = |message| [0, 1, 2].map(|routee| !accepted.misreads(routee, &message));
        for (message, fit, read) in [
            (sent("a", 1), Fit::Somewhere, [true, false, true]),
            (sent("a", 2), Fit::Somewhere, [false, true, false]),
            (sent("a", 3), Fit::Nowhere, [false; 3]),
            (sent("b", 1), Fit::Everywhere, [true; 3]),
            (sent("b", 2), Fit::Nowhere, [false; 3]),
            (sent("c", 1), Fit::Everywhere, [true; 3]),
            (sent("c", 2), Fit::Somewhere, [true, false, true]),
            (sent("d", 1), Fit::Everywhere, [true; 3]),
        ] {
            assert_eq!((accepted.fit(&message), reads(message)), (fit, read), "{message:?}");
            let everywhere = message == sent("b", 1);
            assert_eq!(accepted.is_everywhere(message.id), everywhere, "{message:?}");
        }
    }

    #[test]
    fn nobody_misreads_in_an_empty_table() {
        let accepted = Accepted::new([].into_iter());
        assert_eq!(accepted.fit(&sent("a", 1)), Fit::Everywhere);
        assert!(!accepted.is_everywhere(sent("a", 1).id));
        assert!(!accepted.misreads(0, &sent("a", 1)));
    }
}
