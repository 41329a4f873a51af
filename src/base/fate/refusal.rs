//! Why a message was not accepted.

use crate::base::debug_as_display;

reasons! {
    /// Why a message was not accepted; the sender was told so at once and may try again.
    #[derive(thiserror::Error)]
    pub enum Refusal in Refused {
        /// The router's table is empty.
        #[error("no routee serves the path; await `ready`, or check the path and the routers' roles")]
        NoRoutee,
        /// There are routees, but no link to any of them works at the moment.
        #[error("no routee can be reached at the moment; try again shortly")]
        Unreachable,
        /// A consistent-hashing router got a message without a key.
        #[error(
            "the message has no key, which the router needs; give its type `#[message(key = field)]`, \
             the router a key function, or use the `_keyed` way to send"
        )]
        MissingKey,
        /// The queue towards the routee holds as much as it may.
        #[error(
            "the queue towards the routee is full, the worker's or the link's; slow down, or raise \
             workers.inject_capacity, or links.outbox_bytes and links.outboxes_bytes"
        )]
        QueueFull,
        /// The encoded message is over the frame limit. The log says how long it was, and what the
        /// limit is.
        #[error(
            "the message is larger than links.max_frame_bytes allows, of this node or of the \
             receiving one; send less at a time, or raise it, alike on all nodes"
        )]
        TooLarge,
        /// The message's own serialisation failed.
        #[error("the message could not be serialised")]
        Unserialisable,
        /// More asks are in flight than may be.
        #[error(
            "too many asks are in flight; await some or raise workers.max_asks, for idempotent ones \
                 workers.retry_bytes"
        )]
        TooManyAsks,
        /// The node, or the referenced handler's node, stops or has stopped.
        #[error("the node is shutting down or the referenced handler is gone")]
        Stopped,
        /// An ask through a router that sends to everybody.
        #[error("an ask has one reply, but the router sends to every routee; tell, or ask another way")]
        NoSingleReply,
        /// The router's table is empty because this node is not open for messages yet.
        #[error(
            "this node is still joining its cluster; await `members_ready` or the router's `ready`"
        )]
        Joining,
        /// The routee, or every routee of the router, takes the message's name for another layout.
        #[error(
            "the routee takes messages of this name with another layout: one of the two programs has \
             changed the type; see \"Changing a message\" in docs/MESSAGES.md"
        )]
        LayoutMismatch,
        /// A handler wanted to wait for a reply on its worker's thread, which would wait for itself.
        #[error("a handler must not wait on its worker's thread; ask by its Context and reply later")]
        WouldBlock,
        /// The application's own [`Strategy`](crate::route::Strategy) panicked, or picked a routee that is
        /// not in the table.
        #[error(
            "the router's own strategy panicked, or picked a routee that is not in the table; correct \
             its `pick`: the table may also be empty"
        )]
        StrategyFailed,
        /// This node leaves: its application's threads begin nothing new here, while handlers finish
        /// what they have. What these send is refused so where no other node serves the path.
        #[error("this node is leaving its cluster and takes nothing new; send from another node")]
        Leaving,
        /// A handler sends through a router that another node of this process, or an earlier life of
        /// its own node, has made.
        #[error("the router is another node's; a handler sends by routers of the node that it runs on")]
        OtherNode,
    }
}

debug_as_display!(Refusal);
