//! Where the API server is and who we are to it: from the service account of the pod, or from a
//! kubeconfig as kubectl has it.
//!
//! Everything that only the operator can mend is found out here, before anything else begins. Tokens
//! and certificates of a service account are read anew while the connection is in use.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::FutureExt as _;
use http::HeaderValue;
use http::header::USER_AGENT;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::ConfigExt as _;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tokio::sync::watch;
use tower::{BoxError, ServiceBuilder};

use super::ApiOptions;
use super::delays::Delays;
use super::patience::{Patience, Taken};
use crate::metrics::Received;

/// How long a connection attempt may take.
const CONNECT: Duration = Duration::from_secs(5);
/// When a connection on which nothing happens is probed, how often, and how many times: a dead one
/// is found out by the kernel in half a minute.
const PROBES: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(5), 3);

/// Why there is no way to the API server. All of these are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing says where it is.
    #[error(
        "no API server is known: this is not a pod of a cluster (KUBERNETES_SERVICE_HOST is not set); \
         give a kubeconfig, or a directory of manifests as the source"
    )]
    Nowhere,
    /// A context without a file that could have it.
    #[error("the context `{0}` needs a kubeconfig: give one")]
    ContextOfNothing(String),
    /// The service account of this pod.
    #[error(
        "cannot use this pod's service account: {0}; give the pod a service account whose token is mounted"
    )]
    ServiceAccount(InClusterError),
    /// The file.
    #[error("cannot use the kubeconfig {}: {wrong}", path.display())]
    Kubeconfig {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        wrong: String,
    },
    /// A proxy is asked for.
    #[error(
        "the kubeconfig {} asks for a proxy, which policyd does not use: remove `proxy-url`",
        .0.display()
    )]
    Proxy(PathBuf),
    /// The token, the client certificate, the program that gives one, or the certificate authority.
    #[error("cannot use the credentials for the API server: {0}")]
    Credentials(Box<kube::Error>),
}

/// A way to the API server.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    config: Config,
}

impl Connection {
    pub(super) fn configure(options: &ApiOptions) -> Result<Self, ApiError> {
        let mut config = match (&options.kubeconfig, &options.context) {
            (Some(path), context) => from_file(path.clone(), context.clone())?,
            (None, Some(context)) => return Err(ApiError::ContextOfNothing(context.clone())),
            (None, None) if env::var_os("KUBERNETES_SERVICE_HOST").is_none() => {
                return Err(ApiError::Nowhere);
            }
            (None, None) => Config::incluster().map_err(ApiError::ServiceAccount)?,
        };
        let agent = concat!("policyd/", env!("CARGO_PKG_VERSION"));
        config.headers.push((USER_AGENT, HeaderValue::from_static(agent)));
        let connection = Self { config };
        connection.check()?;
        Ok(connection)
    }

    /// Where the server is.
    pub(super) fn server(&self) -> String {
        self.config.cluster_url.to_string().trim_end_matches('/').to_owned()
    }

    /// Whether anybody could pretend to be it.
    pub(super) fn is_unverified(&self) -> bool {
        self.config.accept_invalid_certs
    }

    /// Finds out what is wrong with the credentials, without a connection.
    fn check(&self) -> Result<(), ApiError> {
        let credentials = |error| ApiError::Credentials(Box::new(error));
        self.config.auth_layer().map_err(credentials)?;
        self.config.extra_headers_layer().map_err(credentials)?;
        self.config.rustls_https_connector().map_err(credentials)?;
        Ok(())
    }

    /// A client within this runtime, that tells of its watches and counts what comes. The client of the library would
    /// probe no connection, and log each failure as its own.
    pub(super) fn client(
        &self,
        taken: watch::Sender<Taken>,
        received: Received,
    ) -> Result<Client, ApiError> {
        let credentials = |error| ApiError::Credentials(Box::new(error));
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_keepalive(Some(PROBES.0));
        tcp.set_keepalive_interval(Some(PROBES.1));
        tcp.set_keepalive_retries(Some(PROBES.2));
        let tls = self.config.rustls_https_connector_with_connector(tcp).map_err(credentials)?;
        let service = ServiceBuilder::new()
            .layer(Patience { taken, delays: Delays::default(), received })
            .layer(self.config.base_uri_layer())
            .option_layer(self.config.auth_layer().map_err(credentials)?)
            .layer(self.config.extra_headers_layer().map_err(credentials)?)
            .map_err(BoxError::from)
            .service(legacy::Client::builder(TokioExecutor::new()).build(tls));
        Ok(Client::new(service, self.config.default_namespace.clone()))
    }
}

fn from_file(path: PathBuf, context: Option<String>) -> Result<Config, ApiError> {
    let unusable = |path: &PathBuf, error| ApiError::Kubeconfig {
        path: path.clone(),
        wrong: in_words(&error),
    };
    let file = Kubeconfig::read_from(&path).map_err(|error| unusable(&path, error))?;
    let proxied = wants_proxy(&file, context.as_deref());
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    // It waits for nothing.
    let config = Config::from_custom_kubeconfig(file, &options).now_or_never();
    let config = config.unwrap_or(Err(KubeconfigError::FindPath));
    let mut config = config.map_err(|error| unusable(&path, error))?;
    if proxied {
        return Err(ApiError::Proxy(path));
    }
    // The library also takes it from the environment, where it is meant for other programs.
    config.proxy_url = None;
    Ok(config)
}

/// What is wrong with a kubeconfig, in one line.
fn in_words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        KubeconfigError::CurrentContextNotSet => {
            "it has no current context: say which one to use".to_owned()
        }
        KubeconfigError::LoadContext(name) => format!("it has no context `{name}`"),
        KubeconfigError::LoadClusterOfContext(name) => format!("it has no cluster `{name}`"),
        // What cannot be parsed is shown with the lines around it.
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

/// Whether the cluster of the context is behind a proxy.
fn wants_proxy(file: &Kubeconfig, context: Option<&str>) -> bool {
    let wanted = context.or(file.current_context.as_deref());
    let context = file.contexts.iter().find(|named| Some(named.name.as_str()) == wanted);
    let cluster = context.and_then(|named| named.context.as_ref()).map(|context| &context.cluster);
    let cluster = file.clusters.iter().find(|named| Some(&named.name) == cluster);
    let cluster = cluster.and_then(|named| named.cluster.as_ref());
    cluster.and_then(|cluster| cluster.proxy_url.as_deref()).is_some_and(|url| !url.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A kubeconfig of one cluster, with these lines for it and for the user.
    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             contexts: [{{name: here, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:6443', {cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn configured(text: &str, context: Option<&str>) -> Result<Connection, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, text).unwrap();
        let options = ApiOptions {
            kubeconfig: Some(path.clone()),
            context: context.map(str::to_owned),
            ..ApiOptions::default()
        };
        Connection::configure(&options)
            .map_err(|error| error.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn a_kubeconfig_says_where_the_server_is_and_we_say_who_we_are() {
        let connection = configured(&kubeconfig("", "token: t"), None).unwrap();
        assert_eq!(connection.server(), "https://127.0.0.1:6443");
        let agent = format!("policyd/{}", env!("CARGO_PKG_VERSION"));
        let expected = (USER_AGENT, HeaderValue::from_str(&agent).unwrap());
        assert_eq!(connection.config.headers, [expected]);
        assert!(!connection.is_unverified());
        let careless = configured(&kubeconfig("insecure-skip-tls-verify: true", ""), None).unwrap();
        assert!(careless.is_unverified());
    }

    #[test]
    fn what_is_wrong_with_a_kubeconfig_is_said_in_one_line() {
        let sound = kubeconfig("", "token: t");
        for (text, context, expected) in [
            (
                sound.as_str(),
                Some("there"),
                "cannot use the kubeconfig FILE: it has no context `there`",
            ),
            (
                &sound.replace("cluster: c,", "cluster: d,"),
                None,
                "cannot use the kubeconfig FILE: it has no cluster `d`",
            ),
            (
                &sound.replace("current-context: here\n", ""),
                None,
                "cannot use the kubeconfig FILE: it has no current context: say which one to use",
            ),
            (
                &kubeconfig("proxy-url: 'http://127.0.0.1:1'", ""),
                None,
                "the kubeconfig FILE asks for a proxy, which policyd does not use: remove `proxy-url`",
            ),
        ] {
            assert_eq!(configured(text, context).unwrap_err(), expected);
        }
        for (text, words) in [
            ("{{{", "failed to parse kubeconfig YAML"),
            (&kubeconfig("certificate-authority: nowhere.crt", ""), "nowhere.crt"),
            (
                &kubeconfig("", "tokenFile: nowhere"),
                "cannot use the credentials for the API server",
            ),
            (&kubeconfig("", "client-certificate-data: '!'"), "failed to load client certificate"),
        ] {
            let message = configured(text, None).unwrap_err();
            assert!(message.contains(words) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_and_a_context_of_no_file_are_said_so() {
        let mut options = ApiOptions {
            kubeconfig: Some(PathBuf::from("/nowhere/config")),
            ..ApiOptions::default()
        };
        let message =
            |options: &ApiOptions| Connection::configure(options).unwrap_err().to_string();
        let expected =
            "cannot use the kubeconfig /nowhere/config: No such file or directory (os error 2)";
        assert_eq!(message(&options), expected);
        options = ApiOptions { kubeconfig: None, context: Some("here".into()), ..options };
        assert_eq!(message(&options), "the context `here` needs a kubeconfig: give one");
    }
}
