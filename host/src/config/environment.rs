//! The environment: which variable sets what, and which are refused.

use super::Problem;
use super::tree::{Node, Origin, Text, Value};

/// Every variable that sets something: its name, and the setting it overrides.
///
/// None is named `TIDEGATE_PORT`, `TIDEGATE_REDIS_PORT` or the like: Kubernetes itself sets
/// such names in every pod that has a service called `tidegate` or `tidegate-redis` near it.
pub const VARIABLES: &[(&str, &str)] = &[
    ("TIDEGATE_LISTEN", "listen"),
    ("TIDEGATE_UNIX_SOCKET", "unix_socket"),
    ("TIDEGATE_ADMIN", "admin"),
    ("TIDEGATE_PROVIDER", "provider"),
    ("TIDEGATE_RATE_LIMIT_FAIL_OPEN", "rate_limit_fail_open"),
    ("TIDEGATE_DRAIN_TIMEOUT", "drain_timeout"),
    ("TIDEGATE_LOG_LEVEL", "log_level"),
    ("TIDEGATE_LOG_FORMAT", "log_format"),
    ("TIDEGATE_MEMORY_KEYS_MAX", "memory.keys_max"),
    ("TIDEGATE_REVOCATIONS_DATA_DIR", "revocations.data_dir"),
    ("TIDEGATE_REVOCATIONS_TOKEN_TTL_MAX", "revocations.token_ttl_max"),
    ("TIDEGATE_REVOCATIONS_SESSION_TTL_MAX", "revocations.session_ttl_max"),
    ("TIDEGATE_REVOCATIONS_RETENTION_MAX", "revocations.retention_max"),
    ("TIDEGATE_REVOCATIONS_LEEWAY", "revocations.leeway"),
    ("TIDEGATE_REVOCATIONS_ID_KEY_FILES", "revocations.id_key_files"),
    ("TIDEGATE_REVOCATIONS_API_LISTEN", "revocations.api.listen"),
    ("TIDEGATE_REVOCATIONS_API_TOKEN_FILE", "revocations.api.token_file"),
    ("TIDEGATE_REVOCATIONS_API_TLS_CERT_FILE", "revocations.api.tls.cert_file"),
    ("TIDEGATE_REVOCATIONS_API_TLS_KEY_FILE", "revocations.api.tls.key_file"),
    ("TIDEGATE_REVOCATIONS_API_TLS_CLIENT_CA_FILE", "revocations.api.tls.client_ca_file"),
    ("TIDEGATE_REVOCATIONS_API_REQUESTS_PER_SECOND", "revocations.api.requests_per_second"),
    ("TIDEGATE_REVOCATIONS_API_CONNECTIONS_MAX", "revocations.api.connections_max"),
    ("TIDEGATE_REVOCATIONS_API_IMPORTS_MAX", "revocations.api.imports_max"),
    ("TIDEGATE_HTTP_CONNECTIONS_MAX", "http.connections_max"),
    ("TIDEGATE_HTTP_IN_FLIGHT_MAX", "http.in_flight_max"),
    ("TIDEGATE_HTTP_STREAMS_MAX", "http.streams_max"),
    ("TIDEGATE_HTTP_REQUEST_TIMEOUT", "http.request_timeout"),
    ("TIDEGATE_REDIS_ADDRESSES", "redis.addresses"),
    ("TIDEGATE_REDIS_URL", "redis.url"),
    ("TIDEGATE_REDIS_USERNAME", "redis.username"),
    ("TIDEGATE_REDIS_PASSWORD", "redis.password"),
    ("TIDEGATE_REDIS_PASSWORD_FILE", "redis.password_file"),
    ("TIDEGATE_REDIS_DB", "redis.db"),
    ("TIDEGATE_REDIS_POOL_SIZE", "redis.pool_size"),
    ("TIDEGATE_REDIS_MAX_RETRIES", "redis.max_retries"),
    ("TIDEGATE_REDIS_DIAL_TIMEOUT", "redis.dial_timeout"),
    ("TIDEGATE_REDIS_READ_TIMEOUT", "redis.read_timeout"),
    ("TIDEGATE_REDIS_WRITE_TIMEOUT", "redis.write_timeout"),
    ("TIDEGATE_REDIS_POOL_TIMEOUT", "redis.pool_timeout"),
    ("TIDEGATE_REDIS_IDLE_TIMEOUT", "redis.idle_timeout"),
    ("TIDEGATE_REDIS_MAX_CONN_AGE", "redis.max_conn_age"),
    ("TIDEGATE_REDIS_TLS_ENABLED", "redis.tls.enabled"),
    ("TIDEGATE_REDIS_TLS_CA_FILE", "redis.tls.ca_file"),
    ("TIDEGATE_REDIS_TLS_CERT_FILE", "redis.tls.cert_file"),
    ("TIDEGATE_REDIS_TLS_KEY_FILE", "redis.tls.key_file"),
    ("TIDEGATE_REDIS_TLS_SERVER_NAME", "redis.tls.server_name"),
    ("TIDEGATE_REDIS_TLS_INSECURE_SKIP_VERIFY", "redis.tls.insecure_skip_verify"),
    ("TIDEGATE_REDIS_SENTINEL_MASTER", "redis.sentinel_master_name"),
    (SENTINEL_HOSTS, "redis.addresses"),
    ("TIDEGATE_REDIS_SENTINEL_USERNAME", "redis.sentinel_username"),
    ("TIDEGATE_REDIS_SENTINEL_PASSWORD", "redis.sentinel_password"),
    ("TIDEGATE_REDIS_SENTINEL_PASSWORD_FILE", "redis.sentinel_password_file"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_ENABLED", "redis.sentinel_tls.enabled"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_CA_FILE", "redis.sentinel_tls.ca_file"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_CERT_FILE", "redis.sentinel_tls.cert_file"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_KEY_FILE", "redis.sentinel_tls.key_file"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_SERVER_NAME", "redis.sentinel_tls.server_name"),
    ("TIDEGATE_REDIS_SENTINEL_TLS_INSECURE_SKIP_VERIFY", "redis.sentinel_tls.insecure_skip_verify"),
    ("TIDEGATE_REDIS_CLUSTER_MODE", "redis.cluster_mode"),
    (CLUSTER_NODES, "redis.addresses"),
];

/// Addresses that say of themselves that they are sentinels.
pub(super) const SENTINEL_HOSTS: &str = "TIDEGATE_REDIS_SENTINEL_HOSTS";

/// Addresses that say of themselves that they are nodes of a cluster.
pub(super) const CLUSTER_NODES: &str = "TIDEGATE_REDIS_CLUSTER_NODES";

/// Said in the environment, these take the place of what the file says in another way.
const INSTEAD: &[(&str, &str)] = &[
    ("redis.url", "redis.addresses"),
    ("redis.addresses", "redis.url"),
    ("redis.password", "redis.password_file"),
    ("redis.password_file", "redis.password"),
    ("redis.sentinel_password", "redis.sentinel_password_file"),
    ("redis.sentinel_password_file", "redis.sentinel_password"),
];

/// Puts every variable that is set over what the file says.
///
/// # Errors
///
/// Two variables for one setting.
pub(super) fn apply(
    tree: &mut Node,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<(), Problem> {
    // An empty variable is one that is not set: templates leave such behind.
    let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
    let set = || VARIABLES.iter().filter_map(|(name, path)| Some((*name, *path, lookup(name)?)));
    // Take away first: the environment may say both, and that is then an error.
    for (_, path, _) in set() {
        for (_, other) in INSTEAD.iter().filter(|(one, _)| *one == path) {
            tree.remove(other);
        }
    }
    let mut taken: Vec<(&str, &str)> = Vec::new();
    for (name, path, meant) in set() {
        if let Some((other, _)) = taken.iter().find(|(_, taken)| *taken == path) {
            let both = Problem::new(format!("is set, and {other} too")).within(path);
            return Err(both.at(Origin::Environment(name)).hint("keep one of them".to_owned()));
        }
        taken.push((name, path));
        let origin = Origin::Environment(name);
        let text = |part: &str| Node {
            origin,
            value: Value::Text(Text {
                typed: part.to_owned(),
                meant: part.to_owned(),
                is_plain: true,
            }),
        };
        let node = match path {
            "redis.addresses" | "revocations.id_key_files" => Node {
                origin,
                value: Value::List(meant.split(',').map(|part| text(part.trim())).collect()),
            },
            _ => text(&meant),
        };
        tree.put(path, node);
        if name == CLUSTER_NODES && set().all(|(_, path, _)| path != "redis.cluster_mode") {
            tree.put("redis.cluster_mode", text("true"));
        }
    }
    Ok(())
}

/// A warning for each variable that looks like ours and is not.
pub(super) fn unknown(names: &[String]) -> Vec<String> {
    names
        .iter()
        .filter(|name| name.starts_with("TIDEGATE_") && !set_by_kubernetes(name))
        .filter(|name| VARIABLES.iter().all(|(known, _)| known != name))
        .map(|name| format!("the environment variable {name} sets nothing"))
        .collect()
}

/// `NAME_SERVICE_HOST`, `NAME_PORT_80_TCP_ADDR` and so on, for services named `tidegate…`.
fn set_by_kubernetes(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}
