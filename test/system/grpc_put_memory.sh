#!/bin/bash
# A put streams: the daemon's memory grows by less than 32 MiB while a blob of any size comes in, be it data
# or holes, and the same goes for the client.
. "$(dirname "$0")/lib.sh"

DATA_MIB=256
HOLE_MIB=2048
LIMIT_KIB=$((32 * 1024))

# peak_kib PID: the most that the process has had in memory; reset_peak PID: from now on.
peak_kib() { awk '/^VmHWM:/ {print $2}' "/proc/$1/status"; }
now_kib() { awk '/^VmRSS:/ {print $2}' "/proc/$1/status"; }
reset_peak() { echo 5 >"/proc/$1/clear_refs"; }

# put_within FILE NAME: puts it, and compares the daemon's peak with what it had before.
put_within() {
  local before peak
  reset_peak "$DAEMON_PID"
  before=$(now_kib "$DAEMON_PID")
  ctl put "$1" --name "$2" >/dev/null
  peak=$(peak_kib "$DAEMON_PID")
  echo "$2: the daemon had $before KiB, at most $peak KiB"
  ((peak - before < LIMIT_KIB)) || fail "a put of $1 took $((peak - before)) KiB"
}

start_daemon
head -c "${DATA_MIB}M" /dev/urandom >"$TEST_DIR/data"
truncate -s "${HOLE_MIB}M" "$TEST_DIR/hole"

# Threads and allocators have their working set from the first put on.
head -c 4M "$TEST_DIR/data" >"$TEST_DIR/first"
ctl put "$TEST_DIR/first" >/dev/null

put_within "$TEST_DIR/data" demo/data
put_within "$TEST_DIR/hole" demo/hole

# The client, fed through a pipe so that it can be looked at before it ends.
mkfifo "$TEST_DIR/pipe"
"$BIN/blobcachectl" put - --name demo/piped <"$TEST_DIR/pipe" >/dev/null &
client=$!
exec 3>"$TEST_DIR/pipe"
head -c 16M "$TEST_DIR/data" >&3
before=$(peak_kib "$client")
tail -c +$((16 * 1024 * 1024 + 1)) "$TEST_DIR/data" >&3
peak=$(peak_kib "$client")
exec 3>&-
wait "$client" || fail "the piped put ended with $?"
echo "the client had $before KiB, at most $peak KiB"
((peak - before < LIMIT_KIB)) || fail "the client took $((peak - before)) KiB"

sum=$(sha256_of "$TEST_DIR/data")
expect_equal "$sum" "$(ctl get files/demo/data | sha256_of -)" "what was put from a file"
expect_equal "$sum" "$(ctl get files/demo/piped | sha256_of -)" "what was put from a pipe"
stop_daemon
