//! Tasks that belong together, and what they hand down: scopes, groups, pools, tokens, locals.

pub(crate) mod completion;
#[allow(unsafe_code)]
pub(crate) mod family;
pub(crate) mod group;
pub(crate) mod imap;
pub(crate) mod local;
pub(crate) mod pool;
#[allow(unsafe_code)]
pub(crate) mod scope;
pub(crate) mod token;
