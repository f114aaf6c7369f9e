//! NULL: each side sends its metadata in a READY, and is ready when the peer's has come (RFC 37,
//! section "The NULL Security Mechanism").

use super::{Mechanism, Progress};
use crate::command::{self, READY};
use crate::error::Fault;
use crate::metadata::Metadata;
use crate::setup::Setup;

#[derive(Debug)]
pub(super) struct Null;

impl Mechanism for Null {
    fn begin(&mut self, setup: &Setup, out: &mut Vec<u8>) {
        let mut metadata = Vec::new();
        setup.write_metadata(&mut metadata);
        command::write(READY, &[&metadata], out);
    }

    fn command(
        &mut self,
        setup: &Setup,
        name: &[u8],
        data: &[u8],
        _: &mut Vec<u8>,
    ) -> Result<Progress, Fault> {
        if name != READY {
            return Err(Fault::Misbehaved {
                expected: self.expects(),
                got: "another command",
            });
        }
        Ok(Progress::Done(Metadata::parse(data, &setup.limits)?))
    }

    fn expects(&self) -> &'static str {
        "READY"
    }
}
