//! [`Mechanism`]: the part of a handshake that is about security, behind one trait.
//!
//! A mechanism begins when both greetings named it, and ends with the peer's metadata. It gets the
//! peer's commands one after the other (ERROR excepted, which ends all of them alike) and appends
//! its own. It has no clock and no limits of its own: commands are cut by `Limits` before.
//!
//! | mechanism | side | its commands | waits for |
//! |---|---|---|---|
//! | NULL | both | READY | READY |
//!
//! The seams for those to come, which belong here and not into `connection.rs`:
//! - roles (PLAIN, CURVE): `begin` says nothing on a server;
//! - ZAP: a further `Progress` that carries the request; the connection hands it out as an event,
//!   takes the answer, and gives it to the mechanism, which goes on or writes an ERROR. The
//!   handshake's deadline goes on meanwhile;
//! - CURVE: a mechanism that ends with keys for the messages. A connection with keys takes the way
//!   of `convert` for what it sends (`needs_conversion`), and opens each frame before its flags
//!   count, where the decoder gives a frame to the connection.

mod null;

use std::fmt::Debug;

use crate::error::Fault;
use crate::metadata::Metadata;
use crate::setup::{MechanismConfig, Setup};

pub(crate) trait Mechanism: Debug + Send + Sync {
    /// Appends what goes out once the greetings are exchanged.
    fn begin(&mut self, setup: &Setup, out: &mut Vec<u8>);

    /// Takes a command, other than ERROR, and appends what answers it.
    fn command(
        &mut self,
        setup: &Setup,
        name: &[u8],
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Progress, Fault>;

    /// What it waits for, to say so when something else comes.
    fn expects(&self) -> &'static str;
}

/// How far a mechanism is.
#[derive(Debug)]
#[expect(dead_code, reason = "NULL is done with its first command")]
pub(crate) enum Progress {
    /// Another command has to come.
    Expecting,
    /// The peer is who it should be, and this is what it says of itself.
    Done(Metadata),
}

pub(crate) fn new(config: &MechanismConfig) -> Box<dyn Mechanism> {
    match config {
        MechanismConfig::Null => Box::new(null::Null),
    }
}
