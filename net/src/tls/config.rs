//! Ready-made configurations. All of them name the provider of the cryptography (ring), so that
//! nothing depends on a process-wide default.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::fault::at;
use crate::tls::fault;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(ring::default_provider()));

/// The cryptography that the ready-made configurations use; for those that you build yourself with
/// `ClientConfig::builder_with_provider`.
pub fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// A client's configuration that trusts the roots that browsers do (Mozilla's, by `webpki-roots`).
/// It is made once, so that all connections share the sessions that can be resumed.
///
/// # Errors
/// None with the provider of this crate.
pub fn client_config() -> io::Result<Arc<ClientConfig>> {
    static CONFIG: LazyLock<Result<Arc<ClientConfig>, rustls::Error>> = LazyLock::new(|| {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        client_of(roots.collect()).map(Arc::new)
    });
    CONFIG
        .clone()
        .map_err(|e| fault::setup("a TLS client's configuration", e))
}

/// A client's configuration that trusts the certificates of a file (PEM) and nothing else.
///
/// # Blocking
/// Parks while the file is read.
///
/// # Errors
/// Those of reading it; `InvalidData` if it has no certificate, or one that is none.
pub fn client_config_with_roots(pem: impl AsRef<Path>) -> io::Result<ClientConfig> {
    let pem = pem.as_ref();
    let mut roots = RootCertStore::empty();
    for root in certificates(pem)? {
        roots.add(root).map_err(|e| bad(pem, e))?;
    }
    client_of(roots).map_err(|e| bad(pem, e))
}

pub(super) fn client_of(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// A server's configuration from two files (PEM): the certificates, its own one first and then
/// those that lead to a root, and its private key (PKCS #8, PKCS #1 or SEC 1).
///
/// Clients need no certificate. Sessions are resumed by tickets, which cost the server no memory.
///
/// # Blocking
/// Parks while the files are read.
///
/// # Errors
/// Those of reading them; `InvalidData` if there is no certificate or no key in them, or they do
/// not belong to each other. The text names the file.
pub fn server_config(
    certificates: impl AsRef<Path>,
    key: impl AsRef<Path>,
) -> io::Result<ServerConfig> {
    let (chain, key) = (certificates.as_ref(), key.as_ref());
    let certificates = self::certificates(chain)?;
    let text = read(key)?;
    let der = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|e| bad(key, explained(&e, "private key (PRIVATE KEY)")))?;
    server_of(certificates, der)
        .map_err(|e| bad(format!("{} of {}", key.display(), chain.display()), e))
}

pub(super) fn server_of(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// The protocols that a side speaks above TLS (ALPN), the best one first.
pub trait WithAlpn: Sized {
    /// Offers (client) or takes (server) these protocols. A server that has a list refuses a
    /// client whose list has none of them.
    ///
    /// # Examples
    /// ```
    /// use sward_net::tls::{self, WithAlpn};
    /// let config = (*tls::client_config()?).clone().with_alpn(&["h2", "http/1.1"]);
    /// assert_eq!(config.alpn_protocols.len(), 2);
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    fn with_alpn(self, protocols: &[&str]) -> Self;
}

impl WithAlpn for ClientConfig {
    fn with_alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }
}

impl WithAlpn for ServerConfig {
    fn with_alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        self
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    sward_runtime::fs::read(path).map_err(|e| at("read", path.display(), e))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let text = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|e| bad(path, explained(&e, "certificate (CERTIFICATE)")))?;
    if all.is_empty() {
        let none = explained(&pem::Error::NoItemsFound, "certificate (CERTIFICATE)");
        return Err(bad(path, none));
    }
    Ok(all)
}

fn explained(e: &pem::Error, wanted: &str) -> String {
    match e {
        pem::Error::NoItemsFound => format!("there is no {wanted} in it; is it PEM?"),
        e => format!("it is no PEM file of a {wanted}: {e:?}"),
    }
}

#[cold]
fn bad(path: impl AsPath, why: impl std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{}: {why}", path.shown()))
}

/// What can be named in an error.
trait AsPath {
    fn shown(&self) -> String;
}

impl AsPath for &Path {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl AsPath for String {
    fn shown(&self) -> String {
        self.clone()
    }
}
