//! What strikes processes that hold locks, and remembers what it did.
//!
//! A [`Crew`] of workers uses locks, its [`Record`] is the history of what they were told, and
//! [`Nemesis`] kills them, stops them and takes away what their locks stand on. Whether a
//! [`Strike`] took effect is told by the history afterwards: a fault that met nobody proves nothing
//! and does not count.

mod crew;
mod doubts;
pub mod files;
mod noise;
mod record;
mod strikes;
mod tally;

pub use self::crew::Crew;
pub use self::doubts::settled;
pub use self::noise::Noise;
pub use self::record::{Hold, Mark, Record};
pub(crate) use self::strikes::remove;
pub use self::strikes::{Kind, Nemesis, Strike};
pub use self::tally::{Tally, false_losses};
