//! A simulated thermometer: [`room`] is what it measures, [`device`] is how it tells.
//!
//! It is a device like any other: it has nothing but a certificate, its key and the roots to trust, mounted as files, and
//! follows them when they are replaced.

pub mod device;
pub mod room;

mod probes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use link::BrokerAddress;

/// A simulated thermometer.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Where the broker listens, HOST:PORT; its certificate must bear this host.
    #[arg(long, env = "CA_IOT_BROKER")]
    pub broker: BrokerAddress,
    /// The directory of tls.crt, tls.key and ca.crt. The certificate's common name is the device's name.
    #[arg(long, env = "CA_IOT_PKI", default_value = "/pki")]
    pub pki: PathBuf,
    /// How often to send a reading: a duration such as 5s or 200ms, from 100ms to 1h.
    #[arg(long, env = "CA_IOT_INTERVAL", default_value = "5s", value_parser = interval)]
    pub interval: Duration,
    /// The room's mean temperature in °C.
    #[arg(long, env = "CA_IOT_MEAN", default_value_t = 21.0, allow_negative_numbers = true)]
    pub mean: f64,
    /// How far the temperature swings around its mean over a day, in °C.
    #[arg(long, env = "CA_IOT_SWING", default_value_t = 3.0)]
    pub swing: f64,
    /// Where /healthz (alive) and /readyz (connected) are served.
    #[arg(long, env = "CA_IOT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

fn interval(text: &str) -> Result<Duration, String> {
    let friendly = text.parse::<jiff::SignedDuration>().map_err(|error| error.to_string())?;
    let interval = Duration::try_from(friendly).map_err(|_| "an interval is not negative".to_owned())?;
    if (Duration::from_millis(100)..=Duration::from_hours(1)).contains(&interval) {
        Ok(interval)
    } else {
        Err("write an interval from 100ms to 1h".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_in_a_spec() {
        for (text, milliseconds) in [("5s", 5000), ("200ms", 200), ("1m30s", 90_000), ("1h0m0s", 3_600_000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["50ms", "2h", "-5s", "5", "soon", ""] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_freezer_may_be_simulated() {
        let words = ["thermometer", "--broker=b:8883", "--mean", "-18.5"];
        assert!((Arguments::parse_from(words).mean + 18.5).abs() < f64::EPSILON);
    }
}
