//! TCP: streams and listeners.

pub(crate) mod listener;
mod settings;
pub(crate) mod stream;
