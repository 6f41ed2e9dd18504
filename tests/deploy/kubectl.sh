#!/bin/sh
# Stands in for kubectl where the runbook is tried: `exec` runs the command, with a pod's
# variables and its places; what needs no cluster the real one does ($KUBECTL); of the rest the
# words are checked. $LAB has NAME.env and NAME.pid for each pod, and `objects`.
set -eu

known() { grep -qx "$1" "$LAB/objects" || { echo "there is no $1" >&2; exit 1; }; }

# Places in a pod, as places here.
placed() {
  printf %s "$1" | sed "s#/etc/tidegate-redis-passwords#$SECRETS#g; s#/etc/tidegate-redis-tls#$TLS#g
    s#/etc/tidegate-redis#$CONF#g; s#127.0.0.1:6379#127.0.0.1:$PORT#g"
}

if [ "$1" = -n ]; then
  [ "$2" = tidegate ]
  shift 2
fi
case "$1 $2" in
  'exec '*)
    # shellcheck source=/dev/null
    . "$LAB/$2.env"
    [ "$3" = -- ]
    shift 3
    for word; do
      shift
      set -- "$@" "$(placed "$word")"
    done
    exec "$@" ;;
  'create namespace' | 'create secret') exec "$KUBECTL" "$@" ;;
  'apply -k') "$KUBECTL" kustomize "$ROOT/$3" > /dev/null ;;
  'apply -f')
    [ "$3" = - ]
    grep -q '^kind: \(Namespace\|Secret\)$' ;;
  'delete pod')
    known "pod/$3"
    kill -9 "$(cat "$LAB/$3.pid")" ;;
  'rollout status' | 'rollout restart') known "$3" ;;
  'get pods') ;;
  *) echo "not tried: kubectl $*" >&2; exit 1 ;;
esac
