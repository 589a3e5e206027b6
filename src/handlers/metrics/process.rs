//! The process, by the names that Prometheus' own clients use. Most of it needs `/proc`, and so
//! Linux.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::{Page, float};

#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        if let Some(stat) = Stat::read() {
            stat.write(&mut page)?;
        }
        // Less the one that reads the folder.
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            page.gauge(
                "process_open_fds",
                "Open file descriptors.",
                open.count().saturating_sub(1),
            )?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            page.gauge("process_max_fds", "The most open file descriptors.", limit)?;
        }
        Ok(())
    }
}

/// From `/proc/self/stat` (proc(5)), whose times are in ticks.
struct Stat {
    cpu: u64,
    threads: u64,
    /// After the start of the system.
    started: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name before it may contain anything. What follows begins with the third field.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu: field(14)? + field(15)?,
            threads: field(20)?,
            started: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }

    fn write(&self, page: &mut Page<'_>) -> fmt::Result {
        let seconds = |ticks| float(ticks) / float(clock_ticks_per_second());
        let bytes = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
        page.seconds_total("process_cpu", "CPU time of user and system.", seconds(self.cpu))?;
        let resident = self.resident_pages.saturating_mul(page_size() as u64);
        page.gauge("process_resident_memory_bytes", "Resident memory.", bytes(resident))?;
        let help = "Virtual memory.";
        page.gauge("process_virtual_memory_bytes", help, bytes(self.virtual_bytes))?;
        page.gauge("process_threads", "Threads.", bytes(self.threads))?;
        match system_start() {
            Some(start) => page.seconds(
                "process_start_time_seconds",
                "When the process started, in Unix time.",
                float(start) + seconds(self.started),
            ),
            None => Ok(()),
        }
    }
}

/// In Unix time.
fn system_start() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
        let stat = Stat::parse(&format!("1 (a ) S (b) {}", fields.join(" "))).unwrap();
        assert_eq!((stat.cpu, stat.threads, stat.started), (14 + 15, 20, 22));
        assert_eq!((stat.virtual_bytes, stat.resident_pages), (23, 24));
        assert!(Stat::read().is_some_and(|stat| stat.resident_pages > 0));
    }
}
