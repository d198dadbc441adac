//! The Service by which users reach the leader.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::schema;

/// A Service in the namespace of the resource.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.policy != 'Manage' || self.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("the name of a Service that is managed begins with a letter"))]
#[x_kube(validation = Rule::new("self.policy != 'Manage' || self.headless || (has(self.ports) && size(self.ports) > 0)").message("a managed Service needs ports, unless it is headless"))]
pub struct RoutedService {
    /// The Service's name.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub name: String,

    /// Manage: the controller makes the Service as described below and keeps it so; it goes when this
    /// resource goes, or names another one. A Service of somebody else is never adopted. Check: the
    /// controller only checks that the Service reaches the leader and nobody else, and says so in the
    /// condition Routed. Changed from Manage to Check, the Service stays, and is no longer the controller's.
    #[serde(default)]
    pub policy: ServicePolicy,

    /// The type of a managed Service. What leads into the cluster from outside has to be made by
    /// somebody who may do that; select the leader label and use Check.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,

    /// A managed Service without an address of its own: its name resolves to the leader's pod.
    /// To change this, the controller deletes the Service and makes it again.
    #[serde(default)]
    pub headless: bool,

    /// Labels of a managed Service. Labels that others add to it stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of a managed Service. Annotations that others add to it stay.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_annotations")]
    pub annotations: BTreeMap<String, String>,

    /// The ports of a managed Service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["port", "protocol"],
        "x-kubernetes-validations" = [
            { "rule": "size(self) <= 1 || self.all(p, has(p.name))", "message": "of several ports each needs a name" },
            { "rule": "self.all(p, !has(p.name) || self.exists_one(q, has(q.name) && q.name == p.name))", "message": "two ports have the same name" },
        ],
    ))]
    pub ports: Vec<RoutedPort>,
}

/// Who looks after a Service.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ServicePolicy {
    #[default]
    Check,
    Manage,
}

/// The type of a Service that the controller makes.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum ServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

/// A port of a managed Service.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutedPort {
    /// Needed when there are several ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::DNS_LABEL))]
    pub name: Option<String>,
    /// The port of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The pods' port, by number or by name. Defaults to port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::target_port")]
    pub target_port: Option<TargetPort>,
    /// TCP, UDP or SCTP.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// What is spoken on this port, as in other Services: http, https, kubernetes.io/h2c, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_key")]
    pub app_protocol: Option<String>,
}

/// A port of a pod: 8080, or the name of a container's port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum TargetPort {
    Number(i32),
    Name(String),
}

/// A transport protocol.
#[derive(JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum PortProtocol {
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}
