//! Redirects: what a request becomes when a response says to ask elsewhere.

use bytes::Bytes;
use http::header;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Response, Uri, request};

use crate::body::Body;

/// Changes a request to what a redirect says, and returns its body; `None` if it is none that can
/// be followed.
pub(crate) fn follow(
    parts: &mut request::Parts,
    response: &Response<Body>,
    kept: Option<Bytes>,
) -> Option<Body> {
    let status = response.status().as_u16();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let next = resolve(&parts.uri, location)?;
    let body = if matches!(status, 307 | 308) {
        Body::from(kept?)
    } else {
        if parts.method != Method::HEAD {
            parts.method = Method::GET;
        }
        for name in [
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::TRANSFER_ENCODING,
            header::EXPECT,
        ] {
            parts.headers.remove(name);
        }
        Body::empty()
    };
    let origin = |uri: &Uri| (uri.scheme().cloned(), uri.authority().cloned());
    if origin(&next) != origin(&parts.uri) {
        for name in [
            header::AUTHORIZATION,
            header::COOKIE,
            header::PROXY_AUTHORIZATION,
            header::HOST,
        ] {
            parts.headers.remove(name);
        }
    }
    parts.uri = next;
    Some(body)
}

/// RFC 3986 section 5.2, without taking dots out of paths: that is left to the server.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    let location = location.split('#').next().unwrap_or_default();
    let scheme = base.scheme().cloned().unwrap_or(Scheme::HTTP);
    if let Ok(uri) = location.parse::<Uri>()
        && uri.scheme().is_some()
    {
        return Some(uri);
    }
    let build = |authority: Authority, path: PathAndQuery| {
        let parts = Uri::builder().scheme(scheme.clone()).authority(authority);
        parts.path_and_query(path).build().ok()
    };
    if let Some(rest) = location.strip_prefix("//") {
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(cut);
        let path = if path.is_empty() { "/" } else { path };
        return build(authority.parse().ok()?, path.parse().ok()?);
    }
    let path = match location.as_bytes().first() {
        None => base.path_and_query()?.to_string(),
        Some(b'/') => location.to_owned(),
        Some(b'?') => format!("{}{location}", base.path()),
        Some(_) => {
            let directory = base.path().rfind('/').map_or("/", |i| &base.path()[..=i]);
            format!("{directory}{location}")
        }
    };
    build(base.authority()?.clone(), path.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations() {
        let base = Uri::from_static("http://a:81/b/c?d=e");
        for (location, wanted) in [
            ("http://x/y", "http://x/y"),
            ("https://x/y#z", "https://x/y"),
            ("//x:82/y", "http://x:82/y"),
            ("//x", "http://x/"),
            ("/y?z", "http://a:81/y?z"),
            ("y", "http://a:81/b/y"),
            ("?y=z", "http://a:81/b/c?y=z"),
            ("", "http://a:81/b/c?d=e"),
        ] {
            assert_eq!(resolve(&base, location).unwrap(), wanted, "{location}");
        }
    }
}
