//! ZeroMQ sockets native to the scheduler. Empty so far: the scheduler and the sockets below it come first.
#![forbid(unsafe_code)]
