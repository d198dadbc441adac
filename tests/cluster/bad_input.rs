//! What cannot work, beside what can: its condition says what to do, and no other resource is disturbed.
//! CONTRIBUTING.md lists all bad input and its tests.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use component_lease::api::FLOOR_ANNOTATION;
use component_lease::store::{self, Source};
use component_lease_testkit::control_plane::{ControlPlane, FakePod};
use component_lease_testkit::wait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::controller::config;
use crate::support::objects::{condition, lease, lease_with, request, term, typed};
use crate::support::{KEY, LONG, Replica, Rows, SOON, Site, install_crd, led_site};

/// The versions of the three candidates of [`led_site`] and of their resource.
async fn versions(site: &Site) -> Result<Vec<Option<String>>> {
    let mut versions = Vec::new();
    for pod in ["d-0", "d-1", "d-2"] {
        versions.push(site.pods().get(pod).await?.resource_version());
    }
    versions.push(site.leases().get("discovery").await?.resource_version());
    Ok(versions)
}

#[tokio::test(crate = "crate::harness")]
async fn resources_that_cannot_work_are_told_what_to_do_and_a_neighbour_is_not_touched() -> Result<()> {
    let (site, _controller) = led_site("beside").await?;
    let copied = |lease: &component_lease::api::ComponentLease| {
        lease.annotations().contains_key(FLOOR_ANNOTATION) && condition(lease, "Ready").is_some()
    };
    site.wait_for_lease("discovery", "all is written", copied).await?;
    site.let_a_second_pass("discovery").await?;
    site.make_pods("other", &["o-0"]).await?;
    let before = versions(&site).await?;

    site.rows.take("laptop", "laptop_4711_1f0c9a3d", LONG).await?;
    site.rows.take("served", &site.holder("o-0").await?, LONG).await?;
    for (name, app, more, kind, reason, says) in [
        ("nobody", "nobody", json!({}), "Routed", "NoCandidates", "spec.selector matches no running pod"),
        ("laptop", "other", json!({}), "HolderAccepted", "HolderRejected", "names no pod of this namespace"),
        (
            "served",
            "other",
            json!({"routing": {"service": {"name": "nowhere"}}}),
            "Routed",
            "ServiceMissing",
            "create it, or set spec.routing.service.policy: Manage",
        ),
        (
            "prefix",
            "discovery",
            json!({"routing": {"labelKey": "tier"}}),
            "Ready",
            "InvalidSpec",
            "allowedLabelPrefixes",
        ),
        (
            "second",
            "discovery",
            json!({"componentName": format!("{}/discovery", site.name())}),
            "Ready",
            "Conflict",
            "delete one of the two, or give them different components",
        ),
        (
            "samekey",
            "discovery",
            json!({"routing": {"labelKey": KEY}}),
            "Ready",
            "Conflict",
            "choose another spec.routing.labelKey",
        ),
    ] {
        site.make_lease(&lease_with(name, app, &more)).await?;
        let message = site.wait_for_condition(name, kind, "False", reason).await?;
        ensure!(message.contains(says), "{name}: {message}");
    }
    assert_eq!(versions(&site).await?, before, "pods and resource of the one that works");
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn a_holder_whose_pod_is_in_another_watched_namespace_is_rejected_and_that_pod_stays_its_own()
-> Result<()> {
    let site = Site::new("here").await?;
    let there = site.plane.namespace("there").await?;
    let site = site.also_watch(&[there.name()]).await?;
    site.make_pods("discovery", &["d-0"]).await?;
    site.plane.fake_pods(there.name(), &[FakePod::new("far-0", "discovery")]).await?;
    let pods: Api<Pod> = Api::namespaced(site.admin.clone(), there.name());
    let uid = pods.get("far-0").await?.uid().context("a pod without UID")?;
    let far = format!("far-0_{}_0badcafe", &uid[..8]);
    let mut config = config(&site, "only");
    config.namespaces = vec![site.name().to_owned(), there.name().to_owned()];
    let _controller = Replica::start_with(&site, config).await?;
    // Over there it leads something of its own.
    let leases: Api<component_lease::api::ComponentLease> = Api::namespaced(site.admin.clone(), there.name());
    leases.create(&PostParams::default(), &typed(&lease("theirs", "discovery"))).await?;
    site.rows.take(&format!("{}/theirs", there.name()), &far, LONG).await?;
    let marks = async || -> Result<Vec<String>> {
        let pod = pods.get("far-0").await?;
        let ours = pod.labels().iter().filter(|(key, _)| key.starts_with("componentlease.io/"));
        Ok(ours.map(|(key, value)| format!("{key}={value}")).collect())
    };
    wait::until(SOON, "its own label", async || {
        Ok((marks().await? == ["componentlease.io/theirs=leader"]).then_some(()))
    })
    .await?;

    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &far, LONG).await?;
    let message = site.wait_for_condition("discovery", "HolderAccepted", "False", "HolderRejected").await?;
    ensure!(message.contains(&far) && message.contains("names no pod of this namespace"), "{message}");
    assert_eq!(site.labelled(KEY, "leader").await?, Vec::<String>::new());
    assert_eq!(marks().await?, ["componentlease.io/theirs=leader"]);
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    assert_eq!(marks().await?, ["componentlease.io/theirs=leader"]);
    Ok(())
}

/// The role that the chart gives its account in the site's namespace.
struct Rights<'s> {
    site: &'s Site,
    whole: Value,
}

impl<'s> Rights<'s> {
    async fn of(site: &'s Site) -> Result<Self> {
        let roles = site.plane.get(&["-n", site.name(), "roles"]).await?;
        let roles = roles["items"].as_array().context("no roles")?;
        let role = roles.iter().find(|role| role["rules"].to_string().contains("\"pods\""));
        let mut whole = role.context("no rule on pods")?.clone();
        whole["metadata"] = json!({"name": whole["metadata"]["name"], "namespace": site.name()});
        Ok(Self { site, whole })
    }

    /// Takes a verb on a resource away, and waits until the API server refuses it.
    async fn take_away(&self, verb: &str, resource: &str) -> Result<()> {
        let mut less = self.whole.clone();
        let mut taken = 0;
        for rule in less["rules"].as_array_mut().context("rules")? {
            if rule["resources"].as_array().is_some_and(|all| all.contains(&json!(resource))) {
                let verbs = rule["verbs"].as_array_mut().context("verbs")?;
                verbs.retain(|found| {
                    found != verb || {
                        taken += 1;
                        false
                    }
                });
            }
        }
        less["rules"].as_array_mut().context("rules")?.retain(|rule| rule["verbs"] != json!([]));
        ensure!(taken == 1, "{verb} on {resource} was granted {taken} times");
        let (kind, part) = resource.split_once('/').unwrap_or((resource, ""));
        let kind = if kind == "events" { "events.events.k8s.io" } else { kind };
        let (account, part) = (self.site.account.to_string_lossy(), format!("--subresource={part}"));
        // It says no by its exit code.
        let asked = ["--kubeconfig", &account, "-n", self.site.name(), "auth", "can-i", verb, kind, &part];
        let may = async || self.site.plane.kubectl(&asked).await;
        may().await.context("before it is taken away")?;
        self.site.plane.apply(&less.to_string()).await?;
        wait::until_true(SOON, format!("{verb} on {resource} is refused"), async || may().await.is_err())
            .await
    }

    async fn give_back(&self) -> Result<()> {
        self.site.plane.apply(&self.whole.to_string()).await.map(drop)
    }
}

#[tokio::test(crate = "crate::harness")]
async fn without_the_right_to_change_pods_it_says_so_and_heals() -> Result<()> {
    let site = Site::new("unpatched").await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let rights = Rights::of(&site).await?;
    rights.take_away("patch", "pods").await?;
    let mut controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    let message = site.wait_for_condition("discovery", "Routed", "False", "LabelFailed").await?;
    for piece in ["pod d-0 could not be labelled: forbidden", "cannot patch resource", "rbac.yaml"] {
        ensure!(message.contains(piece), "{piece:?} is missing in: {message}");
    }
    site.wait_for_condition("discovery", "LeaderElected", "True", "Held").await?;
    site.rows.renew("discovery").await.context("the lease is not the controller's to disturb")?;
    controller.still_runs()?;
    controller.probe.live().map_err(anyhow::Error::msg)?;

    rights.give_back().await?;
    // Its back-off has grown meanwhile.
    wait::until(SOON * 2, "the label", async || {
        Ok((site.labelled(KEY, "leader").await? == ["d-0"]).then_some(()))
    })
    .await?;
    site.wait_until_ready("discovery").await.map(drop)
}

#[tokio::test(crate = "crate::harness")]
async fn without_the_right_to_write_a_status_or_an_event_the_label_follows_the_leader() -> Result<()> {
    let site = Site::new("unsaid").await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let rights = Rights::of(&site).await?;
    rights.take_away("create", "events").await?;
    let mut controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_until_ready("discovery").await?;
    assert_eq!(site.labelled(KEY, "leader").await?, ["d-0"]);
    assert_eq!(site.events("discovery").await?, Vec::<String>::new(), "none could be written");

    rights.take_away("patch", "componentleases/status").await?;
    let before = term(&site.leases().get("discovery").await?);
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    let after = term(&site.leases().get("discovery").await?);
    assert_eq!((after.version, after.holder), (before.version, before.holder), "it could not be written");
    controller.still_runs()?;
    controller.probe.live().map_err(anyhow::Error::msg)?;

    rights.give_back().await?;
    wait::until(SOON * 2, "the status", async || {
        let term = term(&site.leases().get("discovery").await?);
        Ok(term.holder.is_some_and(|holder| holder.starts_with("d-1_")).then_some(()))
    })
    .await
}

#[tokio::test(crate = "crate::harness")]
async fn without_the_right_to_read_or_answer_requests_leaders_are_labelled_and_nothing_is_asked() -> Result<()>
{
    let site = Site::new("unheard").await?;
    site.make_pods("discovery", &["d-0", "d-1"]).await?;
    let rights = Rights::of(&site).await?;
    rights.take_away("list", "leaserequests").await?;
    let mut controller = Replica::start(&site).await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    site.wait_until_ready("discovery").await?;
    controller.probe.ready().map_err(anyhow::Error::msg)?;

    rights.give_back().await?;
    rights.take_away("patch", "leaserequests/status").await?;
    let promote = json!({"verb": "Promote", "target": "d-1"});
    let made = serde_json::from_value(request("quiet", &promote))?;
    site.requests().create(&PostParams::default(), &made).await?;
    site.rows.take("discovery", &site.holder("d-1").await?, LONG).await?;
    site.wait_for_labelled(KEY, "leader", &["d-1"]).await?;
    assert_eq!(
        site.rows.asked_of("discovery").await?.request,
        None,
        "it is asked once its status can be written"
    );
    controller.still_runs()?;
    rights.give_back().await?;
    wait::until(SOON * 2, "an answer", async || {
        let status = site.requests().get("quiet").await?.status.context("no status")?;
        Ok(status.state.is_final().then_some(()))
    })
    .await
}

/// The real program, with everything it can log in a file. Ended when dropped.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(site: &Site, url: &str, log: PathBuf) -> Result<Self> {
        let to = fs::File::create(&log)?;
        let child = Command::new(env!("CARGO_BIN_EXE_component-lease"))
            .args(["controller", "--leader-elect=false", "--namespaces", site.name(), "--log", "trace"])
            .args(["--listen", "127.0.0.1:0", "--database-url", url])
            .env_clear()
            .env("KUBECONFIG", &site.account)
            .stdin(Stdio::null())
            .stdout(to.try_clone()?)
            .stderr(to)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for one line with all of these pieces.
    async fn logs(&mut self, pieces: &[&str]) -> Result<()> {
        wait::until(SOON, format!("a line with {pieces:?}"), async || {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "it has ended: {ended:?}\n{}", self.log());
            let has_all = |line: &str| pieces.iter().all(|piece| line.contains(piece));
            Ok(self.log().lines().any(has_all).then_some(()))
        })
        .await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The password of the account towards the API server.
fn token(kubeconfig: &Path) -> Result<String> {
    let text = fs::read_to_string(kubeconfig)?;
    let token = text.split("token: ").nth(1).context("no token")?;
    Ok(token.chars().take_while(|c| !c.is_whitespace() && *c != '}').collect())
}

/// In a cluster without our kinds a missing kind and a missing object are the same answer to a request.
async fn operators_commands_say_that_the_definitions_are_missing(kubeconfig: &Path) -> Result<()> {
    for words in [&["get"][..], &["get", "x"], &["describe", "x"], &["step-down", "x"], &["pause", "x"]] {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_component-lease"));
        let output = command.args(words).env("KUBECONFIG", kubeconfig).output().await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        ensure!(output.status.code() == Some(78), "{words:?}: {:?} {said}", output.status.code());
        ensure!(
            said.contains("has no ComponentLeases") && said.contains("--database-url"),
            "{words:?}: {said}"
        );
    }
    Ok(())
}

#[tokio::test(crate = "crate::harness")]
async fn the_programs_log_says_what_is_missing_and_what_cannot_be_read_and_never_a_secret() -> Result<()> {
    // A definition that lets everything in is not for the other tests.
    let plane: &ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
    operators_commands_say_that_the_definitions_are_missing(plane.kubeconfig()).await?;
    install_crd(plane).await?;
    let mut site = Site::on(plane, "logged", &[]).await?;
    site.make_pods("discovery", &["d-0"]).await?;
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let loose = json!([
        {"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema", "value": anything},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
    ]);
    let crd = "crd/componentleases.componentlease.io";
    plane.kubectl(&["patch", crd, "--type=json", "-p", &loose.to_string()]).await?;
    let mut bad = lease("bad", "discovery");
    bad["spec"] = json!({"selector": "everything"});
    wait::until(SOON, "the looser definition is in force", async || {
        plane.kubectl_with_input(&["-n", site.name(), "apply", "-f", "-"], &bad.to_string()).await.map(Some)
    })
    .await?;
    site.make_lease(&lease("discovery", "discovery")).await?;
    let folder = tempfile::tempdir()?;
    let secret = token(&site.account)?;
    ensure!(secret.len() > 100, "that is no token: {} characters", secret.len());

    let away = "postgres://me:hunter2@127.0.0.1:1/db?sslmode=disable";
    let mut program = Program::start(&site, away, folder.path().join("away.log"))?;
    let message =
        site.wait_for_condition("discovery", "DatabaseReachable", "False", "DatabaseUnreachable").await?;
    ensure!(message.contains("127.0.0.1:1") && !message.contains("hunter2"), "{message}");
    program.logs(&["127.0.0.1:1", "WARN"]).await?;
    program.logs(&["bad", "is invalid; correct it (no other resource is affected)"]).await?;
    for hidden in ["hunter2", &secret] {
        ensure!(!program.log().contains(hidden), "a secret is in the log");
    }
    ensure!(program.log().contains("TRACE"), "the log does not say all it can");
    drop(program);

    let source = Source::url(format!("sqlite:{}", folder.path().join("lease.db").display()));
    store::migrate(&source).await?;
    site.rows = Arc::new(Rows::on(store::open(source.clone(), "test")?, site.name()));
    site.rows.take("discovery", &site.holder("d-0").await?, LONG).await?;
    let rights = Rights::of(&site).await?;
    rights.take_away("list", "pods").await?;
    let url = format!("sqlite:{}", folder.path().join("lease.db").display());
    let mut program = Program::start(&site, &url, folder.path().join("rights.log"))?;
    program.logs(&["may not list and watch pods", "rbac.yaml", "waiting for it"]).await?;
    site.wait_for_condition("discovery", "Routed", "Unknown", "Forbidden").await?;
    rights.give_back().await?;
    site.wait_for_labelled(KEY, "leader", &["d-0"]).await?;
    ensure!(!program.log().contains(&secret), "a secret is in the log");
    ensure!(program.child.try_wait()?.is_none(), "it has ended by itself");
    Ok(())
}
