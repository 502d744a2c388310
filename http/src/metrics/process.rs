//! What the kernel knows about this process, under the names that all Prometheus clients use.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

use super::{gauge, seconds};

/// Adds what `/proc` contains; nothing on systems without it.
pub(super) fn register(registry: &mut Registry) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "ticks of one process")]
    let ticks = |count: u64| count as f64 / rustix::param::clock_ticks_per_second() as f64;
    if let Some(stat) = Stat::parse(&read("/proc/self/stat")) {
        let cpu = Counter::<f64, AtomicU64>::default();
        cpu.inc_by(ticks(stat.cpu_ticks));
        registry.register_with_unit("process_cpu", "CPU time used", Unit::Seconds, cpu);
        let page = rustix::param::page_size() as u64;
        gauge(registry, "process_resident_memory_bytes", "Memory in use", stat.resident_pages * page);
        gauge(registry, "process_virtual_memory_bytes", "Address space in use", stat.virtual_bytes);
        if let Some(boot) = boot_time(&read("/proc/stat")) {
            let help = "When this process started, in Unix time";
            seconds(registry, "process_start_time", help, boot + ticks(stat.start_ticks));
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        gauge(registry, "process_open_fds", "Open files and connections", open.count() as u64);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        gauge(registry, "process_max_fds", "Limit of open files and connections", limit.unwrap_or(u64::MAX));
    }
}

/// Fields of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses and may contain anything.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // proc(5) counts fields from 1, and the first of these is number 3.
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

/// When the system started, in Unix seconds, from `/proc/stat`.
fn boot_time(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_shifts_no_field() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 9 0 8800 4096000 250 18446744073709551615\n";
        let stat = Stat::parse(text).unwrap();
        let expected =
            Stat { cpu_ticks: 200, start_ticks: 8800, virtual_bytes: 4_096_000, resident_pages: 250 };
        assert_eq!(stat, expected);
        assert_eq!(Stat::parse("7 (half) S 1"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\nprocesses 3\n"), Some(1_700_000_000.0));
    }

    #[test]
    fn this_process_started_a_moment_ago_and_has_files_open() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).expect(name);
            line.trim().parse().unwrap()
        };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds ");
        assert!((-2.0..600.0).contains(&age), "{age}");
        assert!(value("process_open_fds ") >= 3.0 && value("process_max_fds ") > value("process_open_fds "));
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
