#!/bin/sh
# Starts a node of the cluster, and introduces it to its peers again: it comes back with its data
# and its name, but at another address, and so may they.
set -eu
. "$(dirname "$0")/ask.sh"
: "${NAME:?what others call this node}" "${BUS_PORT:=16379}"
: "${ADDRESS:?of this pod}" "${NODES:?host:port, all of them}"

# Seconds that a node has to come up, and its peers' names to be known.
REJOIN_MAX=300

# The node here is one of a cluster, if it knows of others.
is_member() {
  known=$(ask admin "$HERE" CLUSTER INFO | tr -d '\r' | sed -n 's/^cluster_known_nodes://p')
  [ "${known:-0}" -gt 1 ]
}

# A node that was never in a cluster stays alone: form.sh makes the cluster.
rejoin() {
  tried=0
  until [ "$(ask admin "$HERE" PING)" = PONG ]; do
    tried=$((tried + 1))
    kill -0 $$ || return
    [ "$tried" -lt "$REJOIN_MAX" ] || return
    sleep 1
  done
  is_member || return 0
  for peer in $NODES; do
    until peer_address=$(address_of "${peer%:*}"); do
      tried=$((tried + 1))
      [ "$tried" -lt "$REJOIN_MAX" ] || return
      sleep 1
    done
    # The bus is as far from the port as it is here.
    ask admin "$HERE" CLUSTER MEET "$peer_address" "${peer##*:}" \
      $((${peer##*:} + BUS_PORT - PORT)) > /dev/null || true
  done
}

umask 077
mkdir -p "$RUN"
sh "$(dirname "$0")/users.sh" write "$CONF/servers.acl" "$RUN/users.acl"
{
  echo "include $CONF/redis.conf"
  # Addresses, not networks. The probes ask at the second.
  echo "bind $ADDRESS 127.0.0.1"
  echo "dir $DATA"
  echo "aclfile $RUN/users.acl"
  echo "cluster-config-file $DATA/nodes.conf"
  echo "cluster-port $BUS_PORT"
  echo "cluster-announce-ip $ADDRESS"
  echo "cluster-announce-hostname $NAME"
  echo 'masteruser replica'
  printf '%s\n' "masterauth $(quoted "$(password replica)")"
  listening
  ! has_tls || echo 'tls-cluster yes'
} > "$RUN/redis.conf"
rejoin &
exec redis-server "$RUN/redis.conf"
