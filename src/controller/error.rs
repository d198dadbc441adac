//! Errors in one line. The chain of causes is joined once, at the edge.

/// An error and its causes in one line, each said once.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = said(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = said(error);
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// One error without its causes.
fn said(error: &(dyn std::error::Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(refused @ kube::Error::Api(_)) => text(refused),
        _ => error.to_string(),
    }
}

/// What the API server said, for people.
pub(super) fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "forbidden: {} (see the chart's templates/rbac.yaml and admission-policy.yaml)",
                status.message
            )
        }
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => chain(other),
    }
    .replace('\n', " ")
}
