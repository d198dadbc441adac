//! To which namespace a component belongs: its key is `<namespace>/<name>`, unless somebody says otherwise.
//! Participants and the controller follow the same rule, so that the same manifests in two namespaces
//! name two rows.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::name::{ComponentName, NameError};

/// Between the namespace and the name. No namespace has one.
const SEPARATOR: char = '/';
/// Characters of a namespace at most, as Kubernetes has it.
const NAMESPACE_MAX: usize = 63;

/// What to add to a pod whose namespace is not known.
pub const POD_NAMESPACE_HINT: &str =
    "{name: POD_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}";

/// Where a process runs, as far as the key of its component depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `POD_NAMESPACE`.
    pub namespace: Option<String>,
    /// Whether it runs in a pod.
    pub in_cluster: bool,
}

/// Why a participant has no key to compete for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The name, or the key made of it, is no component name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// In a cluster, and nobody says in which namespace.
    #[error(
        "this process runs in a cluster, but POD_NAMESPACE is not set, so the key of component {name:?} is not known: add {POD_NAMESPACE_HINT} to env of the container. To use a key as it stands, say --component-key (COMPONENT_LEASE_COMPONENT_KEY)"
    )]
    NoNamespace {
        /// The component's name.
        name: String,
    },
    /// What `POD_NAMESPACE` says is no name of a namespace.
    #[error(
        "POD_NAMESPACE is {namespace:?}, which is not the name of a namespace: add {POD_NAMESPACE_HINT} to env of the container"
    )]
    NoNamespaceName {
        /// What it says.
        namespace: String,
    },
    /// The name begins with another namespace.
    #[error(
        "component {name:?} has a slash, but does not begin with this pod's namespace, \"{namespace}/\": write the name without a namespace. To use this key as it stands, say --component-key (COMPONENT_LEASE_COMPONENT_KEY)"
    )]
    OtherNamespace {
        /// The component's name.
        name: String,
        /// This pod's namespace.
        namespace: String,
    },
}

/// The key of a component of a namespace.
///
/// # Errors
/// [`NameError`] when the name is empty, or the key is longer than 253 characters or not printable.
pub fn key_in(namespace: &str, name: &str) -> Result<ComponentName, NameError> {
    ComponentName::new(name)?;
    ComponentName::new(format!("{namespace}{SEPARATOR}{name}"))
}

/// The key for which a participant competes that was told this name: `<namespace>/<name>` in a pod, and
/// the bare name outside of a cluster.
///
/// # Errors
/// [`KeyError`] in a cluster without a namespace, and for a name that is another namespace's.
pub fn key_of(name: &str, at: &Surroundings) -> Result<ComponentName, KeyError> {
    let Some(namespace) = at.namespace.as_deref().filter(|namespace| !namespace.is_empty()) else {
        if at.in_cluster {
            return Err(KeyError::NoNamespace { name: name.to_owned() });
        }
        return Ok(ComponentName::new(name)?);
    };
    if !is_namespace(namespace) {
        return Err(KeyError::NoNamespaceName { namespace: namespace.to_owned() });
    }
    if belongs_to(namespace, name) {
        return Ok(ComponentName::new(name)?);
    }
    if name.contains(SEPARATOR) {
        return Err(KeyError::OtherNamespace { name: name.to_owned(), namespace: namespace.to_owned() });
    }
    Ok(key_in(namespace, name)?)
}

/// Whether this key is one of the namespace's own.
#[must_use]
pub fn belongs_to(namespace: &str, key: &str) -> bool {
    let rest = key.strip_prefix(namespace).and_then(|rest| rest.strip_prefix(SEPARATOR));
    !namespace.is_empty() && rest.is_some_and(|rest| !rest.is_empty())
}

/// A DNS label.
fn is_namespace(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= NAMESPACE_MAX
        && bytes.iter().all(|&c| plain(c) || c == b'-')
        && bytes.first().is_some_and(|&c| plain(c))
        && bytes.last().is_some_and(|&c| plain(c))
}

/// The installer's word: resources of this namespace may claim this key, which is not their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Whose resources may.
    pub namespace: String,
    /// The key.
    pub component: ComponentName,
}

/// Why a text is no [`Grant`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The part before `=` is missing or no namespace.
    #[error(
        "the allowed component {0:?} does not say whose it is; write NAMESPACE=COMPONENT, for example shop=payments"
    )]
    NoNamespace(String),
    /// The part after `=` is no component name.
    #[error("the allowed component {text:?} cannot be used")]
    Component {
        /// What was written.
        text: String,
        /// Why.
        source: NameError,
    },
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, component) = text
            .split_once('=')
            .filter(|(namespace, _)| is_namespace(namespace))
            .ok_or_else(|| GrantError::NoNamespace(text.to_owned()))?;
        let component = ComponentName::new(component)
            .map_err(|source| GrantError::Component { text: text.to_owned(), source })?;
        Ok(Self { namespace: namespace.to_owned(), component })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.namespace, self.component)
    }
}

/// Which keys resources may claim beside those of their own namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The one namespace that is watched, where it is only one: bare names are its own.
    only: Option<String>,
    listed: BTreeSet<(String, String)>,
}

/// A key that this resource may not claim.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "spec.componentName {component:?} is not a component of namespace {namespace}: make the resource again without spec.componentName, or with one that begins with \"{namespace}/\", or have this one allowed when the controller is installed (allowedComponents: [{{namespace: {namespace}, component: {component}}}])"
)]
#[non_exhaustive]
pub struct NotAllowed {
    /// The resource's namespace.
    pub namespace: String,
    /// The key.
    pub component: String,
}

impl Grants {
    /// For a controller that watches these namespaces; none given is all.
    pub fn new<'w>(
        watched: impl IntoIterator<Item = &'w str>,
        listed: impl IntoIterator<Item = Grant>,
    ) -> Self {
        let watched: BTreeSet<&str> = watched.into_iter().collect();
        let only = watched.first().filter(|_| watched.len() == 1).map(|&namespace| namespace.to_owned());
        let listed =
            listed.into_iter().map(|Grant { namespace, component }| (namespace, component.to_string()));
        Self { only, listed: listed.collect() }
    }

    /// Whether a resource of this namespace may claim this key.
    ///
    /// # Errors
    /// [`NotAllowed`], which says what to do.
    pub fn allow(&self, namespace: &str, component: &ComponentName) -> Result<(), NotAllowed> {
        let key = component.as_str();
        let bare = !key.contains(SEPARATOR) && self.only.as_deref() == Some(namespace);
        if belongs_to(namespace, key) || bare || self.listed.contains(&(namespace.to_owned(), key.to_owned()))
        {
            return Ok(());
        }
        Err(NotAllowed { namespace: namespace.to_owned(), component: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(namespace: Option<&str>, in_cluster: bool) -> Surroundings {
        Surroundings { namespace: namespace.map(ToOwned::to_owned), in_cluster }
    }

    fn name(text: &str) -> ComponentName {
        ComponentName::new(text).unwrap()
    }

    fn grants(watched: &[&str], listed: &[&str]) -> Grants {
        Grants::new(watched.iter().copied(), listed.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn a_participant_in_a_namespace_competes_for_the_key_of_that_namespace() {
        for in_cluster in [true, false] {
            let key = key_of("payments", &at(Some("shop"), in_cluster)).unwrap();
            assert_eq!(key.as_str(), "shop/payments");
        }
        // What `run` tells its child, and a child that is a participant reads again.
        assert_eq!(key_of("shop/payments", &at(Some("shop"), true)).unwrap().as_str(), "shop/payments");
    }

    #[test]
    fn outside_of_a_cluster_the_key_is_the_bare_name() {
        for namespace in [None, Some("")] {
            assert_eq!(key_of("payments", &at(namespace, false)).unwrap().as_str(), "payments");
        }
        assert_eq!(key_of("shop/payments", &at(None, false)).unwrap().as_str(), "shop/payments");
    }

    #[test]
    fn in_a_cluster_a_participant_without_a_namespace_is_told_what_to_add_to_the_pod() {
        for namespace in [None, Some("")] {
            let error = key_of("payments", &at(namespace, true)).unwrap_err();
            assert!(matches!(error, KeyError::NoNamespace { .. }));
            let text = error.to_string();
            assert!(text.contains(POD_NAMESPACE_HINT) && text.contains("--component-key"), "{text}");
        }
    }

    #[test]
    fn a_name_of_another_namespace_and_a_namespace_that_is_none_are_refused() {
        for foreign in ["a/payments", "shop/", "/payments", "shopping/payments", "a/b/c"] {
            let error = key_of(foreign, &at(Some("shop"), true)).unwrap_err();
            assert!(matches!(error, KeyError::OtherNamespace { .. }), "{foreign}: {error}");
        }
        for namespace in ["$(POD_NAMESPACE)", "a/b", "A", "-a", "a-", "a.b", &"n".repeat(64)] {
            let error = key_of("payments", &at(Some(namespace), true)).unwrap_err();
            assert!(matches!(error, KeyError::NoNamespaceName { .. }), "{namespace}: {error}");
        }
        let long = "x".repeat(253);
        let error = key_of(&long, &at(Some("shop"), true)).unwrap_err();
        assert!(matches!(error, KeyError::Name(NameError::TooLong { length: 258, .. })), "{error}");
        assert!(matches!(key_of("", &at(Some("shop"), true)), Err(KeyError::Name(NameError::Empty { .. }))));
    }

    #[test]
    fn a_resource_may_claim_what_begins_with_its_own_namespace() {
        let grants = grants(&[], &[]);
        for own in ["shop/payments", "shop/a/b"] {
            assert_eq!(grants.allow("shop", &name(own)), Ok(()), "{own}");
        }
        for foreign in ["payments", "a/payments", "shop", "shop/", "shopping/payments", "Shop/payments"] {
            let refused = grants.allow("shop", &name(foreign)).unwrap_err().to_string();
            assert!(refused.contains("\"shop/\"") && refused.contains("allowedComponents"), "{refused}");
        }
    }

    #[test]
    fn the_installer_grants_a_key_to_one_namespace_and_not_to_others() {
        let grants = grants(&[], &["shop=payments", "shop=legacy/x=y"]);
        assert_eq!(grants.allow("shop", &name("payments")), Ok(()));
        assert_eq!(grants.allow("shop", &name("legacy/x=y")), Ok(()));
        assert!(grants.allow("b", &name("payments")).is_err());
        assert!(grants.allow("shop", &name("legacy/x")).is_err());
    }

    #[test]
    fn bare_names_belong_to_the_only_namespace_that_is_watched() {
        for watched in [&["shop"][..], &["shop", "shop"]] {
            let grants = grants(watched, &[]);
            assert_eq!(grants.allow("shop", &name("payments")), Ok(()));
            assert!(grants.allow("shop", &name("a/payments")).is_err());
        }
        for several in [&[][..], &["shop", "b"]] {
            assert!(grants(several, &[]).allow("shop", &name("payments")).is_err());
        }
    }

    #[test]
    fn a_grant_that_does_not_say_whose_it_is_is_refused_with_how_to_write_it() {
        for bad in ["payments", "=payments", "*=payments", "a,b=payments", ""] {
            let error = bad.parse::<Grant>().unwrap_err();
            assert!(error.to_string().contains("NAMESPACE=COMPONENT"), "{bad}: {error}");
        }
        assert!(matches!("shop=".parse::<Grant>(), Err(GrantError::Component { .. })));
        let grant: Grant = "shop=a=b".parse().unwrap();
        assert_eq!((grant.component.as_str(), grant.to_string().as_str()), ("a=b", "shop=a=b"));
    }
}
