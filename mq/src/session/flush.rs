//! When what is queued is written, and how: the queue's own bytes, or converted ones, and between two
//! messages what the machine has to say.

use std::io::IoSlice;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use sward_runtime::io::DriverHandle;

use super::Drive;
use super::inner::{Inner, Link};
use super::news::End;

/// Bytes that a sender gathers before it writes: each write wakes the reader, which costs as much as
/// copying some 16 KiB.
const FLUSH_AT: usize = 256 * 1024;
/// For how long it gathers where it never parks, and after how many messages it looks at the clock.
const PATIENCE: Patience = Patience {
    limit: Duration::from_micros(50),
    every: 32,
};
/// The same of a publisher: while it has gone round its peers once, 50 us may be over.
const PATIENCE_OF_MANY: Patience = Patience {
    limit: Duration::from_millis(20),
    every: 8,
};
/// The same for what it has gathered.
const PATIENCE_OF_PIECES: Patience = Patience {
    limit: PATIENCE_OF_MANY.limit,
    every: 1,
};
/// Slices of one write.
const SLICES: usize = 64;

struct Patience {
    limit: Duration,
    every: u32,
}

impl Inner {
    pub(super) fn flush_or_end(&mut self) {
        if let Err(end) = self.flush() {
            self.fail(end);
        }
    }

    /// Writes what the kernel takes.
    pub(super) fn flush(&mut self) -> Result<(), End> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.asked = None;
        link.pushed = 0;
        while !link.stuck {
            let ready = link.connection.is_ready();
            let plain = ready && !link.connection.needs_conversion();
            if ready && !plain && !self.output.is_empty() {
                let converted = link.converted.get_or_insert_default();
                if converted.is_empty() {
                    converted.fill(&link.connection, &mut self.output, FLUSH_AT);
                }
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut n = 0;
            // What is half sent goes first; then what the machine has to say; then messages.
            let half = if plain {
                let half = self.output.first_remainder();
                n = self.output.slices_within(&mut slices[..SLICES - 1], half);
                half
            } else {
                let converted = link.converted.as_ref().map_or(&[][..], |c| c.bytes());
                if !converted.is_empty() {
                    slices[n] = IoSlice::new(converted);
                    n += 1;
                }
                converted.len()
            };
            let control = link.connection.control();
            // Not behind a part of it: only where all of it fits.
            let fits = slices[..n].iter().map(|slice| slice.len()).sum::<usize>() == half;
            let said = if fits { control.len() } else { 0 };
            if said > 0 {
                slices[n] = IoSlice::new(control);
                n += 1;
            } else if plain {
                // In one go with the remainder.
                n = self.output.slices(&mut slices);
            }
            if n == 0 {
                break;
            }
            let given: usize = slices[..n].iter().map(|slice| slice.len()).sum();
            let sent = rustix::net::sendmsg(
                &link.io,
                &slices[..n],
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            );
            match sent {
                Ok(sent) => {
                    self.traffic.bytes_sent += sent as u64;
                    link.stuck = sent < given && link.short_is_all;
                    if said == 0 && plain {
                        self.output.advance(sent);
                        continue;
                    }
                    let of_rest = sent.min(half);
                    if plain {
                        self.output.advance(of_rest);
                    } else if let Some(converted) = &mut link.converted {
                        converted.advance(of_rest);
                    }
                    link.connection.control().drain(..sent - of_rest);
                }
                Err(Errno::AGAIN) => link.stuck = true,
                Err(Errno::INTR) => {}
                Err(e) => return Err(End::Io(e.into())),
            }
        }
        // One that is idle has none.
        self.output.settle();
        Ok(())
    }

    /// Room for one more message, made by writing if it must be.
    #[inline]
    pub(super) fn make_room(&mut self) -> bool {
        if self.send_hwm == 0 || self.output.messages() < self.send_hwm {
            return true;
        }
        if self.up() {
            self.flush_or_end();
        }
        self.output.messages() < self.send_hwm
    }

    /// After something was queued. Returns whether the driver must be asked to write.
    #[inline]
    pub(super) fn pushed(&mut self) -> Option<DriverHandle<Drive>> {
        self.gathered(&PATIENCE)
    }

    /// The same after a message was queued that goes to many.
    #[inline]
    pub(super) fn pushed_copy(&mut self) -> Option<DriverHandle<Drive>> {
        self.gathered(&PATIENCE_OF_MANY)
    }

    /// The same after messages were queued that were gathered.
    pub(super) fn pushed_piece(&mut self) -> Option<DriverHandle<Drive>> {
        self.gathered(&PATIENCE_OF_PIECES)
    }

    /// For how many more messages it would wait: if the driver is going to come for them.
    #[inline]
    pub(super) fn would_wait(&mut self) -> usize {
        let comes = |link: &Link| link.asked.is_some() || link.stuck || !link.connection.is_ready();
        if !self.link.as_ref().is_none_or(comes) {
            return 0;
        }
        self.expects = true;
        match self.send_hwm {
            0 => usize::MAX,
            hwm => hwm.saturating_sub(self.output.messages()),
        }
    }

    #[inline(always)]
    fn gathered(&mut self, patience: &Patience) -> Option<DriverHandle<Drive>> {
        let link = self.link.as_mut()?;
        if link.stuck || link.end.is_some() || !link.connection.is_ready() {
            return None;
        }
        link.pushed += 1;
        let bytes = self.output.bytes();
        if let Some(since) = link.asked {
            let late =
                link.pushed.is_multiple_of(patience.every) && since.elapsed() >= patience.limit;
            if late || bytes >= FLUSH_AT {
                self.flush_or_end();
            }
            return None;
        }
        if bytes >= FLUSH_AT || sward_runtime::worker().is_none() {
            self.flush_or_end();
            return self
                .link
                .as_ref()?
                .end
                .as_ref()
                .and(self.link.as_ref()?.driver.clone());
        }
        link.asked = Some(Instant::now());
        link.driver.clone()
    }
}
