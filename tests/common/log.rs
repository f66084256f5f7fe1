//! What the servers of this process log.

use std::io::{Result, Write};
use std::sync::Mutex;

static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Keeper;

impl Write for Keeper {
    fn write(&mut self, line: &[u8]) -> Result<usize> {
        LOGGED.lock().unwrap().push_str(&String::from_utf8_lossy(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on, also by other tests of the process.
pub fn keep() {
    // It is kept already if another test was here before.
    let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Keeper).try_init();
}

/// The lines with that text in them.
pub fn lines_with(text: &str) -> Vec<String> {
    LOGGED.lock().unwrap().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
