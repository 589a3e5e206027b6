//! TLS to PostgreSQL with the meaning of libpq's `sslmode`: `require` encrypts, `verify-ca` also
//! verifies the certificate chain, `verify-full` also the host name.

use std::path::Path;
use std::sync::Arc;

use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

/// What is verified of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// The TLS connector. The error is one sentence.
pub fn connector(verify: Verify, roots: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    client_config(verify, roots).map(MakeRustlsConnect::new)
}

/// What a client of TLS needs. The error is one sentence.
pub fn client_config(verify: Verify, roots: Option<&Path>) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(if verify == Verify::AuthorityAndName {
        builder.with_root_certificates(root_store(roots)?).with_no_client_auth()
    } else {
        let authority = if verify == Verify::Authority {
            let store = Arc::new(root_store(roots)?);
            Some(WebPkiServerVerifier::builder(store).build().map_err(|error| error.to_string())?)
        } else {
            None
        };
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PartialVerifier { authority, algorithms }))
            .with_no_client_auth()
    })
}

/// The certificates of a PEM file, or the system's.
fn root_store(roots: Option<&Path>) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    let certificates: Vec<_> = match roots {
        Some(path) => {
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|_| {
                format!(
                    "the file of PGSSLROOTCERT or sslrootcert has no authorities in PEM: {}",
                    path.display()
                )
            })?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    store.add_parsable_certificates(certificates);
    if store.is_empty() {
        return Err("there are no root certificates; set PGSSLROOTCERT to a PEM file".to_owned());
    }
    Ok(store)
}

/// Verifies less than rustls does: no host name, and without an authority no chain either. The
/// handshake must still be signed with the certificate's key.
#[derive(Debug)]
struct PartialVerifier {
    authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PartialVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        let verified = authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signed,
            &self.algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signed,
            &self.algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
