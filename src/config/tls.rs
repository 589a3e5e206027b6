//! TLS for clients: a certificate chain and its key, from PEM files.

use std::sync::Arc;

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{ConfigError, wrong};

/// None if neither is set; otherwise TLS 1.2 and 1.3.
pub fn server(
    cert: Option<&str>,
    key: Option<&str>,
) -> Result<Option<Arc<ServerConfig>>, ConfigError> {
    let (cert, key) = match (cert, key) {
        (None, None) => return Ok(None),
        (Some(cert), Some(key)) => (cert, key),
        (Some(_), None) => return wrong("TLS_KEY must be set beside TLS_CERT"),
        (None, Some(_)) => return wrong("TLS_CERT must be set beside TLS_KEY"),
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = match chain {
        Ok(chain) if !chain.is_empty() => chain,
        _ => return wrong(format!("TLS_CERT is no PEM file with certificates: {cert}")),
    };
    let Ok(key_der) = PrivateKeyDer::from_pem_file(key) else {
        return wrong(format!("TLS_KEY is no PEM file with a private key: {key}"));
    };
    match ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key_der) {
        Ok(mut config) => {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok(Some(Arc::new(config)))
        }
        Err(_) => wrong("TLS_KEY is not the key of the first certificate in TLS_CERT"),
    }
}
