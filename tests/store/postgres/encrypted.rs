//! Encrypted connections to the database, by certificates of the test's own.

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::common::certificates::{Issuer, authority};

/// A port that is free, and likely to stay so.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server on a port of this machine, whose certificate is for localhost alone, and
/// which wants a password.
fn encrypted(by: &Issuer) -> Option<(Postgres, u16)> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, by).unwrap();
    let port = free_port();
    let set = format!("port={port}");
    let access = "local all all trust\nhost all all all scram-sha-256\n";
    let files = [("server.crt", &*certificate.pem()), ("server.key", &*key.serialize_pem()), ("pg_hba.conf", access)];
    let flags = ["-c", &set, "-c", "listen_addresses=127.0.0.1"];
    let server = Postgres::private(&flags, &files)?;
    server.run("ALTER ROLE hook PASSWORD 'over the wire'");
    Some((server, port))
}

/// What connecting comes to.
fn connecting(url: &str) -> Result<(), String> {
    let database = Database::parse(url).map_err(|cause| cause.to_string())?;
    PostgresStore::prepare(&database).map_err(|cause| cause.to_string())
}

#[test]
fn certificates_count_as_sslmode_says() {
    let (own, other) = (authority("own"), authority("other"));
    let Some((server, port)) = encrypted(&own) else {
        return left_out("encrypted connections to PostgreSQL: it is not installed; tests/run installs it");
    };
    let folder = tempfile::tempdir().unwrap();
    let pem = |name: &str, issuer: &Issuer| {
        let path = folder.path().join(name);
        std::fs::write(&path, issuer.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (own, other) = (pem("own.pem", &own), pem("other.pem", &other));
    let at = |host: &str, options: &str| {
        connecting(&format!("postgres://hook:over%20the%20wire@{host}:{port}/postgres?{options}"))
    };
    let told = at("127.0.0.1", "sslmode=require").unwrap_err();
    assert!(told.contains("does not support TLS"), "{told}");
    assert_eq!(at("127.0.0.1", "sslmode=prefer"), Ok(()), "what is preferred need not be");
    server.run("ALTER SYSTEM SET ssl = on");
    server.run("SELECT pg_reload_conf()");
    let begun = Instant::now();
    while at("127.0.0.1", "sslmode=require").is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it can't be encrypted");
    }

    for (host, options) in [
        ("localhost", format!("sslmode=verify-full&sslrootcert={own}")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={own}")),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", "sslmode=require&channel_binding=require".to_owned()),
        ("127.0.0.1", "sslmode=prefer".to_owned()),
        ("127.0.0.1", "sslmode=disable".to_owned()),
    ] {
        assert_eq!(at(host, &options), Ok(()), "{host} {options}");
    }
    for (host, options, words) in [
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={own}"), "for another host"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={other}"), "sslrootcert=FILE"),
        ("localhost", format!("sslmode=verify-ca&sslrootcert={other}"), "sslrootcert=FILE"),
        ("localhost", "sslmode=verify-full".to_owned(), "sslrootcert=FILE"),
        ("localhost", format!("sslmode=require&sslrootcert={other}"), "sslrootcert=FILE"),
    ] {
        let told = at(host, &options).unwrap_err();
        assert!(told.contains(words) && !told.contains("wire"), "{host} {options}: {told}");
    }
    let wrong = connecting(&format!("postgres://hook:a-secret@127.0.0.1:{port}/postgres")).unwrap_err();
    assert!(wrong.contains("28P01") && !wrong.contains("a-secret"), "{wrong}");
}
