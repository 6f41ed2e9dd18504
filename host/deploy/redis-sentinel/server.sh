#!/bin/sh
# Starts a Redis server as what the sentinels say that it is: the master, or a replica of it.
#
# No server is master by its own word. One that was, and comes back after a fail-over, would else
# be a second master for some ten seconds, and what it was told then would be lost. So it waits
# until most sentinels answer; they need no Redis to start.
set -eu
. "$(dirname "$0")/ask.sh"
. "$(dirname "$0")/word.sh"
: "${NAME:?what others call this server}" "${SENTINELS:?host:port, several}"

# Sets `master` to the one to follow, or to nothing for the master itself; fails if it cannot be
# told yet.
decide() {
  master=
  word=$(latest_word) || { log 'waiting for most sentinels to answer'; return 1; }
  # shellcheck disable=SC2086
  set -- $word
  [ "$2" != "$NAME:$PORT" ] || {
    # A master whose disk is lost would take its replicas' data with it.
    [ -e "$DATA/appendonlydir" ] || [ "$3" = 0 ] || {
      log "empty, and should be master of $3 replicas: waiting for one of them to be it"
      return 1
    }
    return 0
  }
  master="${2%:*} ${2##*:}"
}

umask 077
mkdir -p "$RUN"
sh "$(dirname "$0")/users.sh" write "$CONF/servers.acl" "$RUN/users.acl"
until decide; do sleep 1; done
{
  echo "include $CONF/redis.conf"
  echo "dir $DATA"
  echo "aclfile $RUN/users.acl"
  echo "replica-announce-ip $NAME"
  echo "replica-announce-port $PORT"
  echo 'masteruser replica'
  printf '%s\n' "masterauth $(quoted "$(password replica)")"
  [ -z "$master" ] || echo "replicaof $master"
  listening
} > "$RUN/redis.conf"
log "starting as ${master:+a replica of }${master:-the master} (by sentinels' word: $word)"
exec redis-server "$RUN/redis.conf"
