//! The supervisor's pipes: the command's output in, messages to the worker out.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use super::protocol::News;
use crate::log::lines::Splitter;

const CHUNK_BYTES: usize = 16 * 1024;

/// Forwards every line of one of the command's outputs, until its end.
pub(super) fn forward(mut pipe: impl Read, news: &SyncSender<News>) {
    let mut splitter = Splitter::new(Instant::now());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match pipe.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => tell(splitter.push(&chunk[..count], Instant::now()), news),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    tell(splitter.finish(Instant::now()), news);
}

fn tell(lines: Vec<String>, news: &SyncSender<News>) {
    for text in lines {
        let t = format!("{:.9}", jiff::Timestamp::now());
        // Fails only if the supervisor is about to exit.
        let _ = news.send(News::Line { t, text });
    }
}

/// Writes messages to the worker. If the worker is gone, it keeps draining them, so that the command is never
/// blocked by a pipe that nobody reads.
pub(super) fn report(news: &Receiver<News>, mut pipe: impl Write) {
    let mut broken = false;
    while let Ok(item) = news.recv() {
        let mut batch = line_of(&item);
        while batch.len() < CHUNK_BYTES
            && let Ok(item) = news.try_recv()
        {
            batch.extend(line_of(&item));
        }
        broken = broken || pipe.write_all(&batch).and_then(|()| pipe.flush()).is_err();
    }
}

fn line_of(news: &News) -> Vec<u8> {
    let mut line = serde_json::to_vec(news).unwrap_or_default();
    line.push(b'\n');
    line
}
