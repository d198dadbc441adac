//! What becomes of a managed Service: it is made and corrected, never adopted.

use super::super::observed::{Observed, ServiceSight};
use super::super::reach::managed_selector;
use super::plan::ServiceChange;

pub(super) fn change_service(o: &Observed) -> Option<ServiceChange> {
    let service = o.desired.service.as_ref().filter(|service| service.managed)?;
    let wanted = managed_selector(&o.desired);
    match &o.service {
        ServiceSight::Missing => Some(ServiceChange::Create(service.clone(), wanted)),
        ServiceSight::Exists(seen)
            if seen.ours && (seen.selector != wanted || seen.ports != service.ports) =>
        {
            Some(ServiceChange::Update(service.clone(), wanted, seen.resource_version.clone()))
        }
        _ => None,
    }
}
