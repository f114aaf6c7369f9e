//! The control socket of a proxy: words come in, answers go out as libzmq gives them.

use sward_zmtp::{Message, SocketType};

use super::pump::{sends, take};
use super::statistics::ProxyStatistics;
use super::steering::{Mode, Over, Steering};
use crate::socket::core::{Limit, READERS, SocketCore};

/// Reads the control socket until the proxy has ended.
pub(super) fn obey(
    steering: &Steering,
    control: &SocketCore,
    statistics: impl Fn() -> ProxyStatistics,
) -> Over {
    loop {
        let mut message = Message::new();
        let got = steering.until::<READERS, _>(
            control,
            false,
            |_| false,
            |state| take(state, &mut message),
        );
        if let Err(over) = got {
            return over;
        }
        let mut envelope = message.into_frames();
        let word = envelope.pop().unwrap_or_default();
        let (mode, answer) = match word.as_slice() {
            b"PAUSE" => (Some(Mode::Paused), None),
            b"RESUME" => (Some(Mode::Running), None),
            b"TERMINATE" => (Some(Mode::Ended(Ok(()))), None),
            b"STATISTICS" => (None, Some(Message::from(&statistics()))),
            _ => {
                let text = "unknown: say PAUSE, RESUME, TERMINATE or STATISTICS";
                (None, Some(Message::from(text)))
            }
        };
        let expected = matches!(control.kind, SocketType::Rep | SocketType::Router);
        if expected || word == "STATISTICS" && sends(control.kind) {
            envelope.extend(answer.unwrap_or_default());
            // What has to wait is dropped: whoever does not read its answers must not hold up the
            // proxy.
            drop(control.send(envelope.into(), Limit::Try));
        }
        if let Some(mode) = mode {
            steering.set(mode);
        }
    }
}
