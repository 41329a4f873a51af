//! What a user gets from the crate's front page, they can name from there as well: errors to tell
//! them apart, values to keep them. (That no public type is out of reach altogether is a lint,
//! `unnameable_types`.)

use keyway::{
    BuildError, Distribution, Ended, HandlerId, Incarnation, LayoutHash, Member, MemberConfigError,
    MemberError, MemberFault, MessageType, MessageTypeId, Node, NodeBuilder, NodeError, OrderError,
    Path, PathTimes, Placed, Service, SpecError, StartError, Strangers, WireType,
};

/// The error behind an error, down to the one that says what was wrong.
fn order(error: NodeError) -> Option<OrderError> {
    match error {
        NodeError::Order(order) => Some(order),
        _ => None,
    }
}

fn member(error: OrderError) -> Option<MemberError> {
    match error {
        OrderError::Member(member) => Some(member),
        _ => None,
    }
}

fn spec(error: OrderError) -> Option<SpecError> {
    match error {
        OrderError::Spec(spec) => Some(spec),
        _ => None,
    }
}

fn config(error: MemberError) -> Option<MemberConfigError> {
    match error {
        MemberError::Refused(config) => Some(config),
        _ => None,
    }
}

fn start(error: BuildError) -> Option<StartError> {
    match error {
        BuildError::Start(start) => Some(start),
        _ => None,
    }
}

fn fault(end: Ended) -> Option<MemberFault> {
    match end {
        Ended::Fault(fault) => Some(fault),
        _ => None,
    }
}

/// How a service, as a member shows it, is put together.
fn service(service: &Service) -> (&Path, HandlerId, &Placed, &[MessageType]) {
    (&service.path, service.handler, &service.placed, &service.messages)
}

fn message(message: &MessageType) -> (LayoutHash, MessageTypeId) {
    (message.layout, message.id())
}

#[test]
fn what_the_front_page_gives_can_be_named_from_there() {
    let _: fn(NodeBuilder, Incarnation) -> NodeBuilder = NodeBuilder::incarnation_above;
    let _: fn(&Node) -> Strangers = Node::strangers;
    let _: fn(&PathTimes) -> Distribution = |times| times.handled;
    let _: fn(&Member) -> Option<&Service> = |member| member.services.first();
    let _ = (order, member, spec, config, start, fault, service, message);
    fn travels<T: WireType>() {}
    travels::<u32>();
}
