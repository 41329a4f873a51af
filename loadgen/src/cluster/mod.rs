//! Clusters of real processes: started, commanded, broken and taken apart.

pub mod books;
pub mod clock;
pub mod launch;
pub mod measure;
pub mod message;
pub mod netns;
pub mod node;
pub mod protocol;
pub mod sink;

pub use books::Books;
pub use launch::{Cluster, ClusterPlan, NodeHandle};
