//! What becomes of the Services of a resource. One that is managed is made and corrected, and taken back where nobody
//! owns it; one that is only checked is released; one that is not named any more goes when the named one is there. One
//! of somebody else is never touched.

use std::collections::BTreeMap;

use super::super::observed::{DesiredService, Observed, SeenService, ServiceSight};
use super::super::reach::managed_selector;
use super::plan::{ServiceChange, ServiceWrite};

type Texts = BTreeMap<String, String>;

/// The label that says that this program has made a Service. The admission policy of the chart reads it.
pub const MADE_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "component-lease");

/// The annotation with the keys of labels and annotations that the resource has asked for: they go when it does not
/// any more, and what others have added stays.
pub const TEMPLATE: &str = "componentlease.io/service-template";

/// What is to be done about the Services of a resource.
pub fn change_services(o: &Observed) -> Vec<ServiceChange> {
    if o.leaving {
        return Vec::new();
    }
    let mut changes: Vec<_> = change_named(o).into_iter().collect();
    let named = o.desired.service.as_ref().filter(|service| service.managed);
    let replaced = named.is_none() || matches!(&o.service, ServiceSight::Exists(seen) if seen.ours);
    // Users of the old name are cut off, so first there must be something to go to.
    if replaced {
        let former = o.former_services.iter();
        changes.extend(former.map(|former| ServiceChange::Delete {
            name: former.name.clone(),
            uid: former.uid.clone(),
            resource_version: former.resource_version.clone(),
        }));
    }
    changes
}

fn change_named(o: &Observed) -> Option<ServiceChange> {
    let wanted = o.desired.service.as_ref()?;
    let seen = match &o.service {
        ServiceSight::Missing if wanted.managed => {
            return Some(ServiceChange::Create(write(o, wanted, &SeenService::default())));
        }
        ServiceSight::Exists(seen) => seen,
        _ => return None,
    };
    if !wanted.managed {
        return seen.ours.then(|| release(wanted, seen));
    }
    if !seen.ours && !seen.abandoned {
        return None;
    }
    // An address is given once.
    if seen.headless != wanted.headless && (wanted.headless || !seen.external_name) {
        return Some(ServiceChange::Delete {
            name: wanted.name.clone(),
            uid: seen.uid.clone(),
            resource_version: seen.resource_version.clone(),
        });
    }
    let write = write(o, wanted, seen);
    let differs = seen.abandoned
        || seen.outward
        || seen.selector != write.selector
        || seen.ports != wanted.ports
        || seen.labels != write.labels
        || seen.annotations != write.annotations;
    differs.then_some(ServiceChange::Update(write))
}

/// What a managed Service is to be, with what others have added to the one that is seen.
fn write(o: &Observed, wanted: &DesiredService, seen: &SeenService) -> ServiceWrite {
    let before = Template::read(seen.annotations.get(TEMPLATE));
    let asked = Template { labels: keys(&wanted.labels), annotations: keys(&wanted.annotations) };
    let mut labels = merge(&seen.labels, &before.labels, &wanted.labels);
    labels.insert(MADE_BY.0.to_owned(), MADE_BY.1.to_owned());
    let mut annotations = merge(&seen.annotations, &before.annotations, &wanted.annotations);
    annotations.remove(TEMPLATE);
    annotations.extend(asked.written().map(|keys| (TEMPLATE.to_owned(), keys)));
    ServiceWrite {
        wanted: wanted.clone(),
        selector: managed_selector(&o.desired),
        labels,
        annotations,
        resource_version: seen.resource_version.clone(),
    }
}

/// It stays as it is, without what says that it is ours.
fn release(wanted: &DesiredService, seen: &SeenService) -> ServiceChange {
    let mut labels = seen.labels.clone();
    if labels.get(MADE_BY.0).map(String::as_str) == Some(MADE_BY.1) {
        labels.remove(MADE_BY.0);
    }
    let mut annotations = seen.annotations.clone();
    annotations.remove(TEMPLATE);
    ServiceChange::Release {
        name: wanted.name.clone(),
        labels,
        annotations,
        resource_version: seen.resource_version.clone(),
    }
}

/// The keys that a resource has asked for.
#[derive(Default)]
struct Template {
    labels: Vec<String>,
    annotations: Vec<String>,
}

impl Template {
    /// No key has a comma or a space.
    fn read(written: Option<&String>) -> Self {
        let mut template = Self::default();
        for part in written.into_iter().flat_map(|written| written.split(',')) {
            match part.split_once(' ') {
                Some(("label", key)) => template.labels.push(key.to_owned()),
                Some(("annotation", key)) => template.annotations.push(key.to_owned()),
                _ => {}
            }
        }
        template
    }

    fn written(&self) -> Option<String> {
        let labels = self.labels.iter().map(|key| format!("label {key}"));
        let all: Vec<_> =
            labels.chain(self.annotations.iter().map(|key| format!("annotation {key}"))).collect();
        (!all.is_empty()).then(|| all.join(","))
    }
}

fn keys(texts: &Texts) -> Vec<String> {
    texts.keys().cloned().collect()
}

/// What is there, without what was asked for before, with what is asked for now.
fn merge(seen: &Texts, before: &[String], wanted: &Texts) -> Texts {
    let others = seen.iter().filter(|(key, _)| !before.contains(key));
    others.chain(wanted).map(|(key, value)| (key.clone(), value.clone())).collect()
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
