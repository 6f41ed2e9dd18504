#!/bin/sh
# Before a node ends on purpose: if it is a master, one of its replicas becomes it, now. Its shard
# goes without for milliseconds then, not for the seconds that it takes to notice its death.
set -eu
. "$(dirname "$0")/ask.sh"

is_master() { [ "$(ask probe "$HERE" ROLE | head -n 1)" = master ]; }

is_master || exit 0
id=$(ask admin "$HERE" CLUSTER MYID)
# A replica that has not caught up says OK and gives up after five seconds.
for _ in 1 2; do
  # ID HOST:PORT@BUS,NAME FLAGS ...
  replicas=$(ask admin "$HERE" CLUSTER REPLICAS "$id" |
    awk '$3 !~ /fail|noaddr/ { print $2 }')
  for replica in $replicas; do
    said=$(ask admin "${replica%@*}" CLUSTER FAILOVER) || continue
    log "$replica: $said"
    [ "$said" != OK ] || break
  done
  for _ in 1 2 3 4 5 6; do
    is_master || exit 0
    sleep 1
  done
done
log 'still a master; ending as it'
