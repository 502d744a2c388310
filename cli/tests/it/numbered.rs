//! Logs with numbered lines: `line 1` to `line n`, then `end n`.

use fairlane_common::{BuildId, Queue};

/// What is wrong with some logs, or with streams of them.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    pub(crate) lines: usize,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) disordered: usize,
    /// Lines that no run wrote, such as notices; there should be none.
    pub(crate) notes: Vec<String>,
}

impl Numbered {
    /// Compares a log, or a stream of it, with what the run wrote.
    pub(crate) fn add(&mut self, log: &[String]) {
        let end = log.iter().rev().find_map(|line| line.strip_prefix("end ")?.parse::<usize>().ok());
        let mut seen = vec![0_usize; end.unwrap_or_default() + 1];
        let mut latest = 0;
        for line in log.iter().filter(|line| !line.starts_with("end ")) {
            let number = line.strip_prefix("line ").and_then(|number| number.parse::<usize>().ok());
            let Some(number) = number.filter(|number| *number < seen.len()) else {
                self.notes.push(line.clone());
                continue;
            };
            seen[number] += 1;
            self.disordered += usize::from(number < latest);
            latest = number;
        }
        self.lines += seen.iter().sum::<usize>();
        self.lost += seen.iter().skip(1).filter(|count| **count == 0).count() + usize::from(end.is_none());
        self.doubled += seen.iter().map(|count| count.saturating_sub(1)).sum::<usize>();
    }

    pub(crate) fn is_clean(&self) -> bool {
        [self.lost, self.doubled, self.disordered, self.notes.len()] == [0; 4]
    }
}

/// The log of a run, as it is stored.
pub(crate) async fn stored_log(queue: &Queue, id: BuildId, run: u32) -> Vec<String> {
    let (mut after, mut lines) = ("0".to_owned(), Vec::new());
    loop {
        let page = queue.read_log(id, run, &after, 500).await.unwrap();
        let Some(last) = page.entries.last() else { return lines };
        after.clone_from(&last.id);
        lines.extend(page.entries.into_iter().map(|entry| entry.text));
    }
}
