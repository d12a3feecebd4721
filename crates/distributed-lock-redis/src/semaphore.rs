//! Semaphores on a Redis server.
//!
//! Each permit has a lease of its own: one whose holder has died is free when that ends, whatever the
//! others do. Those who wait are served in order.

pub use crate::types::{RedisDistributedSemaphore, RedisSemaphoreHandle};
