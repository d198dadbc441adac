//! The servers of a database with a primary and standbys: what is done to one of them. Who is the primary is decided
//! elsewhere (`primary`); nothing here takes a decision of that kind.

pub mod engine;
pub mod postgres;

pub use engine::{
    Beat, Cloning, End, Engine, EngineError, Followed, Leader, Member, Observed, Received, Rejoined, Role,
};
