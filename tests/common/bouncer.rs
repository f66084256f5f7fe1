//! PgBouncer in front of a PostgreSQL server of the tests, pooling transactions.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::postgres::{NOBODY, Postgres, as_nobody};

/// Sessions of the database for each of its databases: few, so that they change hands.
const SESSIONS: u32 = 6;
const PORT: u16 = 6432;

/// What keeps it going until the end of its input, and tells once it listens.
const KEEP: &str = r#"
"$1" "$2/pgbouncer.ini" >"$2/log" 2>&1 &
pooler=$!
until [ -S "$2/.s.PGSQL.6432" ]; do
    kill -0 "$pooler" 2>/dev/null || { cat "$2/log"; exit 1; }
    sleep 0.05
done
echo ready
read -r _
kill -TERM "$pooler"
wait "$pooler"
"#;

/// It, until it is dropped.
pub struct Bouncer {
    server: &'static Postgres,
    folder: TempDir,
    keeper: Child,
}

impl Bouncer {
    /// In front of a server; `None` if it is not installed.
    pub fn start(server: &'static Postgres) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
            .into_iter()
            .find(|program| std::path::Path::new(program).exists())?;
        let folder = tempfile::Builder::new().prefix("bouncer").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let (place, data) = (folder.path().display(), server.data());
        let config = format!(
            "[databases]\n* = host={} port=5432 user=hook\n[pgbouncer]\nlisten_port = {PORT}\nunix_socket_dir = {place}\n\
            auth_type = any\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmax_client_conn = 500\n",
            data.display()
        );
        std::fs::write(folder.path().join("pgbouncer.ini"), config).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(folder.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEP, "keep", program]).arg(folder.path());
        keeper.stdin(Stdio::piped()).stdout(Stdio::piped());
        as_nobody(&mut keeper);
        let mut keeper = keeper.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "PgBouncer did not start");
        Some(Self { server, folder, keeper })
    }

    /// Where an empty database is, through it, and directly.
    pub fn database(&self) -> (String, String) {
        static DATABASES: AtomicU32 = AtomicU32::new(0);
        let name = format!("pooled{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        self.server.run(&format!("CREATE DATABASE {name}"));
        let at = |folder: &std::path::Path, port: u16| {
            format!("postgres://hook@{}:{port}/{name}", folder.to_str().unwrap().replace('/', "%2F"))
        };
        (at(self.folder.path(), PORT), at(&self.server.data(), 5432))
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
