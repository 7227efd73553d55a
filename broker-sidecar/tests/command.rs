//! The program itself: what the kubelet does to it.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(10);

/// Tries until there is an answer.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn get(server: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(server).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn start(directory: &std::path::Path) -> (Child, SocketAddr) {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let child = Command::new(env!("CARGO_BIN_EXE_broker-sidecar"))
        .args(["--pki", "pki", "--acl-source", "acl", "--run", "run", "--broker", "127.0.0.1:1"])
        .env("CA_IOT_LISTEN", listen.to_string())
        .current_dir(directory)
        .spawn()
        .unwrap();
    (child, listen)
}

#[test]
fn without_any_file_it_lives_says_what_is_missing_and_ends_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, server) = start(directory.path());
    let alive = until("/healthz", || get(server, "/healthz"));
    assert!(alive.starts_with("HTTP/1.0 200"), "{alive}");
    let startup = get(server, "/startupz").unwrap();
    assert!(startup.starts_with("HTTP/1.0 503") && startup.contains("tls.crt: No such file"), "{startup}");
    let loaded = get(server, "/loaded").unwrap();
    assert!(loaded.contains(r#""crlNumbers":{},"roots":[],"serialNumber":null,"loadedAt":null"#), "{loaded}");

    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let status = until("the end", || child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
