//! The analysing half: plans of arrivals, exact accounts, histograms, and what is made of them.
//!
//! Nothing here opens a socket or starts a process. Scenarios drive nodes and hand what they
//! recorded to these modules, which is why every rule of evidence (void runs, balanced accounts,
//! enough samples behind a percentile) can be tested here without a cluster.

pub mod compare;
pub mod histogram;
pub mod ledger;
pub mod plots;
pub mod quote;
pub mod report;
pub mod rounds;
pub mod schedule;
pub mod table;
pub mod timeline;
pub mod usl;
