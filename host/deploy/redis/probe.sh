#!/bin/sh
# What Kubernetes asks of the process here. Ends with 0 only for a reply that is known to be
# good: redis-cli itself ends with 0 whatever the server says, NOAUTH too.
#
#   probe.sh alive            it answers us, be it that it is loading or busy
#   probe.sh ready server     it is what the sentinels say that it is, and fit for it
#   probe.sh ready sentinel   it could have a master replaced
#   probe.sh ready node       its cluster takes requests
set -eu
. "$(dirname "$0")/ask.sh"
. "$(dirname "$0")/word.sh"

here() { ask probe "$HERE" "$@"; }

unfit() { log "$*"; exit 1; }

alive() {
  said=$(here PING) || unfit "no reply within $ASK_MAX s"
  case $said in
    # A restart would only begin the loading, or the script, anew.
    PONG | LOADING* | BUSY* | MISCONF* | MASTERDOWN*) ;;
    *) unfit "PING: $said" ;;
  esac
}

# Ready is a master that the sentinels call master, and a replica of that master that has its
# data. Without the sentinels' word a server is believed: they are not its fault.
server() {
  role=$(here ROLE) || unfit 'ROLE: no reply'
  # shellcheck disable=SC2086
  set -- $role
  case ${1-} in
    master) mine=$NAME:$PORT ;;
    slave)
      [ "$4" = connected ] || unfit "a replica of $2:$3, but $4"
      mine=$2:$3 ;;
    *) unfit "ROLE: $role" ;;
  esac
  word=$(latest_word) || { log 'no word from most sentinels; taken as it is'; return; }
  # shellcheck disable=SC2086
  set -- $word
  [ "$2" = "$mine" ] || unfit "sentinels say that the master is $2; for this server it is $mine"
}

sentinel() {
  said=$(here SENTINEL CKQUORUM "$MASTER")
  case $said in OK*) ;; *) unfit "CKQUORUM: $said" ;; esac
}

node() {
  said=$(here CLUSTER INFO | tr -d '\r')
  case $said in
    *cluster_state:ok*) ;;
    *) unfit "CLUSTER INFO: $(echo "$said" | head -n 1)" ;;
  esac
}

case $* in
  alive) alive ;;
  'ready server' | 'ready sentinel' | 'ready node') "$2" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
