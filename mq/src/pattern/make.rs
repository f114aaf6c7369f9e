//! Which pattern a kind of socket has.

use sward_zmtp::SocketType;

use super::{Pattern, PatternOptions};
use super::{dealer, pair, pipeline, publish, rep, req, router, stream, subscribe};

/// Makes the pattern of a socket type.
pub(crate) fn pattern(kind: SocketType, options: &PatternOptions) -> Box<dyn Pattern> {
    match kind {
        SocketType::Pair => Box::new(pair::Pair::default()),
        SocketType::Pub => Box::new(publish::Publish::new(false, options)),
        SocketType::XPub => Box::new(publish::Publish::new(true, options)),
        SocketType::Sub => Box::new(subscribe::Subscribe::new(false, options)),
        SocketType::XSub => Box::new(subscribe::Subscribe::new(true, options)),
        SocketType::Req => Box::new(req::Req::new(options)),
        SocketType::Rep => Box::new(rep::Rep::default()),
        SocketType::Dealer => Box::new(dealer::Dealer::new(options)),
        SocketType::Router => Box::new(router::Router::new(options)),
        SocketType::Pull => Box::new(pipeline::Pull::default()),
        SocketType::Push => Box::new(pipeline::Push::default()),
        SocketType::Stream => Box::new(stream::Stream::new(options)),
    }
}
