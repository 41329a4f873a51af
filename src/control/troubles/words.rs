//! What is said of a trouble: what was seen, where to look, and what comes of it.

use std::fmt;

use super::{PeerTrouble, Trouble};

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, error, .. } = self;
        let error = error.as_deref().unwrap_or(self.what.short());
        match self.what {
            PeerTrouble::Refuses => write!(
                f,
                "{name} answers datagrams, but a connection to {address} was refused: look for \
                 what rejects TCP to there, as a firewall does; nothing sent from here arrives"
            ),
            PeerTrouble::Vanish => write!(
                f,
                "{name} answers datagrams, but nothing comes back on connections to {address}: \
                 look for what drops TCP to there, as a firewall does; nothing sent from here \
                 arrives"
            ),
            PeerTrouble::Mute => write!(
                f,
                "{name} answers datagrams and {address} takes connections, but no handshake is \
                 completed there: look for what stands between, as a proxy does; nothing sent \
                 from here arrives"
            ),
            PeerTrouble::Fails => write!(
                f,
                "{name} answers datagrams, but {error}: look at the routes and firewalls on the way \
                 to there, and at this process's limits, as of open files; nothing sent from here \
                 arrives"
            ),
            PeerTrouble::NoHandshake => write!(
                f,
                "{name} answers datagrams, but {error}; see what takes connections at {address}: \
                 nothing sent from here arrives"
            ),
            PeerTrouble::NotSent => write!(
                f,
                "this machine sends no datagrams to {name} at {address}: {error}; look at its routes \
                 and at what its firewall lets out: without an answer {name} counts as unreachable"
            ),
            PeerTrouble::Swallowed => write!(
                f,
                "{name} answers datagrams and takes connections, but what is sent on them to \
                 {address} vanishes again and again: look for what drops large packets on the way \
                 (a lower MTU where ICMP is dropped as well), or forgets connections, as a firewall \
                 does; connections to there are made with short packets from here on"
            ),
            PeerTrouble::TakesNothing => write!(
                f,
                "{name} at {address} answers datagrams, but {error}: see its own health for a \
                 handler that holds a worker, or look for what stands between and passes nothing on"
            ),
            PeerTrouble::ClosesLinks => write!(
                f,
                "{name} at {address} lets links from here be opened and closes them with nothing \
                 said: see its log for the reason, as that somebody else opens links in this node's \
                 name; nothing sent from here arrives"
            ),
            PeerTrouble::NoPlace => write!(
                f,
                "{name} at {address} has no place for more links: raise `links.max_accepted` \
                 there, or have fewer nodes or workers send to it"
            ),
            PeerTrouble::NotThere { from } if from == *address => write!(
                f,
                "{name} calls from {address} and does not answer there, so that it is not let in: \
                 look for what drops UDP to there, as a firewall does"
            ),
            PeerTrouble::NotThere { from } => write!(
                f,
                "{name} calls from {from} and does not answer at {address}, which it advertises, \
                 so that it is not let in: set its `advertise` to the address at which others \
                 reach it"
            ),
        }
    }
}
