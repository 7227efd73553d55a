//! The state machine against a world of devices and brokers that do as they please: they acknowledge late or never, brokers
//! load what they are given or stand still, the operator crashes after any step, users pause and lose patience. Whatever happens,
//! the invariants of the replacement hold, and when everybody comes round it ends.

use proptest::prelude::*;

use super::*;

const WEEK: Duration = Duration::from_hours(7 * 24);

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A device takes notice of the files it has, and acknowledges what it trusts and uses.
    Acknowledges(usize),
    /// A device that never says a word reads its files.
    ReadsSilently(usize),
    /// A broker loads the files that it is given.
    Loads(usize),
    /// The operator looks once and takes the step that it sees.
    Looks,
    /// The operator issues what the present phase asks for, to one device.
    Issues(usize),
    /// It issues to brokers and dashboards.
    IssuesToServers,
    /// Time passes, in hours.
    Waits(u8),
    /// The user holds the replacement, or lets it go on.
    Pauses(bool),
    /// The user does not wait for devices any more.
    Distrusts,
    /// A new device comes; it gets its certificate from whoever signs for devices.
    Comes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Holder {
    /// The files in its Secret: bundle with the new root, with the old root, certificate of the new root.
    given: Files,
    /// Those it uses.
    uses: Files,
    /// What it has acknowledged.
    acknowledged: Option<Files>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Files {
    trusts_old: bool,
    trusts_new: bool,
    is_new: bool,
}

impl Default for Files {
    fn default() -> Self {
        Self { trusts_old: true, trusts_new: false, is_new: false }
    }
}

/// All that survives a crash, and the world outside.
struct World {
    rotation: Option<Rotation>,
    finished: bool,
    policy: Policy,
    now: Timestamp,
    devices: Vec<Holder>,
    brokers: Vec<Holder>,
    dashboard_is_new: bool,
    /// A phase was entered without waiting for every device.
    hurried: bool,
}

impl World {
    fn new(devices: usize, brokers: usize) -> Self {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let rotation = Rotation {
            phase: RotationPhase::Distributing,
            reason: "a test".into(),
            started_at: now,
            since: now,
        };
        Self {
            rotation: Some(rotation),
            finished: false,
            policy: Policy { paused: false, acknowledge_within: WEEK, distrust_now: false },
            now,
            devices: vec![Holder::default(); devices],
            brokers: vec![Holder::default(); brokers],
            dashboard_is_new: false,
            hurried: false,
        }
    }

    /// The bundle that everybody is given follows from the phase.
    fn distribute(&mut self) {
        let phase = self.rotation.as_ref().map(|rotation| rotation.phase);
        let trusts_old = phase.is_some_and(|phase| phase < RotationPhase::Retiring);
        for holder in self.devices.iter_mut().chain(&mut self.brokers) {
            holder.given = Files { trusts_old, trusts_new: true, ..holder.given };
        }
    }

    fn evidence(&self) -> Evidence {
        let device = |(n, it): (usize, &Holder)| Device {
            name: format!("d{n}"),
            trusts_new: it.acknowledged.is_some_and(|files| files.trusts_new),
            has_new: it.given.is_new,
            uses_new: it.given.is_new && it.acknowledged.is_some_and(|files| files.is_new),
            old_ends: Some(self.now + 90 * Duration::from_hours(24)),
        };
        let broker = |(n, it): (usize, &Holder)| Broker {
            name: format!("b{n}"),
            trusts_new: it.uses.trusts_new,
            trusts_old: it.uses.trusts_old,
            serves_new: it.given.is_new && it.uses.is_new,
        };
        Evidence {
            devices: self.devices.iter().enumerate().map(device).collect(),
            brokers: self.brokers.iter().enumerate().map(broker).collect(),
            dashboards_behind: if self.dashboard_is_new { vec![] } else { vec!["page".into()] },
        }
    }

    fn look(&mut self) {
        let Some(rotation) = self.rotation.clone() else { return };
        let mut probes = Vec::new();
        loop {
            match next(&rotation, &self.policy, &self.evidence(), &probes, self.now) {
                Step::Wait { .. } | Step::Rest | Step::Begin { .. } => return,
                Step::Ask { broker, of_new } => {
                    let it = &self.brokers[broker[1..].parse::<usize>().unwrap()].uses;
                    let let_in = Ok(if of_new { it.trusts_new } else { it.trusts_old });
                    probes.push(Probe { broker, of_new, let_in });
                }
                Step::Enter { phase, .. } => {
                    self.check_entry(rotation.phase, phase);
                    self.rotation = Some(Rotation { phase, since: self.now, ..rotation });
                    return self.distribute();
                }
                Step::Finish { .. } => {
                    assert_eq!(rotation.phase, RotationPhase::Retiring);
                    assert!(
                        self.brokers.iter().all(|it| !it.uses.trusts_old),
                        "a broker still lets in the old root"
                    );
                    (self.rotation, self.finished) = (None, true);
                    return;
                }
            }
        }
    }

    /// What must be true when a phase is entered.
    fn check_entry(&mut self, from: RotationPhase, to: RotationPhase) {
        assert_eq!(to as u8, from as u8 + 1, "no phase is left out and none comes twice");
        assert!(!self.policy.paused, "it is held");
        let since = self.rotation.as_ref().unwrap().since;
        self.hurried |= self.policy.distrust_now || since + self.policy.acknowledge_within <= self.now;
        let patient = !self.hurried;
        // A leaked root goes, whoever could not be issued a certificate in time.
        let leaves_behind = self.policy.distrust_now && since + ISSUED_WITHIN <= self.now;
        match to {
            RotationPhase::SwitchingServers => {
                assert!(self.brokers.iter().all(|it| it.uses.trusts_new));
                assert!(
                    !patient || self.devices.iter().all(|it| it.uses.trusts_new),
                    "it would refuse the broker"
                );
            }
            RotationPhase::Reissuing => {
                assert!(self.brokers.iter().all(|it| it.uses.is_new));
                assert!(leaves_behind || self.dashboard_is_new);
            }
            RotationPhase::Draining => {
                assert!(leaves_behind || self.devices.iter().all(|it| it.given.is_new));
            }
            RotationPhase::Retiring => {
                let all_issued = self.devices.iter().all(|it| it.given.is_new);
                assert!(self.policy.distrust_now || all_issued, "a device would be left behind");
                assert!(!patient || self.devices.iter().all(|it| it.uses.is_new), "it would be refused");
            }
            RotationPhase::Distributing => unreachable!(),
        }
    }

    fn happens(&mut self, event: Event) {
        let phase = self.rotation.as_ref().map(|rotation| rotation.phase);
        let signs_new = phase.is_none_or(|phase| phase >= RotationPhase::Reissuing);
        match event {
            Event::Acknowledges(n) => {
                if let Some(it) = pick(&mut self.devices, n) {
                    (it.uses, it.acknowledged) = (it.given, Some(it.given));
                }
            }
            Event::ReadsSilently(n) => {
                if let Some(it) = pick(&mut self.devices, n) {
                    it.uses = it.given;
                }
            }
            Event::Loads(n) => {
                if let Some(it) = pick(&mut self.brokers, n) {
                    it.uses = it.given;
                }
            }
            Event::Looks => self.look(),
            Event::Issues(n) => {
                if let Some(it) = pick(&mut self.devices, n).filter(|_| signs_new) {
                    it.given.is_new = true;
                }
            }
            Event::IssuesToServers => {
                if phase.is_some_and(|phase| phase >= RotationPhase::SwitchingServers) {
                    self.brokers.iter_mut().for_each(|it| it.given.is_new = true);
                    self.dashboard_is_new = self.brokers.iter().all(|it| it.uses.is_new);
                }
            }
            Event::Waits(hours) => self.now += Duration::from_hours(hours.into()),
            Event::Pauses(paused) => self.policy.paused = paused,
            Event::Distrusts => self.policy.distrust_now = true,
            Event::Comes => {
                let trusts_old = phase.is_some_and(|phase| phase < RotationPhase::Retiring);
                let given = Files { trusts_old, trusts_new: true, is_new: signs_new };
                self.devices.push(Holder { given, uses: given, acknowledged: None });
            }
        }
        // While nothing was hurried, every device that follows its files can reach every broker, at any moment.
        if !self.hurried {
            for (device, broker) in self.devices.iter().flat_map(|d| self.brokers.iter().map(move |b| (d, b)))
            {
                let believes =
                    if broker.uses.is_new { device.uses.trusts_new } else { device.uses.trusts_old };
                let is_let_in =
                    if device.uses.is_new { broker.uses.trusts_new } else { broker.uses.trusts_old };
                assert!(believes, "{device:?} does not believe {broker:?}");
                assert!(is_let_in, "{broker:?} does not let in {device:?}");
            }
        }
    }

    /// Everybody does what they should, again and again.
    fn comes_round(&mut self) {
        self.policy.paused = false;
        for _ in 0..40 {
            for n in 0..self.devices.len() {
                self.happens(Event::Issues(n));
                self.happens(Event::Acknowledges(n));
            }
            (0..self.brokers.len()).for_each(|n| self.happens(Event::Loads(n)));
            self.happens(Event::IssuesToServers);
            self.happens(Event::Looks);
        }
    }
}

fn pick(holders: &mut [Holder], n: usize) -> Option<&mut Holder> {
    let count = holders.len();
    (count > 0).then(|| &mut holders[n % count])
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => any::<usize>().prop_map(Event::Acknowledges),
        2 => any::<usize>().prop_map(Event::ReadsSilently),
        5 => any::<usize>().prop_map(Event::Loads),
        8 => Just(Event::Looks),
        4 => any::<usize>().prop_map(Event::Issues),
        4 => Just(Event::IssuesToServers),
        1 => (0_u8..60).prop_map(Event::Waits),
        1 => any::<bool>().prop_map(Event::Pauses),
        1 => Just(Event::Comes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nobody_is_locked_out_and_it_ends(
        devices in 0_usize..4,
        brokers in 0_usize..3,
        hurry in prop::option::weighted(0.2, 0_usize..200),
        events in prop::collection::vec(event(), 0..200),
    ) {
        let mut world = World::new(devices, brokers);
        world.distribute();
        for (n, event) in events.into_iter().enumerate() {
            if hurry == Some(n) {
                world.happens(Event::Distrusts);
            }
            world.happens(event);
        }
        world.comes_round();
        prop_assert!(world.finished, "it does not end: {:?}", world.rotation);
    }
}

#[test]
fn a_device_that_never_speaks_is_waited_for_as_long_as_the_spec_says_and_named() {
    let mut world = World::new(2, 1);
    world.distribute();
    world.happens(Event::Loads(0));
    world.happens(Event::Acknowledges(0));
    world.happens(Event::Waits(100));
    world.look();
    assert_eq!(world.rotation.as_ref().unwrap().phase, RotationPhase::Distributing);
    assert_eq!(world.evidence().laggards(RotationPhase::Distributing), ["d1"]);
    world.happens(Event::Waits(68));
    world.look();
    assert_eq!(world.rotation.as_ref().unwrap().phase, RotationPhase::SwitchingServers);
}
