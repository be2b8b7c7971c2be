#!/bin/bash
# A client that is killed while answers are on their way to it leaves nothing pinned in the daemon, which serves on.
. "$(dirname "$0")/lib.sh"
need jq curl mkfifo

make_random "$TEST_DIR/image" 24M
start_daemon
port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
pinned_frames() { curl -sf "http://127.0.0.1:$port/metrics" | awk '$1 == "blobcache_pinned_frames" { print $2 + 0 }'; }
pins_are_held() { (($(pinned_frames) > 0)); }
pins_are_gone() { (($(pinned_frames) == 0)); }

ctl put "$TEST_DIR/image" --name image >/dev/null
ctl get files/image -o /dev/null
wait_until 30 pins_are_gone || fail "$(pinned_frames) frames are pinned with no reader"
mkfifo "$TEST_DIR/pipe"
for signal in KILL TERM; do
  # Nobody reads the pipe, so the client takes no more than a little.
  exec 9<>"$TEST_DIR/pipe"
  in_background "$BIN/blobcachectl" get files/image >&9 9>&-
  reader=$BACKGROUND_PID
  wait_until 30 pins_are_held || fail "a reader that does not get on holds nothing: the test measured something else"
  end_process "$reader" "$signal" 10 || fail "blobcachectl did not end on SIG$signal"
  exec 9>&-
  wait_until 30 pins_are_gone || fail "$(pinned_frames) frames are still pinned after SIG$signal"
  ctl get files/image | cmp - "$TEST_DIR/image" || fail "a get after SIG$signal"
done
stop_daemon
