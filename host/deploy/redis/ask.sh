# How the scripts here ask a server: where things are, and as whom. Not run by itself, but read
# by the others. Every place is a variable, whose default is where the manifests mount it.
# shellcheck shell=sh

: "${CONF:=/etc/tidegate-redis}"              # what the ConfigMaps hold
: "${SECRETS:=/etc/tidegate-redis-passwords}" # a file for each user: a password a line
: "${TLS:=/etc/tidegate-redis-tls}"           # tls.crt, tls.key, ca.crt: then TLS, and nothing else
: "${RUN:=/run/redis}"                        # written at each start
: "${DATA:=/data}"                            # kept
: "${PORT:?of the server or sentinel here}"
: "${MASTER:=tidegate}"                       # what the sentinels call the master

# So long may one question take, all of it. Seconds.
ASK_MAX=2

# shellcheck disable=SC2034 # for those who read this
HERE=127.0.0.1:$PORT

log() { echo "$(basename "$0"): $*" >&2; }

has_tls() { [ -s "$TLS/tls.crt" ]; }

# The password that USER signs in with: the first line. Others are valid too, see users.sh.
password() { head -n 1 "$SECRETS/$1"; }

# cli USER HOST:PORT ARGUMENTS...: redis-cli, signed in. Its -h takes a host, not host:port.
cli() (
  user=$1 at=$2
  shift 2
  REDISCLI_AUTH=$(password "$user") && export REDISCLI_AUTH
  has_tls && set -- --tls --cacert "$TLS/ca.crt" "$@"
  exec ${ASK_LIMIT-} redis-cli --no-auth-warning --user "$user" -h "${at%:*}" -p "${at##*:}" "$@"
)

# ask USER HOST:PORT COMMAND...: prints the reply, one value a line; also if that is an error,
# for which redis-cli ends with 0 as well. Fails if there is none in time.
ask() (
  ASK_LIMIT="timeout $ASK_MAX"
  cli "$@" 2>&1
)

# The address of a host by name; of an address, itself. Fails while the name is not known.
address_of() (
  found=$(getent ahostsv4 "$1" || getent hosts "$1") || return 1
  echo "${found%%[[:space:]]*}"
)

# A configuration file's lines on where to listen and how to be spoken to.
listening() {
  if has_tls; then
    printf '%s\n' 'port 0' "tls-port $PORT" 'tls-replication yes' 'tls-auth-clients no' \
      "tls-cert-file $TLS/tls.crt" "tls-key-file $TLS/tls.key" "tls-ca-cert-file $TLS/ca.crt"
  else
    echo "port $PORT"
  fi
}

# As a configuration file takes it.
quoted() { printf '"%s"' "$(printf %s "$1" | sed 's/[\\"]/\\&/g')"; }
