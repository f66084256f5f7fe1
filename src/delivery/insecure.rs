//! Why there is no secure connection, in words for a webhook's owner: what is
//! wrong with the receiver, and what to do.

use std::borrow::Cow;
use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// In words; which they are is decided by the error's type.
pub fn in_words(error: &(dyn Error + 'static)) -> Cow<'static, str> {
    if let Some(error) = find::<TlsError>(error) {
        return tls(error);
    }
    match find::<io::Error>(error).map(io::Error::kind) {
        Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
            "the receiver closed the connection within the handshake; does it speak TLS on this port?".into()
        }
        _ => error.to_string().into(),
    }
}

/// The same of a connection that had been secure, if TLS is what ended it: in TLS 1.3 a receiver says what it
/// thinks of the other side's certificate after the handshake (RFC 8446 §4.4.2.4).
pub fn by_tls(error: &(dyn Error + 'static)) -> Option<Cow<'static, str>> {
    find::<TlsError>(error).map(tls)
}

/// The innermost of that type among an error, what it wraps, and what it is
/// caused by.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    // What an error of I/O wraps is not its source, but stands in its place.
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let inner: Option<&(dyn Error + 'static)> = match wrapped {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    };
    inner.and_then(find).or_else(|| error.downcast_ref())
}

fn tls(error: &TlsError) -> Cow<'static, str> {
    match error {
        TlsError::InvalidCertificate(error) => certificate(error),
        TlsError::InvalidMessage(_) => {
            "the receiver does not speak TLS on this port; is its URL one with http, or its port another?".into()
        }
        TlsError::NoCertificatesPresented => "the receiver presents no certificate; give it one".into(),
        TlsError::AlertReceived(
            alert @ (AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => format!(
            "the receiver wants a certificate that it trusts ({alert:?}); give the webhook such a client_certificate"
        )
        .into(),
        TlsError::AlertReceived(alert) => format!(
            "the receiver refused the handshake ({alert:?}); look at its log, and whether it knows the URL's host"
        )
        .into(),
        TlsError::PeerIncompatible(_) => {
            format!("the receiver has no way in common with TLS 1.2 and 1.3 as they are spoken today ({error})").into()
        }
        _ => error.to_string().into(),
    }
}

fn certificate(error: &CertificateError) -> Cow<'static, str> {
    match error {
        CertificateError::UnknownIssuer => {
            "nobody who is trusted vouches for the receiver's certificate; have the receiver send the certificates \
             between its own and its authority's, or the server's operator trust it (ca_file)"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the receiver's certificate has expired; renew it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the receiver's certificate is not valid yet; look at its dates and at the clocks"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            return format!(
                "the receiver's certificate is for another host ({error}); write a host of its in the URL, or give it \
                 a certificate for this one"
            )
            .into();
        }
        CertificateError::Revoked => "the receiver's certificate has been revoked; get another",
        // What is left is mostly this; the library has no name for it.
        CertificateError::Other(_) => {
            return format!(
                "the receiver's certificate is none that a server may have ({error}); if it is one of an authority, \
                 as openssl req -x509 makes it, have the server's operator trust it (ca_file), or make one with \
                 basicConstraints=CA:FALSE"
            )
            .into();
        }
        _ => return format!("the receiver's certificate can't be taken ({error}); get another").into(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, InvalidMessage, OtherError, PeerIncompatible};

    use super::*;

    fn told(error: TlsError) -> String {
        let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
        in_words(&wrapped).into_owned()
    }

    #[test]
    fn each_error_says_what_to_do() {
        let other = CertificateError::Other(OtherError(std::sync::Arc::new(io::Error::other("a cause"))));
        for (error, words) in [
            (CertificateError::UnknownIssuer.into(), "trust it (ca_file)"),
            (CertificateError::Expired.into(), "renew it"),
            (CertificateError::NotValidYet.into(), "clocks"),
            (CertificateError::NotValidForName.into(), "for another host"),
            (CertificateError::Revoked.into(), "revoked"),
            (CertificateError::BadSignature.into(), "get another"),
            (other.into(), "basicConstraints=CA:FALSE"),
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS on this port"),
            (TlsError::AlertReceived(AlertDescription::HandshakeFailure), "(HandshakeFailure)"),
            (TlsError::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "TLS 1.2 and 1.3"),
            (TlsError::General("a word".to_owned()), "a word"),
        ] {
            let told = told(error);
            assert!(told.contains(words), "{told} should say {words}");
        }
        let closed = io::Error::other(io::Error::new(io::ErrorKind::UnexpectedEof, "a word"));
        assert!(in_words(&closed).contains("closed the connection within the handshake"));
        assert_eq!(in_words(&io::Error::other("a word")), "a word");
    }
}
