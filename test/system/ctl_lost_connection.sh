#!/bin/bash
# A daemon that is killed during a put or a get is named: the connection to it was lost.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
make_random large 64M
start_daemon
ctl put large --name large >/dev/null
stop_daemon

call_is_open() { [[ $(status_of .grpc.open) != 0 ]]; }

# lost WHAT ADDRESS PID: the command of that pid, which wrote to err, has ended with one line and status 1.
lost() {
  local status=0
  wait "$3" || status=$?
  expect_equal "blobcachectl: $1: the connection to the daemon at $2 was lost" "$(cat err)" "what $1 said"
  expect_equal 1 "$status" "status of $1"
}

# under_way COMMAND ADDRESS ARG...: starts the command, and kills the daemon when it has begun. Its pid is in PID.
under_way() {
  "$BIN/blobcachectl" --endpoint "$2" "$1" "${@:3}" 2>err 7>&- 8>&- &
  PID=$!
  wait_until 30 call_is_open || fail "the $1 never began"
  kill_daemon
}

# A put whose source has not ended, and a get that nobody takes the bytes of: neither can end by itself.
mkfifo source sink
for door in unix tcp; do
  for command in put get; do
    exec 7<>source 8<>sink
    start_daemon --set "grpc.listen=unix:$GRPC_SOCKET,tcp:127.0.0.1:0"
    at=$(sed -n "s/.*grpc listens on \\($door:.*\\)/\\1/p" "$DAEMON_LOG")
    if [[ $command == put ]]; then
      under_way put "$at" source
      echo half >&7
      exec 7>&- 8>&-
      lost 'put source' "$at" "$PID"
    else
      under_way get "$at" files/large -o sink
      exec 9<sink 7>&- 8>&-
      cat <&9 >out
      exec 9<&-
      lost 'get files/large' "$at" "$PID"
    fi
  done
done
