//! HTTP/1.1 servers and clients in blocking style.
#![forbid(unsafe_code)]
