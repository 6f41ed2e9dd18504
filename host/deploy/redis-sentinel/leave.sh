#!/bin/sh
# Before a server ends on purpose: if it is the master, another becomes it, now. Limits go
# uncounted for a second then, not for the time that it takes to notice its death.
set -eu
. "$(dirname "$0")/ask.sh"
. "$(dirname "$0")/word.sh"
: "${NAME:?what others call this server}" "${SENTINELS:?host:port, several}"

# By the sentinels' word: a master that was replaced is told so only after some ten seconds.
is_master() {
  word=$(latest_word) || return 1
  case $word in *" $NAME:$PORT "*) ;; *) return 1 ;; esac
}

is_master || exit 0
for sentinel in $SENTINELS; do
  said=$(ask admin "$sentinel" SENTINEL FAILOVER "$MASTER") || continue
  log "$sentinel: $said"
  case $said in OK | INPROG*) break ;; esac
done
# What cannot be handed over in time ends all the same.
for _ in 1 2 3 4 5 6 7 8 9 10; do
  is_master || exit 0
  sleep 1
done
log 'still the master; ending as it'
