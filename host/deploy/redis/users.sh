#!/bin/sh
# The users of a Redis server or a sentinel, from a template and their passwords.
#
#   users.sh write TEMPLATE FILE   writes an ACL file: PASSWORDS in the template becomes the
#                                  hashes of all lines of that user's file in $SECRETS
#   users.sh reload server         writes it anew for the process that runs here, and has it read:
#   users.sh reload sentinel       after a change of the Secret, without a restart
#
# A file with two lines lets its user in with either password, and everything here signs in with
# the first. So a password is rotated in three steps, each of them reloaded everywhere:
# "old", "old new", "new old" and last "new".
set -eu
. "$(dirname "$0")/ask.sh"

hashes() {
  [ -s "$SECRETS/$1" ] || { log "$SECRETS/$1 holds no password"; return 1; }
  while read -r password || [ -n "$password" ]; do
    [ -z "$password" ] || printf ' #%s' "$(printf %s "$password" | sha256sum | cut -d ' ' -f 1)"
  done < "$SECRETS/$1"
}

write() {
  umask 077
  # Redis takes neither comments nor continued lines in an ACL file; read joins the latter.
  # shellcheck disable=SC2162
  sed '/^#/d; /^$/d' "$1" | while read line; do
    case $line in
      *' PASSWORDS '*)
        user=${line#user }
        user=${user%% *}
        passwords=$(hashes "$user") || exit 1
        echo "${line%% PASSWORDS *}$passwords ${line#* PASSWORDS }" ;;
      *) echo "$line" ;;
    esac
  done > "$2.new"
  mv "$2.new" "$2"
}

# do_ask COMMAND...: as ask, of the process here; anything but OK is a failure.
do_ask() {
  said=$(ask admin "$HERE" "$@")
  [ "$said" = OK ] || { log "$1 $2: $said"; exit 1; }
}

reload() {
  write "$CONF/$1s.acl" "$RUN/users.acl"
  # With the password of before or the new one: both are valid while this goes on.
  do_ask ACL LOAD
  case $1 in
    server)
      do_ask CONFIG SET masterauth "$(password replica)" ;;
    sentinel)
      do_ask SENTINEL SET "$MASTER" auth-pass "$(password sentinel)"
      do_ask SENTINEL CONFIG SET sentinel-pass "$(password peer)" ;;
  esac
}

case "${1-} ${2-} $#" in
  write*3) write "$2" "$3" ;;
  'reload server 2' | 'reload sentinel 2') reload "$2" ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
