//! What a user's handler is: traits, and their form that a worker can hold without knowing types.

use std::any::{Any, TypeId};
use std::sync::Arc;

use super::core::Context;
use super::kinds::Kind;
use super::replier::Later;
use crate::base::fate::{AskError, DeathReason};
use crate::base::{MessageType, MessageTypeId, WorkerIndex};
use crate::wire::{Message, WireType};

/// Takes messages of one type. Runs to completion on its worker, straight from the receive buffer.
///
/// A handler must not block: everything else on its worker waits meanwhile. What takes long
/// replies later, see [`Context::reply_later`]. So `handle` is not `async` (the compiler then says
/// "expected the reply's type, found future"): what must be awaited goes to
/// [`AsyncReplies`](crate::AsyncReplies).
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle `{M}`",
    label = "has no handler for `{M}`",
    note = "write `impl Handler<{M}> for {Self}`, or take it out of `#[routee(handles(...))]`"
)]
pub trait Handler<M: Message>: Sized {
    /// What `handle` gives back: the message's reply, or [`Later`] for a reply that comes later.
    type Reply: IntoReply<M::Reply>;

    /// Handles one message, read in place. For a `tell` the reply is dropped.
    fn handle(&mut self, message: &M::Archived, cx: &mut Context<'_>) -> Self::Reply;
}

/// A handler's type with the list of messages it takes. Derive it:
///
/// ```
/// # use keyway::{Context, Handler, Message, Routee};
/// # use rkyv::{Archive, Deserialize, Serialize};
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "doc.hit")]
/// struct Hit;
///
/// #[derive(Default, Routee)]
/// #[routee(handles(Hit))]
/// struct Counter(u64);
///
/// impl Handler<Hit> for Counter {
///     type Reply = ();
///     fn handle(&mut self, _: &ArchivedHit, _: &mut Context<'_>) {
///         self.0 += 1;
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a routee",
    label = "not a routee",
    note = "add `#[derive(keyway::Routee)]` and `#[routee(handles(...))]` to it, with the messages that \
            it has a `Handler` for"
)]
pub trait Routee: Sized + 'static {
    /// Adds every message type to the table.
    fn register(handlers: &mut HandlerTable<Self>);

    /// Called once on the routee's worker before its first message, and again on the fresh
    /// instance after a panic.
    ///
    /// When it panics as the path is served, the path is not. When it panics after that, the message
    /// that comes next to the next fresh instance starts that one first, or is dead.
    fn started(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// Called when a time set with [`Context::wake_after`] or [`Context::wake_at`] has come.
    fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
        let _ = (token, cx);
    }

    /// Called once after the last message, when the path is withdrawn or the routee's worker stops
    /// in order: the place to flush and close. When the worker stops nothing can be sent any more;
    /// replies to what is asked here do not come. Not called for an instance that panicked, whose
    /// state may be broken; nor on a worker that its node has given up, whenever the handler that
    /// held it returns; nor when the process is killed.
    fn stopped(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }
}

/// Gets the replies to asks made with [`Context::ask`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` asks `{M}` and does not take the replies",
    label = "has no `OnReply<{M}>`",
    note = "write `impl OnReply<{M}> for {Self}`: its `on_reply` gets each reply, or why there is none"
)]
pub trait OnReply<M: Message>: Routee {
    /// Called exactly once per accepted ask, with the token that was given to it.
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&<M::Reply as rkyv::Archive>::Archived, AskError>,
        cx: &mut Context<'_>,
    );
}

/// What a handler may give back for a message whose reply is `R`: an `R`, or [`Later`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no reply to a message that is answered with `{R}`",
    label = "neither `{R}` nor `Later<{R}>`",
    note = "give back a `{R}`, or the `Later<{R}>` of `cx.reply_later()` and reply through its \
            `Replier` when it is time",
    note = "a future is no reply, as a handler runs to completion: spawn it with the `Replier` in \
            it, or hand it to `AsyncReplies`"
)]
pub trait IntoReply<R: WireType> {
    /// Sends the reply, if there is one now. Called only when the message was an ask.
    fn send(self, cx: &mut Context<'_>);
}

impl<R: WireType> IntoReply<R> for R {
    #[inline]
    fn send(self, cx: &mut Context<'_>) {
        cx.send_reply(&self);
    }
}

impl<R: WireType> IntoReply<R> for Later<R> {
    fn send(self, _: &mut Context<'_>) {}
}

type Dispatch<H> = fn(&mut H, &[u8], &mut Context<'_>) -> Result<(), DeathReason>;

/// The message types that a handler takes.
pub struct HandlerTable<H> {
    entries: Vec<(MessageTypeId, Dispatch<H>)>,
    /// In the same order.
    types: Vec<(TypeId, MessageType)>,
}

impl<H: Routee> HandlerTable<H> {
    /// Adds one message type; a second time changes nothing. Two types of one name are refused
    /// when the routee is served.
    pub fn add<M: Message>(&mut self)
    where
        H: Handler<M>,
    {
        let own = TypeId::of::<M>();
        if self.types.iter().all(|(known, _)| *known != own) {
            self.entries.push((M::TYPE_ID, dispatch::<H, M>));
            self.types.push((own, MessageType::new(M::NAME, M::LAYOUT)));
        }
    }

    pub(crate) fn of() -> Self {
        let mut table = Self { entries: Vec::new(), types: Vec::new() };
        H::register(&mut table);
        table
    }

    /// The message types, sorted.
    fn into_types(self) -> Vec<MessageType> {
        let mut types: Vec<_> = self.types.into_iter().map(|(_, message)| message).collect();
        types.sort();
        types
    }
}

fn dispatch<H: Handler<M>, M: Message>(
    handler: &mut H,
    body: &[u8],
    cx: &mut Context<'_>,
) -> Result<(), DeathReason> {
    let message = M::access(body).ok_or(DeathReason::InvalidBody)?;
    let reply = handler.handle(message, cx);
    if cx.wants_reply() {
        reply.send(cx);
    }
    Ok(())
}

/// A routee as its worker holds it.
pub(super) trait Hosted {
    fn deliver(
        &mut self,
        message: MessageTypeId,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), DeathReason>;
    fn started(&mut self, cx: &mut Context<'_>);
    fn wake(&mut self, token: u64, cx: &mut Context<'_>);
    fn stopped(&mut self, cx: &mut Context<'_>);
    fn routee(&mut self) -> &mut dyn Any;
}

struct Host<H> {
    routee: H,
    handlers: HandlerTable<H>,
}

impl<H: Routee> Hosted for Host<H> {
    #[inline]
    fn deliver(
        &mut self,
        message: MessageTypeId,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), DeathReason> {
        // A handful of entries: a scan is faster than any map.
        for (id, dispatch) in &self.handlers.entries {
            if *id == message {
                return dispatch(&mut self.routee, body, cx);
            }
        }
        Err(DeathReason::UnknownMessage)
    }

    fn started(&mut self, cx: &mut Context<'_>) {
        self.routee.started(cx);
    }

    fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
        self.routee.wake(token, cx);
    }

    fn stopped(&mut self, cx: &mut Context<'_>) {
        self.routee.stopped(cx);
    }

    fn routee(&mut self) -> &mut dyn Any {
        &mut self.routee
    }
}

/// Stands for one that could not be made after a panic, or panicked as it was started. It is made and
/// started with the next message, of which a panic is the end: would that be done at once, one that
/// always panics would keep its worker busy by itself.
pub(super) struct LateStart {
    factory: RouteeFactory,
    worker: WorkerIndex,
    /// Once it is made.
    hosted: Option<Box<dyn Hosted>>,
    /// Whom an answer reaches before: there is none, since it has asked for nothing.
    nobody: (),
}

impl LateStart {
    pub fn new(factory: RouteeFactory, worker: WorkerIndex) -> Self {
        Self { factory, worker, hosted: None, nobody: () }
    }
}

impl Hosted for LateStart {
    fn deliver(
        &mut self,
        message: MessageTypeId,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Result<(), DeathReason> {
        if self.hosted.is_none() {
            // Not for this message: a reply in there is none to its asker.
            let instance = cx.instance;
            self.started(&mut Context { core: cx.core, instance, origin: None });
        }
        match &mut self.hosted {
            Some(hosted) => hosted.deliver(message, body, cx),
            None => Err(DeathReason::HandlerPanicked),
        }
    }

    fn started(&mut self, cx: &mut Context<'_>) {
        let made = self.factory.make(self.worker);
        self.hosted.insert(made).started(cx);
    }

    fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
        if let Some(hosted) = &mut self.hosted {
            hosted.wake(token, cx);
        }
    }

    fn stopped(&mut self, cx: &mut Context<'_>) {
        if let Some(hosted) = &mut self.hosted {
            hosted.stopped(cx);
        }
    }

    fn routee(&mut self) -> &mut dyn Any {
        match &mut self.hosted {
            Some(hosted) => hosted.routee(),
            None => &mut self.nobody,
        }
    }
}

/// Makes a path's routee on each worker, at first and again after a panic.
#[derive(Clone)]
pub struct RouteeFactory {
    make: Arc<dyn Fn(WorkerIndex) -> Box<dyn Hosted> + Send + Sync>,
    messages: Vec<MessageType>,
    kind: Kind,
    path: Option<Arc<str>>,
}

impl RouteeFactory {
    /// A factory from a user's function.
    pub fn new<H: Routee>(make: impl Fn(WorkerIndex) -> H + Send + Sync + 'static) -> Self {
        let messages = HandlerTable::<H>::of().into_types();
        let make = Arc::new(move |worker| {
            Box::new(Host { routee: make(worker), handlers: HandlerTable::of() }) as Box<dyn Hosted>
        });
        Self { make, messages, kind: Kind::of::<H>(), path: None }
    }

    /// The same, for this path.
    pub fn at(self, path: &str) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// Where its routees are served, if that is known.
    pub(super) fn path(&self) -> Option<Arc<str>> {
        self.path.clone()
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The message types that the routees take, sorted.
    pub fn messages(&self) -> &[MessageType] {
        &self.messages
    }

    pub(super) fn make(&self, worker: WorkerIndex) -> Box<dyn Hosted> {
        (self.make)(worker)
    }
}

impl std::fmt::Debug for RouteeFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RouteeFactory").field("messages", &self.messages).finish_non_exhaustive()
    }
}
