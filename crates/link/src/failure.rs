//! Why there is no connection, in terms of what to do about it.

use std::{error::Error as StdError, io};

use rumqttc::{ConnectReturnCode, ConnectionError, DisconnectReasonCode, StateError, mqttbytes};
use rustls::AlertDescription;

/// Why a connection failed or ended.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No broker answers at the address.
    #[error("the broker cannot be reached: {0}")]
    Unreachable(String),
    /// The broker's certificate is not from a trusted root, is out of date or bears another name.
    #[error("the broker's certificate is not accepted: {0}")]
    BrokerNotTrusted(String),
    /// The broker's list of revoked certificates names ours.
    #[error("the broker refused the certificate: it is revoked")]
    Revoked,
    /// The broker refuses our certificate for another reason. TLS calls `CertificateExpired` a
    /// broker's own revocation list that is out of date, too.
    #[error("the broker refused the certificate: {0}")]
    CertificateRefused(String),
    /// The broker refuses the session.
    #[error("the broker refused the session: {0}")]
    SessionRefused(String),
    /// Another client with the same name connected. From Mosquitto, whose short form of saying so the
    /// MQTT client does not understand, it is [`Failure::Lost`] (`docs/adr/0001`).
    #[error("another session with the same name took over")]
    TakenOver,
    /// The connection broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl Failure {
    /// Whether the broker said no to who we are, rather than being away.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Revoked | Self::CertificateRefused(_) | Self::SessionRefused(_))
    }
}

impl From<&ConnectionError> for Failure {
    fn from(error: &ConnectionError) -> Self {
        if let Some(tls) = rustls_error(error) {
            return tls.into();
        }
        if let Some(error) = io_error(error) {
            return Self::Lost(error.to_string());
        }
        match error {
            ConnectionError::ConnectionRefused(
                code @ (ConnectReturnCode::ServerUnavailable
                | ConnectReturnCode::ServiceUnavailable
                | ConnectReturnCode::ServerBusy
                | ConnectReturnCode::ConnectionRateExceeded),
            ) => Self::Unreachable(format!("it answers {code:?}")),
            ConnectionError::ConnectionRefused(code) => Self::SessionRefused(format!("{code:?}")),
            ConnectionError::MqttState(StateError::ServerDisconnect {
                reason_code: DisconnectReasonCode::SessionTakenOver,
                ..
            }) => Self::TakenOver,
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
                Self::Lost(format!("the broker said {reason_code:?}"))
            }
            ConnectionError::MqttState(StateError::ConnectionAborted) => {
                Self::Lost("the broker closed it".to_owned())
            }
            ConnectionError::Timeout(_) => Self::Unreachable("no answer in time".to_owned()),
            ConnectionError::Io(error) => Self::Unreachable(error.to_string()),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<&rustls::Error> for Failure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(AlertDescription::CertificateRevoked) => Self::Revoked,
            rustls::Error::AlertReceived(
                alert @ (AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRequired
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied
                | AlertDescription::DecryptError),
            ) => Self::CertificateRefused(format!("{alert:?}")),
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Self::BrokerNotTrusted(error.to_string())
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

/// The TLS error inside, if there is one: an alert that comes after the handshake, which is when
/// TLS 1.3 refuses a client, hides in an I/O error.
fn rustls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    if let Some(error) = io_error(error) {
        return in_io(error);
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        let tls = current.downcast_ref().or_else(|| current.downcast_ref::<io::Error>().and_then(in_io));
        if tls.is_some() {
            return tls;
        }
        cause = current.source();
    }
    None
}

/// What broke an established connection. The client calls it a failure to parse, and does not name it as the source.
fn io_error(error: &ConnectionError) -> Option<&io::Error> {
    match error {
        ConnectionError::MqttState(
            StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)),
        ) => Some(error),
        _ => None,
    }
}

fn in_io(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert_while_reading(alert: AlertDescription) -> ConnectionError {
        let tls = rustls::Error::AlertReceived(alert);
        let error = io::Error::new(io::ErrorKind::InvalidData, tls);
        ConnectionError::MqttState(StateError::Deserialization(mqttbytes::Error::Io(error)))
    }

    #[test]
    fn a_late_alert_is_recognised() {
        let revoked = Failure::from(&alert_while_reading(AlertDescription::CertificateRevoked));
        assert_eq!(revoked, Failure::Revoked);
        let unknown = Failure::from(&alert_while_reading(AlertDescription::UnknownCA));
        assert_eq!(unknown, Failure::CertificateRefused("UnknownCA".into()));
        assert!(revoked.is_refusal() && unknown.is_refusal());
    }

    #[test]
    fn a_broker_that_is_away_has_refused_nobody() {
        let away = ConnectionError::Io(io::ErrorKind::ConnectionRefused.into());
        let busy = ConnectionError::ConnectionRefused(ConnectReturnCode::ServerBusy);
        for error in [away, busy] {
            assert!(matches!(Failure::from(&error), Failure::Unreachable(_)), "{error}");
        }
    }
}
