//! A participant that tells of itself, for tests of what becomes of that.

use std::time::Duration;

use component_lease::election::HolderId;
use component_lease::membership::{Instance, Mode, Promise, Whereabouts};

use crate::stores::component;

pub(crate) fn instance(name: &str, holder: &str) -> Instance {
    let given = |text: &str| Some(text.to_owned());
    Instance {
        component: component(name),
        holder: HolderId::new(holder).unwrap(),
        lasts: 60,
        whereabouts: Whereabouts {
            namespace: given("shop"),
            pod: given("d-0"),
            pod_uid: given("8b7e12c0-1111-4222-8333-444455556666"),
            container: given("main"),
            node: given("node-ü"),
            address: given("10.0.0.7"),
        },
        program_version: given("1.2.3"),
        mode: Some(Mode::Beside),
        promise: Some(Promise { longest: Duration::from_millis(6_001), outside: true }),
        priority: Some(7),
        healthy: true,
        leads: None,
    }
}
