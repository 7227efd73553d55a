//! Readers that take nothing, over real connections.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of tests is a test, which clippy does not see

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashboard::http::{Site, serve};
use dashboard::live::Live;
use dashboard::state::State;
use jiff::Timestamp;
use link::wire::Reading;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const DEVICES: u32 = 2_000;
/// Far more than the sockets' buffers and the server's backlog of 64 hold.
const FRAMES: u32 = 200;
const STALLED: usize = 20;

async fn served() -> (Arc<Live>, SocketAddr, watch::Sender<bool>) {
    let now = Timestamp::now();
    let live = Arc::new(Live::new(State::new("default", now), now));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(listener, Site::new(Arc::clone(&live), Vec::new(), stopped)));
    (live, address, stop)
}

/// A stream that has said its first words.
async fn open(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("retry:") {
        line.clear();
        assert!(reader.read_line(&mut line).await.unwrap() > 0, "the stream ended");
    }
    reader
}

/// A reading of every device, and the frame of them all: 90 kB.
fn frame(live: &Live, round: u32) {
    let now = Timestamp::now();
    live.with(|state| {
        for device in 0..DEVICES {
            state.reading(
                &format!("device{device}"),
                &Reading::new(now, u64::from(round), f64::from(round)),
                now,
            );
        }
    });
    live.publish(now);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_delay_neither_another_client_nor_the_messages() {
    let (live, address, _stop) = served().await;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(open(address).await);
    }
    let reader = open(address).await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut lines = reader.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("id: ") {
                let _ = tell.send(());
            }
        }
    });
    let mut slowest = Duration::ZERO;
    for round in 0..FRAMES {
        frame(&live, round);
        let published = Instant::now();
        tokio::time::timeout(Duration::from_secs(5), told.recv())
            .await
            .expect("the one that reads waits for those that do not")
            .expect("its stream ended");
        slowest = slowest.max(published.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "a frame took {slowest:?}");
    // All of them are still there and take nothing: it was really them that the reader did not wait for.
    assert_eq!(live.tabs(), STALLED + 1);
    drop(stalled);
}
