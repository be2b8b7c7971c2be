#!/bin/bash
# A client that is killed in the middle of a put leaves nothing behind in the daemon.
. "$(dirname "$0")/lib.sh"
need jq

make_random "$TEST_DIR/file" 12M
digest=$(sha256_of "$TEST_DIR/file")
no_temporary_files() { [[ -z $(find "$STORE/tmp" -type f 2>/dev/null) ]]; }
received() { (($(ctl --json status | jq .grpc.bytes_in) >= $1)); }

start_daemon
empty=$(status_of .disk.used)

mkfifo "$TEST_DIR/pipe"
for signal in KILL TERM INT; do
  base=$(status_of .grpc.bytes_in)
  # Both ends are held open, so that only the signal ends the put.
  exec 9<>"$TEST_DIR/pipe"
  in_background "$BIN/blobcachectl" put - --name demo/cut <"$TEST_DIR/pipe" 9>&-
  put=$BACKGROUND_PID
  cat "$TEST_DIR/file" >&9
  wait_until 60 received $((base + 4 * 1048576)) || fail "the put did not arrive"
  # SIGINT is ignored by what bash starts in the background, unless the program itself asks for it.
  kill "-$signal" "$put"
  if ! wait_until 10 process_is_gone "$put"; then
    [[ $signal == INT ]] || fail "blobcachectl did not end on SIG$signal"
    kill -KILL "$put"
  fi
  exec 9>&-
  expect_fail 1 'demo/cut' ctl get files/demo/cut
  expect_fail 1 'blobcachectl: ' ctl stat "sha256:$digest"
  wait_until 30 no_temporary_files || fail "left in tmp/: $(find "$STORE/tmp" -type f)"
  expect_equal "$empty" "$(status_of .disk.used)" "disk used after a put that was cut short by SIG$signal"
done

# The same put, whole, works afterwards.
expect_equal "sha256:$digest" "$(ctl put "$TEST_DIR/file" --name demo/cut)" "put after the cut ones"
stop_daemon
