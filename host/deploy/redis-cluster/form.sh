#!/bin/sh
# Makes one cluster of nodes that are none yet; of nodes that are one already it makes nothing.
set -eu
. "$(dirname "$0")/ask.sh"
: "${NODES:?host:port, all of them}" "${REPLICAS:=1}"

info() { ask admin "$1" CLUSTER INFO | tr -d '\r' | sed -n "s/^$2://p"; }

addresses=
for node in $NODES; do
  until [ "$(ask admin "$node" PING)" = PONG ]; do
    log "waiting for $node"
    sleep 1
  done
  if [ "$(info "$node" cluster_known_nodes)" -gt 1 ]; then
    log "$node is in a cluster already: nothing to do"
    exit 0
  fi
  # Nodes are introduced by address; they tell each other their names.
  addresses="$addresses $(address_of "${node%:*}"):${node##*:}"
done
# shellcheck disable=SC2086
cli admin "${NODES%% *}" --cluster create $addresses --cluster-replicas "$REPLICAS" --cluster-yes
