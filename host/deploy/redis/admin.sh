#!/bin/sh
# For a person: redis-cli as the user admin, to the server or sentinel in this pod.
#
#   admin.sh INFO replication
#   admin.sh --cluster check 127.0.0.1:6379
set -eu
. "$(dirname "$0")/ask.sh"
cli admin "$HERE" "$@"
