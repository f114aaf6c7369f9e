//! The tests of this package are the package: see its `tests` directory.
#![forbid(unsafe_code)]
