//! [`Handshake`]: everything from the first byte until messages may go.
//!
//! | expects | what comes | next |
//! |---|---|---|
//! | `Signature` | a signature with a version | `Major` |
//! | | none, and old peers are let in | `Identity` (1.0) |
//! | `Major` | 3 or more | `Rest` |
//! | | 1 or 2, and old peers are let in | `SocketType` |
//! | | 0, and old peers are let in | `Identity` (1.0) |
//! | `Rest` | our mechanism | `Command` |
//! | `SocketType` | a number (2.0) | `Identity` |
//! | `Identity` | a frame | ready |
//! | `Command` | the last command of the mechanism | ready |
//!
//! What we send: without old peers the whole greeting at once. With them its three parts, each as
//! soon as the peer's bytes say that it understands them; waiting for the whole greeting of a peer
//! that does the same would be a deadlock.
//!
//! 1. The signature, at once. To a peer of 1.0 it is a frame header, so our identity follows when it
//!    turns out to be one.
//! 2. The major version, when the peer's signature has one.
//! 3. The rest of the greeting, or socket type and identity, when the peer's major version is there.
//!
//! The first message may go when the peer's READY has come (RFC 37; libzmq closes on an earlier
//! one). A wrong socket type gets an ERROR; libzmq just closes.

use std::time::Instant;

use crate::command;
use crate::error::{Fault, Incompatible, Malformed};
use crate::frame::Frame;
use crate::greeting::{self, MAJOR, REST, SIGNATURE, Signature};
use crate::header::{Framing, Header, write_v1};
use crate::mechanism::{self, Mechanism, Progress};
use crate::metadata::{Metadata, check_identity};
use crate::peer::PeerInfo;
use crate::setup::Setup;
use crate::socket_type::SocketType;
use crate::version::Version;

/// The reason in an ERROR, which has visible characters only.
const REFUSAL: &str = "socket-types-do-not-fit";

/// The state of a handshake; it is gone when the connection is ready.
#[derive(Debug)]
pub(crate) struct Handshake {
    expect: Expect,
    pub(crate) deadline: Option<Instant>,
    mechanism: Box<dyn Mechanism>,
}

#[derive(Clone, Copy, Debug)]
enum Expect {
    Signature,
    Major,
    Rest(u8),
    SocketType,
    Identity(Framing, Option<SocketType>),
    Command(Version),
}

/// What a part of the input was.
pub(crate) enum Step {
    /// There must be more of it.
    Incomplete,
    /// So many bytes were used.
    Used(usize),
    /// So many bytes were used, and they were the last.
    Ready(usize, PeerInfo),
}

impl Handshake {
    /// Begins, with what goes out at once.
    pub(crate) fn new(setup: &Setup, now: Instant, out: &mut Vec<u8>) -> Self {
        greeting::write_signature(setup, out);
        if !setup.lets_old_in() {
            out.push(MAJOR);
            greeting::write_rest(setup, out);
        }
        Self {
            expect: Expect::Signature,
            deadline: setup
                .handshake_interval
                .and_then(|time| now.checked_add(time)),
            mechanism: mechanism::new(&setup.mechanism),
        }
    }

    /// The version, once frames are next: they are commands then.
    pub(crate) fn version(&self) -> Option<Version> {
        match self.expect {
            Expect::Command(version) => Some(version),
            _ => None,
        }
    }

    pub(crate) fn expects(&self) -> &'static str {
        self.mechanism.expects()
    }

    /// Takes what comes before commands.
    pub(crate) fn greet(
        &mut self,
        input: &[u8],
        setup: &Setup,
        out: &mut Vec<u8>,
    ) -> Result<Step, Fault> {
        let old = setup.lets_old_in();
        let (used, next) = match self.expect {
            Expect::Signature => match Signature::read(input)? {
                None => return Ok(Step::Incomplete),
                Some(Signature::Versioned) => {
                    if old {
                        out.push(MAJOR);
                    }
                    (SIGNATURE, Expect::Major)
                }
                Some(Signature::None) if old => {
                    // The body of the frame that our signature was the header of.
                    out.extend_from_slice(setup.wire_identity());
                    (0, Expect::Identity(Framing::V1, None))
                }
                Some(Signature::None) if input[0] == 0xFF => {
                    return Err(Incompatible::Version(Version::V1_0).into());
                }
                Some(Signature::None) => return Err(Malformed::Signature.into()),
            },
            Expect::Major => match (input.first(), old) {
                (None, _) => return Ok(Step::Incomplete),
                (Some(&major @ MAJOR..), _) => {
                    if old {
                        greeting::write_rest(setup, out);
                    }
                    (1, Expect::Rest(major))
                }
                (Some(0), false) => return Err(Incompatible::Version(Version::V1_0).into()),
                (Some(0), true) => {
                    write_v1(false, setup.wire_identity(), out);
                    (1, Expect::Identity(Framing::V1, None))
                }
                (Some(_), false) => return Err(Incompatible::Version(Version::V2_0).into()),
                (Some(_), true) => {
                    let identity = setup.wire_identity();
                    out.push(setup.socket_type.number());
                    out.extend_from_slice(Header::new(0, identity.len()).as_slice());
                    out.extend_from_slice(identity);
                    (1, Expect::SocketType)
                }
            },
            Expect::Rest(major) => {
                let Some(rest) = input.first_chunk() else {
                    return Ok(Step::Incomplete);
                };
                let version = greeting::check_rest(major, rest, setup)?;
                self.mechanism.begin(setup, out);
                (REST, Expect::Command(version))
            }
            Expect::SocketType => {
                let Some(&number) = input.first() else {
                    return Ok(Step::Incomplete);
                };
                let theirs = SocketType::from_number(number).ok_or(Malformed::SocketType)?;
                check_types(setup, theirs)?;
                (1, Expect::Identity(Framing::V2, Some(theirs)))
            }
            Expect::Identity(framing, socket_type) => {
                let Some((used, identity)) = read_identity(framing, input)? else {
                    return Ok(Step::Incomplete);
                };
                let version = match framing {
                    Framing::V1 => Version::V1_0,
                    _ => Version::V2_0,
                };
                let peer = PeerInfo::new(socket_type, version, identity, Metadata::default());
                return Ok(Step::Ready(used, peer));
            }
            Expect::Command(_) => return Ok(Step::Incomplete),
        };
        self.expect = next;
        Ok(Step::Used(used))
    }

    /// Takes a command; the peer, when it was the last.
    pub(crate) fn command(
        &mut self,
        body: &[u8],
        setup: &Setup,
        out: &mut Vec<u8>,
    ) -> Result<Option<PeerInfo>, Fault> {
        let (name, data) = command::split(body)?;
        if name == command::ERROR {
            return Err(command::read_error(data));
        }
        let metadata = match self.mechanism.command(setup, name, data, out)? {
            Progress::Expecting => return Ok(None),
            Progress::Done(metadata) => metadata,
        };
        let theirs = metadata.get("Socket-Type").ok_or(Malformed::NoSocketType)?;
        let theirs = SocketType::from_name(theirs).ok_or(Malformed::SocketType)?;
        check_types(setup, theirs).inspect_err(|_| command::write_error(REFUSAL, out))?;
        let identity = match metadata.get("Identity") {
            // That of other types has no meaning.
            Some(identity) if theirs.has_identity() => {
                check_identity(identity)?;
                Frame::from(identity)
            }
            _ => Frame::empty(),
        };
        let version = self.version().unwrap_or(Version::V3_1);
        Ok(Some(PeerInfo::new(
            Some(theirs),
            version,
            identity,
            metadata,
        )))
    }
}

fn check_types(setup: &Setup, theirs: SocketType) -> Result<(), Fault> {
    let ours = setup.socket_type;
    if ours.accepts(theirs) {
        Ok(())
    } else {
        Err(Incompatible::SocketTypes { ours, theirs }.into())
    }
}

/// The identity of an old peer, which is a frame of its own.
fn read_identity(framing: Framing, input: &[u8]) -> Result<Option<(usize, Frame)>, Fault> {
    let Some(header) = framing.read(input)? else {
        return Ok(None);
    };
    if header.more {
        return Err(Fault::Misbehaved {
            expected: "an identity",
            got: "the first of several frames",
        });
    }
    let len = usize::try_from(header.body).unwrap_or(usize::MAX);
    if len > 255 {
        return Err(Malformed::IdentityLength.into());
    }
    let used = header.header + len;
    let Some(identity) = input.get(header.header..used) else {
        return Ok(None);
    };
    check_identity(identity)?;
    Ok(Some((used, Frame::from(identity))))
}
