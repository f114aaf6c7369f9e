//! [`self_signed`]: a server and a client for tests.

use std::io;

use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::{config, fault};

/// Makes a certificate for these names, which signs itself, and the configurations of a server that
/// has it and of a client that trusts it and nothing else. For tests.
///
/// # Errors
/// `InvalidInput` for a name that cannot be in a certificate.
///
/// # Examples
/// ```
/// let (server, client) = sward_net::tls::self_signed(&["localhost", "127.0.0.1"])?;
/// # let _ = (server, client);
/// # std::io::Result::Ok(())
/// ```
pub fn self_signed(names: &[&str]) -> io::Result<(ServerConfig, ClientConfig)> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).map_err(|e| {
            let text = format!("a certificate that signs itself: {e}");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let setup = |e| fault::setup("a certificate that signs itself", e);
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).map_err(setup)?;
    let server = config::server_of(vec![cert.der().clone()], key).map_err(setup)?;
    let client = config::client_of(roots).map_err(setup)?;
    Ok((server, client))
}
