//! TLS at the command line: what `serve` prints, what it says of files that it can't use, and
//! the commands that call it.

use super::common::certificates::{Pair, authority};
use super::*;

fn path(file: PathBuf) -> String {
    file.to_str().unwrap().to_owned()
}

fn speaking(pair: &Pair) -> Vec<String> {
    ["--dev".to_owned(), "--tls-cert".to_owned(), path(pair.certificate()), "--tls-key".to_owned(), path(pair.key())]
        .into()
}

fn serve(folder: &Path, args: &[String]) -> Running {
    Running::serve(folder, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn it_is_called_over_https_by_who_knows_its_authority() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, caller) = (Pair::new(&authority("ours")), Pair::new(&authority("of callers")));
    let asks = [speaking(&pair), ["--tls-client-ca".to_owned(), path(caller.authority())].into()].concat();
    let server = serve(folder.path(), &speaking(&pair));
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let ca = ["--ca-file", &path(pair.authority())];
    assert_eq!(stdout(&server.call(&[&["webhook.list"][..], &ca].concat())).trim(), "[]");
    let unknown = server.call(&["webhook.list"]);
    assert!(stderr(&unknown).contains("UnknownIssuer"), "{}", stderr(&unknown));
    drop(server);

    let server = serve(folder.path(), &asks);
    let shown = ["--client-cert", &path(caller.certificate()), "--client-key", &path(caller.key())];
    assert_eq!(stdout(&server.call(&[&["webhook.list"][..], &ca, &shown].concat())).trim(), "[]");
    assert!(!server.call(&[&["webhook.list"][..], &ca].concat()).status.success());
    let mut tail = tallyhook(folder.path(), &[&["tail", "--events", "--url", &server.url][..], &ca, &shown].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(tail.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("shows what happens")));
    let publish = ["event.publish", "order:created", "{}"];
    stdout(&server.call(&[&publish[..], &ca, &shown].concat()));
    let mut line = String::new();
    BufReader::new(tail.stdout.take().unwrap()).read_line(&mut line).unwrap();
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(line.contains("order:created"), "{line}");
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_key_and_path() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, other) = (Pair::new(&authority("ours")), Pair::new(&authority("ours")));
    let (certificate, key, other_key) = (path(pair.certificate()), path(pair.key()), path(other.key()));
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--tls-cert", &certificate], &["tls_key (default): is not set", "belong together"]),
        (&["--tls-key", &key], &["tls_cert (default): is not set"]),
        (&["--tls-client-ca", &certificate], &["tls_client_ca (flag --tls-client-ca): is nothing without TLS"]),
        (
            &["--tls-cert", &certificate, "--tls-key", &other_key],
            &["tls_key (flag --tls-key): the key in", &other_key, "is not that of", &certificate],
        ),
        (
            &["--tls-cert", "/nonexistent/c.pem", "--tls-key", &key],
            &["tls_cert (flag --tls-cert): /nonexistent/c.pem can't be read"],
        ),
        (
            &["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &certificate],
            &["tls_client_ca (flag --tls-client-ca):", &certificate, "an authority"],
        ),
    ];
    for (args, words) in cases {
        let refused = run(folder.path(), &[&["serve"], args].concat());
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(words.iter().all(|words| told.contains(words)), "{args:?}: {told}");
    }
}

#[test]
fn a_hangup_has_the_files_read_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (authority("old"), authority("new"));
    let pair = Pair::new(&old);
    let mut server = Running::start(
        folder.path(),
        &[
            &["serve", "--listen", "127.0.0.1:0", "--log", "info"][..],
            &speaking(&pair).iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat(),
        "tallyhook listening on ",
    );
    let new_authority = Pair::new(&new);
    let mut said = BufReader::new(server.child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |words: &str| said.find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}"));
    until("TLS is spoken with this certificate");
    pair.renew(&new);
    server.signal("HUP");
    until("TLS is spoken with this certificate");
    let ca = path(new_authority.authority());
    assert_eq!(stdout(&server.call(&["webhook.list", "--ca-file", &ca])).trim(), "[]");
    std::fs::remove_file(pair.key()).unwrap();
    server.signal("HUP");
    let told = until("can't be used");
    assert!(told.contains("ERROR") && told.contains("key.pem can't be read"), "{told}");
    assert_eq!(stdout(&server.call(&["webhook.list", "--ca-file", &ca])).trim(), "[]");
    server.signal("TERM");
    assert_eq!(server.code(), Some(0));
}
