//! What the tests of the state have in common.

use jiff::Timestamp;
use serde_json::Value;

use super::State;
use super::holder::{Holder, Kind};

pub(super) fn at(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(1_800_000_000_000 + millis).unwrap()
}

pub(super) fn state() -> State {
    let mut state = State::new("default", at(0));
    state.take_changes(at(0), |_| ());
    state
}

pub(super) fn device(name: &str) -> Holder {
    Holder::new(Kind::IotDevice, name)
}

pub(super) fn changes(state: &mut State, now: Timestamp) -> Value {
    state.take_changes(now, |changes| serde_json::to_value(changes).unwrap()).unwrap_or(Value::Null)
}

pub(super) fn snapshot(state: &State, now: Timestamp) -> Value {
    serde_json::to_value(state.snapshot("e".into(), "a", now)).unwrap()
}
