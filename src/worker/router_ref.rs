//! What stands for a router inside handlers: which one it is, and how keys are taken for it.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::NodeRef;
use crate::hash::{HashKey, HashSeed};
use crate::wire::Message;

/// Hashes the key that a user's function takes from a message.
type KeyFunction<M> = Box<dyn Fn(&M, HashSeed) -> Option<u64> + Send + Sync>;

/// Key functions of a router, by message type: they replace the messages' own keys.
#[derive(Default)]
pub struct KeyFunctions(BTreeMap<TypeId, Box<dyn Any + Send + Sync>>);

impl KeyFunctions {
    /// Takes the key of messages of type `M` with a function.
    pub fn set<M: Message, K: HashKey>(&mut self, key: impl Fn(&M) -> K + Send + Sync + 'static) {
        let hash: KeyFunction<M> = Box::new(move |message, seed| Some(key(message).hash_key(seed)));
        self.0.insert(TypeId::of::<M>(), Box::new(hash));
    }

    fn hash<M: Message>(&self, message: &M, seed: HashSeed) -> Option<u64> {
        let function = self.0.get(&TypeId::of::<M>());
        match function.and_then(|function| function.downcast_ref::<KeyFunction<M>>()) {
            Some(function) => function(message, seed),
            None => message.key_hash(seed),
        }
    }
}

impl std::fmt::Debug for KeyFunctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyFunctions({})", self.0.len())
    }
}

/// Holds a router: it ends when the last handle and reference that were made of one `build` are
/// gone.
pub struct Registration {
    id: u32,
    ended: Box<dyn Fn(u32) + Send + Sync>,
}

impl Registration {
    /// Calls `ended` with the id, on whatever thread drops the last one: it must not block.
    pub fn new(id: u32, ended: impl Fn(u32) + Send + Sync + 'static) -> Self {
        Self { id, ended: Box::new(ended) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        (self.ended)(self.id);
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registration({})", self.id)
    }
}

/// A router among those of all nodes of this process: its id in snapshots says nothing to another
/// node, whose own router of the same id it would be. Compared in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RouterKey(u64);

impl RouterKey {
    pub const fn new(of: NodeRef, id: u32) -> Self {
        // Names are hashed into ids, so that the upper half of one tells nodes apart; lives of a
        // node differ in the lower bits.
        let NodeRef { node, incarnation } = of;
        let life = incarnation.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self((node.0 ^ life) & !0xffff_ffff | id as u64)
    }

    pub const fn id(self) -> u32 {
        self.0 as u32
    }

    /// Whether both are of one node.
    pub const fn is_beside(self, other: Self) -> bool {
        self.0 >> 32 == other.0 >> 32
    }
}

/// Which router a handle stands for, and how keys are hashed for it. The router lives on as long as
/// a clone of this does.
#[derive(Clone, Debug)]
pub struct RouterRef {
    /// By which the workers of its node find it.
    key: RouterKey,
    /// The cluster's hash seed.
    pub seed: HashSeed,
    /// `None` when every message has its own key: the common case, in which nothing is looked up.
    keys: Option<Arc<KeyFunctions>>,
    #[expect(dead_code, reason = "held for its drop")]
    registration: Option<Arc<Registration>>,
}

impl RouterRef {
    /// A router of a node, by its id in snapshots, whose messages have keys of their own.
    pub const fn new(of: NodeRef, id: u32, seed: HashSeed) -> Self {
        Self { key: RouterKey::new(of, id), seed, keys: None, registration: None }
    }

    /// The router's id in snapshots.
    pub const fn id(&self) -> u32 {
        self.key.id()
    }

    /// By which the workers of its node find it.
    #[inline]
    pub(super) const fn key(&self) -> RouterKey {
        self.key
    }

    /// The same, holding its router.
    pub fn holding(self, registration: Registration) -> Self {
        Self { registration: Some(Arc::new(registration)), ..self }
    }

    /// The same with functions that take the keys of some types.
    pub fn with_keys(self, keys: KeyFunctions) -> Self {
        Self { keys: (!keys.0.is_empty()).then(|| Arc::new(keys)), ..self }
    }

    /// The key's hash of a message. The one place where a key is taken, whoever sends.
    #[inline]
    pub fn key_hash<M: Message>(&self, message: &M) -> Option<u64> {
        match &self.keys {
            None => message.key_hash(self.seed),
            Some(keys) => keys.hash(message, self.seed),
        }
    }
}

impl AsRef<RouterRef> for RouterRef {
    fn as_ref(&self) -> &RouterRef {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_router_ends_with_the_last_that_holds_it_and_once() {
        let ended = Arc::new(Mutex::new(Vec::new()));
        let its = Arc::clone(&ended);
        let registration = Registration::new(7, move |id| its.lock().unwrap().push(id));
        let first = Arc::new(registration);
        let second = Arc::clone(&first);
        drop(first);
        assert!(ended.lock().unwrap().is_empty(), "it is held");
        drop(second);
        assert_eq!(*ended.lock().unwrap(), [7]);
    }
}
