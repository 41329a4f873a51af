//! A node in a process of its own: the ignored test `a_peer` of the file that includes this.

use std::process::{Child, Command, Stdio};

use keyway::Node;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const SEED: &str = "KEYWAY_TEST_SEED";

/// The process. It ends with its owner.
pub struct Peer(pub Child);

impl Peer {
    /// Starts it; it joins by this node.
    pub fn start(seed: &Node) -> Self {
        let test = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "a_peer"])
            .env(SEED, seed.address().to_string())
            .stdout(Stdio::null())
            .spawn();
        Self(test.unwrap())
    }

    /// Sends it a signal. Whoever is stopped has stopped then: its threads run on for a moment, and may
    /// answer.
    #[allow(dead_code, reason = "not every test stops its peers")]
    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_child(&self.0);
        kill_process(process, signal).unwrap();
        if signal == Signal::STOP {
            let (_, status) = waitpid(Some(process), WaitOptions::UNTRACED).unwrap().unwrap();
            assert!(status.stopped(), "{status:?}");
        }
    }
}

/// In the process itself: the address to join by.
pub fn seed() -> String {
    std::env::var(SEED).expect("another test starts this one")
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
