//! Starts the executable named by VARIA_EXECUTABLE for the tests of the official Rust client.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// One running executable. It keeps its port and directories over restarts.
pub struct Server {
    directory: TempDir,
    flags: Vec<String>,
    address: String,
    process: Option<Child>,
}

impl Server {
    pub fn start(shards: u32, flags: &[&str]) -> Server {
        let mut all = vec!["-s".to_string(), shards.to_string()];
        all.extend(flags.iter().map(|flag| flag.to_string()));
        let mut server = Server {
            directory: tempfile::tempdir().expect("a temporary directory"),
            flags: all,
            address: "127.0.0.1:0".to_string(),
            process: None,
        };
        server.spawn();
        server
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// Sends SIGKILL, waits for the end and starts again on the same port and directories.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn spawn(&mut self) {
        let executable = std::env::var("VARIA_EXECUTABLE")
            .expect("VARIA_EXECUTABLE: the absolute path of the executable under test");
        let mut process = Command::new(executable)
            .args(["standalone", "-p", &self.address, "-m", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(self.directory.path().join("db"))
            .arg("--wal-dir")
            .arg(self.directory.path().join("wal"))
            .args(["-l", "error"])
            .args(&self.flags)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let output = process.stdout.take().expect("its output");
        self.process = Some(process);
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix("public ") {
                    let _ = sender.send(address.trim().to_string());
                }
            }
        });
        self.address = receiver
            .recv_timeout(START_TIMEOUT)
            .expect("the server names its public address");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
