//! Which transport a scheme has.

use super::Transport;
use super::ipc::Ipc;
use super::tcp::Tcp;

/// Returns the transport of a scheme; `None` for `inproc`.
pub(crate) fn find(scheme: &str) -> Option<&'static dyn Transport> {
    match scheme {
        "tcp" => Some(&Tcp),
        "ipc" => Some(&Ipc),
        _ => None,
    }
}
