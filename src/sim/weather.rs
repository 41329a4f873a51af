//! How bad the network is.

/// The state of the network.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Datagrams lost, of a million.
    pub loss_ppm: u32,
    /// Datagrams doubled, of a million.
    pub duplicate_ppm: u32,
    /// Datagrams that come far too late, of a million.
    pub straggler_ppm: u32,
    /// How long a datagram takes, in microseconds.
    pub datagram_us: (u64, u64),
    /// How long a segment of a connection takes, in microseconds.
    pub stream_us: (u64, u64),
    /// The most bytes that arrive at once.
    pub piece_max: usize,
    /// What a connection holds between a write and the read, each way.
    pub socket_bytes: usize,
    /// How often a connection that meets a partition breaks when it tries again, of a million.
    pub give_up_ppm: u32,
    /// How long a thread takes to wake up, in microseconds.
    pub wake_us: (u64, u64),
    /// How long it takes to make tables, in microseconds.
    pub tables_us: (u64, u64),
}

/// How badly one machine hears datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Deafness {
    /// Those that do not come in, of a million.
    pub lost_ppm: u32,
    /// How much later the others do, in microseconds.
    pub late_us: (u64, u64),
}

impl Weather {
    /// The same network without faults.
    pub fn healed(&self) -> Self {
        Self {
            loss_ppm: 0,
            duplicate_ppm: 0,
            straggler_ppm: 0,
            datagram_us: (30, 300),
            stream_us: (20, 200),
            piece_max: 64 * 1024,
            give_up_ppm: 0,
            wake_us: (2, 60),
            tables_us: (50, 2_000),
            ..self.clone()
        }
    }
}

/// How often it was looked at flows.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowCounts {
    /// And a peer's window had been shut for so long that its flow could seem dead.
    pub shut: u64,
    /// And one was dead.
    pub dead: u64,
}
