//! What this process costs, under the names that every Prometheus client gives: read at each scrape.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::time::{ClockId, clock_gettime};

/// CPU and memory of this process.
#[derive(Debug)]
pub struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), Error> {
        let spent = ConstCounter::new(cpu_seconds());
        spent.encode(encoder.encode_descriptor(
            "process_cpu",
            "Processor time that was spent",
            Some(&Unit::Seconds),
            spent.metric_type(),
        )?)?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (name, help, field) in [
            ("process_resident_memory", "Memory in use", "VmRSS:"),
            ("process_resident_memory_max", "The most memory that was ever in use", "VmHWM:"),
        ] {
            let Some(octets) = octets(&status, field) else { continue };
            let gauge = ConstGauge::new(octets);
            let unit = Unit::Bytes;
            gauge.encode(encoder.encode_descriptor(name, help, Some(&unit), gauge.metric_type())?)?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let spent = std::time::Duration::try_from(spent).unwrap_or_default();
    spent.as_secs_f64()
}

/// A line such as `VmRSS:     12345 kB`: `proc_pid_status(5)`.
fn octets(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kilobytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn time_and_memory_are_those_of_this_process() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") > 0.0);
        let (now, most) =
            (value("process_resident_memory_bytes"), value("process_resident_memory_max_bytes"));
        assert!(now > 1e6 && most >= now, "{now} {most}");
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        assert_eq!(octets("VmRSS:\t   12 kB\n", "VmRSS:"), Some(12 * 1024));
        assert_eq!(octets("VmRSS:\t   12 MB\n", "VmRSS:"), None);
        assert_eq!(octets("", "VmRSS:"), None);
    }
}
