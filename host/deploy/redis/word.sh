# What the sentinels say of the master. Not run by itself, but read by others.
# shellcheck shell=sh

# One line for each sentinel that answers: EPOCH HOST:PORT REPLICAS
words() {
  for sentinel in ${SENTINELS-}; do
    # Field and value take a line each.
    told=$(ask probe "$sentinel" SENTINEL MASTER "$MASTER" | awk '
      NR % 2 { field = $0; next } { value[field] = $0 }
      END { if ("config-epoch" in value) print value["config-epoch"], value["num-slaves"] }')
    [ -n "$told" ] || continue
    # The address is another question: while a fail-over is under way, SENTINEL MASTER has the
    # old master's beside the new epoch.
    at=$(ask probe "$sentinel" SENTINEL GET-MASTER-ADDR-BY-NAME "$MASTER" | paste -s -d :)
    echo "${told% *} $at ${told#* }"
  done
}

# The word of the latest epoch, if most sentinels answer: fewer may be a part that was cut off
# before the others made somebody else the master.
latest_word() {
  all=$(echo "${SENTINELS-}" | wc -w)
  words=$(words)
  [ "$(echo "$words" | grep -c .)" -gt $((all / 2)) ] || return 1
  echo "$words" | sort -rn | head -n 1
}
