//! Sockets in blocking style that yield. Empty so far: the scheduler below it comes first.
#![deny(unsafe_code)]
