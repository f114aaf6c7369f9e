#![doc = include_str!("../../docs/ecosystem.md")]
#![forbid(unsafe_code)]

// The page needs a feature that this package turns on.
#[cfg(doctest)]
#[doc = include_str!("../../docs/tls.md")]
struct TlsPage;
