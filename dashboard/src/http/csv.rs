//! The table of certificates for a spreadsheet (RFC 4180).

use jiff::Timestamp;

use crate::state::State;

const HEADER: &str = "kind,name,generation,state,not_before,not_after,renewal_time,serial_number,fingerprint_sha256,\
                      serial_in_use,secret\r\n";

/// One line for each certificate, roots first.
pub(super) fn certificates(state: &State) -> String {
    let mut text = HEADER.to_owned();
    for holder in state.holders() {
        for certificate in &holder.certificates {
            let fields = [
                holder.kind.as_str().to_owned(),
                holder.name.clone(),
                certificate.generation.to_string(),
                certificate.generation_state.clone().or_else(|| holder.state.clone()).unwrap_or_default(),
                moment(certificate.not_before),
                moment(certificate.not_after),
                certificate.renewal_time.map(moment).unwrap_or_default(),
                certificate.serial_number.clone(),
                certificate.fingerprint.clone(),
                state.serial_in_use(holder).unwrap_or_default().to_owned(),
                certificate.secret_name.clone().unwrap_or_default(),
            ];
            text.push_str(&fields.map(|field| quoted(&field)).join(","));
            text.push_str("\r\n");
        }
    }
    text
}

fn moment(millis: i64) -> String {
    Timestamp::from_millisecond(millis).map(|at| at.to_string()).unwrap_or_default()
}

/// Always quoted; a leading character that a spreadsheet would compute with is kept from it.
fn quoted(field: &str) -> String {
    let guard = if field.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("\"{guard}{}\"", field.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::holder::{Certificate, Holder, Kind};

    #[test]
    fn a_spreadsheet_gets_a_line_for_each_certificate() {
        let mut state = State::new("default", Timestamp::UNIX_EPOCH);
        let mut holder = Holder::new(Kind::IotDevice, "device001");
        holder.state = Some("Valid".into());
        holder.certificates = vec![Certificate {
            serial_number: "0a".into(),
            fingerprint: "ff".into(),
            not_after: 1_800_000_000_000,
            generation: 1,
            ..Certificate::default()
        }];
        state.holder_applied(holder);
        let text = certificates(&state);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
        assert!(lines[1].starts_with(
            r#""IotDevice","device001","1","Valid","1970-01-01T00:00:00Z","2027-01-15T08:00:00Z""#
        ));
    }

    #[test]
    fn no_field_can_be_a_formula_or_leave_its_cell() {
        assert_eq!(quoted("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\"");
    }
}
