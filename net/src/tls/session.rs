//! The TLS of one connection without its input and output: rustls, bytes in and bytes out.
//!
//! rustls has two interfaces. This is the buffered one: the unbuffered one would spare an idle
//! connection 4 KiB (rustls's buffer for a record that is not complete, which it keeps), but does
//! not tell the server the name that the client asked for, and its writer has to be given the bytes
//! that the reader holds. The copies are as many: it saves one on the way in and has one more on
//! the way out.

use std::io::{self, IoSlice, Read};

use rustls::{Connection, IoState};

use super::fault;

/// How much plaintext is encrypted at a time: two full records.
const BATCH: usize = 32 << 10;

/// How much plaintext may wait before more is decrypted. rustls refuses to go on above 16 KiB.
const WAITING: usize = 16 << 10;

pub(super) struct Session {
    connection: Connection,
    /// The peer's `close_notify` has come.
    ended: bool,
}

/// What became of ciphertext that was fed.
pub(super) struct Fed {
    /// How many bytes were used. The rest waits until the plaintext has been read.
    pub(super) used: usize,
    /// There is plaintext to read, or its end.
    pub(super) plain: bool,
    /// The connection is beyond repair. Plaintext from before is there all the same.
    pub(super) failed: bool,
}

impl Session {
    pub(super) fn new(mut connection: Connection) -> Self {
        connection.set_buffer_limit(Some(BATCH));
        Self {
            connection,
            ended: false,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn is_server(&self) -> bool {
        matches!(self.connection, Connection::Server(_))
    }

    /// Decrypts, and goes on with the handshake.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Fed {
        let mut rest = bytes;
        let mut fed = Fed {
            used: bytes.len(),
            plain: false,
            failed: false,
        };
        while !rest.is_empty() {
            // From a slice, it fails for full buffers only; and 0 is for what follows the end.
            let taken = self.connection.read_tls(&mut rest);
            let state = self.connection.process_new_packets();
            let (Ok(taken), Ok(state)) = (taken, state) else {
                fed.plain = true;
                fed.failed = true;
                return fed;
            };
            self.ended = state.peer_has_closed();
            fed.plain = self.ended || state.plaintext_bytes_to_read() > 0;
            if self.ended || taken == 0 {
                return fed;
            }
            if state.plaintext_bytes_to_read() > WAITING {
                break;
            }
        }
        fed.used -= rest.len();
        fed
    }

    /// Gives plaintext out. `Ok(None)`: there is none yet; `Ok(Some(0))`: the peer has closed.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        self.connection.reader().read(buffer).ok()
    }

    /// The peer has closed.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is wrong with the connection.
    pub(super) fn failure(&mut self, what: &'static str) -> io::Error {
        match self.connection.process_new_packets() {
            Err(e) => fault::tls(what, e),
            Ok(IoState { .. }) => fault::full(what),
        }
    }

    /// Whether there is ciphertext to be sent.
    #[inline]
    pub(super) fn wants_write(&self) -> bool {
        self.connection.wants_write()
    }

    /// Appends all ciphertext that is to be sent.
    #[inline]
    pub(super) fn take_out(&mut self, out: &mut Vec<u8>) {
        while self.connection.wants_write() {
            // A vector takes everything.
            if self.connection.write_tls(out).is_err() {
                return;
            }
        }
    }

    /// Encrypts some of the bytes, and appends what is to be sent. Returns how many were taken.
    #[inline]
    pub(super) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        self.write_by(out, |writer| io::Write::write(writer, bytes))
    }

    pub(super) fn write_vectored(
        &mut self,
        bytes: &[IoSlice<'_>],
        out: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.write_by(out, |writer| io::Write::write_vectored(writer, bytes))
    }

    #[inline]
    fn write_by(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.take_out(out);
        let before = out.len();
        let taken = write(&mut self.connection.writer()).map_err(fault::broken)?;
        self.take_out(out);
        // What rustls does with data when TLS 1.2's keys are used up: nothing, and success.
        if out.len() - before < taken {
            return Err(fault::used_up());
        }
        Ok(taken)
    }

    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.connection.send_close_notify();
        self.take_out(out);
    }
}
