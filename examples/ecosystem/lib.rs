#![doc = include_str!("../../docs/ecosystem.md")]
#![forbid(unsafe_code)]
