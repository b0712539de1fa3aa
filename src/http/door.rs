//! What stands between the socket and the server's parts, and answers even while those are not there yet.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

use super::auth::{Access, Guard};
use super::body::UnderWay;
use super::lanes::Lanes;
use super::{App, DashboardFolder, Limits};
use crate::io::{BoxFuture, Clock, Random};
use crate::ui::{Assets, Dashboards};

/// Reads the configuration again. `server` implements it.
pub trait Reload: Send + Sync {
    /// Puts the new configuration into force, or leaves the old one whole.
    ///
    /// # Errors
    /// What is wrong with the new one, with file and line.
    fn reload(&self) -> BoxFuture<'_, Result<(), String>>;
}

/// Writes all metrics of the process in Prometheus's text format.
pub type Exposition = Arc<dyn Fn() -> String + Send + Sync>;

/// What a door is made of.
pub struct DoorConfig {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for request ids.
    pub random: Arc<dyn Random>,
    /// Limits.
    pub limits: Limits,
    /// Who may do what; a reload swaps it.
    pub access: Access,
    /// Whether people reach the server by https, be it through a proxy.
    pub is_https: bool,
    /// Host names, beside `localhost` and addresses, under which people may reach the server.
    pub hosts: Vec<String>,
    /// The path of the external URL (`/campanile`), empty at the root. Requests may come with it or without.
    pub prefix: String,
    /// What `POST /-/reload` does.
    pub reload: Arc<dyn Reload>,
    /// What `GET /metrics` answers.
    pub exposition: Exposition,
    /// The UI's files.
    pub assets: Assets,
    /// The dashboards; a reload swaps them.
    pub dashboards: Arc<ArcSwap<Dashboards>>,
    /// Where dashboards that were written in the browser go.
    pub dashboard_folder: Arc<dyn DashboardFolder>,
}

/// The door: everything that a request meets before a handler.
pub struct Door {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) limits: Limits,
    pub(super) hosts: BTreeSet<String>,
    pub(super) prefix: String,
    pub(super) guard: Guard,
    pub(super) is_https: bool,
    pub(super) reload: Arc<dyn Reload>,
    pub(super) exposition: Exposition,
    pub(super) assets: Assets,
    pub(super) dashboards: Arc<ArcSwap<Dashboards>>,
    pub(super) dashboard_folder: Arc<dyn DashboardFolder>,
    pub(super) lanes: Lanes,
    pub(super) bodies: UnderWay,
    readiness: Readiness,
    app: OnceLock<Arc<App>>,
}

impl Door {
    /// Builds a door that answers "starting" until [`Door::open`].
    pub fn new(config: DoorConfig) -> Arc<Door> {
        let hosts = config.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let prefix = config.prefix.trim_end_matches('/').to_owned();
        Arc::new(Door {
            lanes: Lanes::new(&config.limits),
            bodies: UnderWay::default(),
            guard: Guard::new(config.access, Arc::clone(&config.clock), &*config.random),
            is_https: config.is_https,
            clock: config.clock,
            random: config.random,
            limits: config.limits,
            hosts,
            prefix,
            reload: config.reload,
            exposition: config.exposition,
            assets: config.assets,
            dashboards: config.dashboards,
            dashboard_folder: config.dashboard_folder,
            readiness: Readiness::starting("starting"),
            app: OnceLock::new(),
        })
    }

    /// Lets requests through to the parts, from now on, and says that the server is ready.
    ///
    /// # Panics
    /// When called twice: a server has one set of parts.
    pub fn open(&self, app: Arc<App>) {
        assert!(self.app.set(app).is_ok(), "the door was opened twice");
        self.readiness.ready();
    }

    /// Puts another word on who may do what into force, for requests and connections from now on.
    pub fn set_access(&self, access: Access) {
        self.guard.access.store(Arc::new(access));
    }

    /// Returns who may do what now.
    pub fn access(&self) -> Arc<Access> {
        self.guard.access.load_full()
    }

    /// Returns the handle that says whether the server is ready.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Returns the parts once the door is open.
    pub(super) fn app(&self) -> Option<&Arc<App>> {
        self.app.get()
    }
}

/// Whether the server can do its work, and if not, why: what `/-/ready` answers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness {
    reason: Arc<ArcSwap<Option<String>>>,
}

impl Readiness {
    fn starting(reason: &str) -> Readiness {
        Readiness {
            reason: Arc::new(ArcSwap::from_pointee(Some(reason.to_owned()))),
        }
    }

    /// The server does its work.
    pub fn ready(&self) {
        self.reason.store(Arc::new(None));
    }

    /// The server cannot do its work (yet): `reason` is for the operator, such as `replaying the log, 40 %`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.reason.store(Arc::new(Some(reason.into())));
    }

    /// Returns why the server is not ready, `None` when it is.
    pub fn reason(&self) -> Option<String> {
        self.reason.load().as_ref().clone()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::http::NotSaved;
    use crate::io::{SeededRandom, SystemClock};

    struct NothingToReload;

    impl Reload for NothingToReload {
        fn reload(&self) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(async { Err("rules.yaml:3:1: no such field".to_owned()) })
        }
    }

    impl DashboardFolder for NothingToReload {
        fn folder(&self) -> Option<String> {
            None
        }

        fn save(&self, _: String, _: String, _: Option<String>) -> BoxFuture<'_, Result<(), NotSaved>> {
            Box::pin(async { Err(NotSaved::ReadOnly) })
        }
    }

    /// A door with nothing behind it.
    pub(in crate::http) fn door(limits: Limits) -> Arc<Door> {
        Door::new(DoorConfig {
            clock: SystemClock::new(),
            random: Arc::new(SeededRandom::new(1)),
            limits,
            access: Access::default(),
            is_https: false,
            hosts: vec!["Campanile.example".to_owned()],
            prefix: "/campanile".to_owned(),
            reload: Arc::new(NothingToReload),
            exposition: Arc::new(|| "# EOF\n".to_owned()),
            assets: Assets::embedded("/campanile"),
            dashboards: Arc::new(ArcSwap::from_pointee(Dashboards::builtin())),
            dashboard_folder: Arc::new(NothingToReload),
        })
    }

    #[test]
    fn readiness_says_why_not_until_it_is() {
        let door = door(Limits::default());
        assert_eq!(door.readiness().reason().as_deref(), Some("starting"));
        door.readiness().not_ready("replaying the log, 40 %");
        assert_eq!(door.readiness().reason().as_deref(), Some("replaying the log, 40 %"));
        door.open(Arc::new(App::test()));
        assert_eq!(door.readiness().reason(), None);
    }
}
