//! To whom things happen, and to whom not any more, or not yet.

use super::events::{Event, LifeId};
use super::world::World;

/// To whom an event happens.
enum Recipient {
    /// Everybody, or to a worker or a connection.
    World,
    /// A process as a whole.
    Process(LifeId),
    /// No one is there.
    Nobody,
}

impl World {
    /// What happens to a paused process waits; to a dead one, it does not happen.
    pub(super) fn for_somebody(&mut self, event: Event) -> Option<Event> {
        match self.recipient(&event) {
            Recipient::World => {}
            Recipient::Nobody => return None,
            Recipient::Process(life) => match self.lives[life].body.as_deref_mut() {
                Some(body) if body.paused => {
                    body.hold_back(event);
                    return None;
                }
                Some(_) => {}
                None => return None,
            },
        }
        Some(event)
    }

    /// To whom something happens.
    fn recipient(&self, event: &Event) -> Recipient {
        match event {
            Event::Datagram { to, .. } => {
                let life = self.slots.get(*to).copied().flatten();
                life.map_or(Recipient::Nobody, Recipient::Process)
            }
            Event::Timer(life, _)
            | Event::Report(life, _)
            | Event::Tables(life, _)
            | Event::Job(life, ..)
            | Event::Connected(life, ..)
            | Event::Discovered(life)
            | Event::Application(life, _)
            | Event::Questions(life, _)
            | Event::Routers(life)
            | Event::News(life)
            | Event::Serve(life)
            | Event::Exit(life) => Recipient::Process(*life),
            _ => Recipient::World,
        }
    }
}
