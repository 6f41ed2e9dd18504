#!/bin/sh
# Starts a sentinel: its settings from the ConfigMap, its passwords from the Secret, both as they
# are now; and from the file that it wrote itself only what it remembers.
set -eu
. "$(dirname "$0")/ask.sh"
: "${NAME:?what others call this sentinel}" "${QUORUM:=2}"
: "${FIRST:?host:port of the first master}"

file=$DATA/sentinel.conf
memory='^sentinel (myid|monitor|config-epoch|leader-epoch|current-epoch|known-replica|known-sentinel) '

umask 077
mkdir -p "$RUN"
sh "$(dirname "$0")/users.sh" write "$CONF/sentinels.acl" "$RUN/users.acl"
{
  remembered=$(grep -E "$memory" "$file" 2> /dev/null) || true
  case $remembered in
    *'sentinel monitor '*) ;;
    *) echo "sentinel monitor $MASTER ${FIRST%:*} ${FIRST##*:} $QUORUM" ;;
  esac
  [ -z "$remembered" ] || printf '%s\n' "$remembered"
  cat "$CONF/sentinel.conf"
  echo "dir $DATA"
  echo "aclfile $RUN/users.acl"
  echo "sentinel announce-ip $NAME"
  echo "sentinel announce-port $PORT"
  echo 'sentinel sentinel-user peer'
  printf '%s\n' "sentinel sentinel-pass $(quoted "$(password peer)")"
  echo "sentinel auth-user $MASTER sentinel"
  printf '%s\n' "sentinel auth-pass $MASTER $(quoted "$(password sentinel)")"
  listening
} > "$file.new"
mv "$file.new" "$file"
# A master whose name is not known yet ends Sentinel: its pod may not have been made.
until getent hosts "$(sed -n 's/^sentinel monitor [^ ]* \([^ ]*\) .*/\1/p' "$file")" > /dev/null; do
  log 'waiting for the name of the master to be known'
  sleep 1
done
exec redis-server "$file" --sentinel
