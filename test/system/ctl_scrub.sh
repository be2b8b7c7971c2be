#!/bin/bash
# A scrub is one at a time, ends with Ctrl-C and with the daemon, and says in one line what it cannot do.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
make_random file 8M
start_daemon
ctl put file --name dir/file >/dev/null

scrub_runs() { [[ $(ctl --json status | jq .scrub.running) == "$1" ]]; }

# A scrub that will not end by itself for hours; its pid is in PID.
begin_scrub() {
  env --default-signal=INT "$BIN/blobcachectl" scrub --rate 1KiB >out 2>err &
  PID=$!
  wait_until 30 scrub_runs true || fail "the scrub never began"
}

# ended STATUS: the scrub of PID has ended with it.
ended() {
  local status=0
  wait "$PID" || status=$?
  expect_equal "$1" "$status" "status of the scrub"
}

# One at a time; status says so.
begin_scrub
expect_fail 1 '^blobcachectl: scrub: a scrub is under way already$' ctl scrub
expect_fail 1 '^blobcachectl: scrub files/dir: a scrub is under way already$' ctl scrub files/dir
ctl status | grep -q '^scrub .*under way' || fail "status"
expect_equal null "$(ctl --json status | jq -c .scrub.last)" "the last scrub"

# Ctrl-C ends it here and in the daemon, and leaves no result.
kill -INT "$PID"
ended 130
wait_until 30 scrub_runs false || fail "the scrub goes on in the daemon"
expect_equal null "$(ctl --json status | jq -c .scrub.last)" "the last scrub"
ctl scrub >/dev/null
expect_equal 1 "$(status_of .scrub.last.objects)" "objects"

# So does a client that is killed, and a daemon that stops.
begin_scrub
kill -KILL "$PID"
wait "$PID" 2>/dev/null || true
wait_until 30 scrub_runs false || fail "the scrub goes on in the daemon"
begin_scrub
stop_daemon
ended 1
# Its last words may come before the connection's end, or not.
grep -Eq '^blobcachectl: scrub: the (daemon is stopping|connection to the daemon at .* was lost)$' err ||
  fail "what the scrub said: $(cat err)"
expect_equal 1 "$(wc -l <err)" "lines on stderr of a scrub whose daemon stopped"
start_daemon

# What can never be right is status 2, what the daemon does not have 1, no daemon 3; one line each.
refused() {
  local code=$1 regex=$2
  shift 2
  expect_fail "$code" "^blobcachectl: $regex" ctl "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr of: $*"
}
for rate in fast -1 1.5.5 10XB /s 99999999999999999999; do refused 2 'scrub --rate: ' scrub "--rate=$rate"; done
refused 2 'scrub: --rate needs a value' scrub --rate
refused 2 'scrub: --rate needs a value' scrub --rate=
refused 2 'scrub files/\.\./x: bad path' scrub files/../x
refused 2 'scrub: one argument too many' scrub files a
refused 2 'scrub: unknown option' scrub --fast
refused 2 'scrub sha256:12: ' scrub sha256:12
refused 1 'scrub files/none: no such file' scrub files/none
refused 1 'scrub dir: .*files/' scrub dir
refused 1 'scrub sha256:.*no such' scrub "sha256:$(printf '%064d' 7)"
refused 2 'gc: one argument too many' gc files
refused 2 'gc: unknown option' gc --all
ctl scrub --rate 100MiB/s files/dir/file >/dev/null
ctl scrub --rate 1G "sha256:$(sha256_of file)" >/dev/null
stop_daemon
refused 3 'cannot reach ' scrub
refused 3 'cannot reach ' gc --dry-run
