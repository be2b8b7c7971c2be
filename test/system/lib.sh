# shellcheck shell=bash
# What every system test shares: a folder of its own, a daemon in it, the real clients, and a clean end.
# Use: the first command of a test is  . "$(dirname "$0")/lib.sh"   (README.md beside this file has the rest).
#
# Variables for tests:
#   BIN          where blobcached and blobcachectl are (default: build/bin of this checkout)
#   TEST_DIR     this test's own empty folder, removed at the end
#   STORE        the daemon's store.path; CONFIG its configuration file
#   GRPC_SOCKET, NBD_SOCKET   its sockets;  BLOBCACHE_ENDPOINT is exported for blobcachectl
#   MNT          a folder that nothing is mounted on yet, for mount_at
#   DAEMON_PID, DAEMON_LOG    of the daemon that runs now, or ran last

set -euo pipefail
export LC_ALL=C

LIB_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034  # for tests
SOURCE_DIR=$(cd "$LIB_DIR/../.." && pwd)
BIN=${BIN:-$SOURCE_DIR/build/bin}

TEST_DIR=$(mktemp -d "${TMPDIR:-/tmp}/bc.XXXXXX")
STORE=$TEST_DIR/store
CONFIG=$TEST_DIR/blobcached.toml
GRPC_SOCKET=$TEST_DIR/grpc.sock
NBD_SOCKET=$TEST_DIR/nbd.sock
# shellcheck disable=SC2034  # for tests
MNT=$TEST_DIR/mnt
export BLOBCACHE_ENDPOINT=unix:$GRPC_SOCKET
DAEMON_PID=
DAEMON_LOG=
DAEMON_RUNS=0
BACKGROUND_PIDS=()

# ---------------------------------------------------------------------------------------------- the end

# Unmounts everything beneath this test's folder, the innermost first, and frees its loop devices.
release_mounts() {
  local point device file
  while read -r point; do
    umount "$point" 2>/dev/null || umount -l "$point" 2>/dev/null || fusermount3 -uz "$point" 2>/dev/null || true
  done < <(awk '{print $2}' /proc/self/mounts | grep -F "$TEST_DIR/" | sort -r)
  if command -v losetup >/dev/null; then
    while read -r device file; do
      if [[ $file == "$TEST_DIR/"* ]]; then losetup -d "$device" 2>/dev/null || true; fi
    done < <(losetup -n -l -O NAME,BACK-FILE 2>/dev/null)
  fi
}

# end_process PID SIGNAL SECONDS: sends the signal and waits that long; false when it still runs.
end_process() {
  kill -"$2" "$1" 2>/dev/null || return 0
  wait_until "$3" process_is_gone "$1"
}

process_is_gone() { ! kill -0 "$1" 2>/dev/null; }

# shellcheck disable=SC2317  # called by the trap
cleanup() {
  local status=$? pid
  trap '' HUP INT TERM
  set +e
  if ((status != 0 && status != 77)) && [[ -n $DAEMON_LOG && -f $DAEMON_LOG ]]; then
    echo "--- the daemon's last lines ($DAEMON_LOG):" >&2
    tail -n 40 "$DAEMON_LOG" >&2
  fi
  for pid in "${BACKGROUND_PIDS[@]}"; do
    end_process "$pid" TERM 2 || end_process "$pid" KILL 5
  done
  release_mounts
  if [[ -n $DAEMON_PID ]]; then
    end_process "$DAEMON_PID" TERM 10 || end_process "$DAEMON_PID" KILL 5
  fi
  release_mounts
  rm -rf --one-file-system "$TEST_DIR"
  exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

skip() {
  echo "SKIP: $*"
  exit 77
}

# ------------------------------------------------------------------------------------------ what it needs

# need TOOL...: the test is skipped, by name, when one is missing.
need() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null || skip "needs $tool"
  done
}

need_root() { [[ $(id -u) == 0 ]] || skip "needs root"; }

need_fuse() {
  [[ -c /dev/fuse && -r /dev/fuse && -w /dev/fuse ]] || skip "needs /dev/fuse"
  need fusermount3
}

need_loop() {
  need_root
  need losetup mount umount
  losetup -f >/dev/null 2>&1 || skip "needs a loop device"
}

# --------------------------------------------------------------------------------------------- the daemon

# wait_until SECONDS CMD...: runs CMD over and over until it succeeds; false after that many seconds.
wait_until() {
  local end=$((SECONDS + $1 + 1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.02
  done
}

# Writes $CONFIG, unless the test wrote one itself.
write_config() {
  [[ ! -e $CONFIG ]] || return 0
  cat >"$CONFIG" <<TOML
[store]
path = "$STORE"
memory = "64MiB"
disk = "4GiB"
disk_reserve = "0"

[nbd]
listen = ["unix:$NBD_SOCKET"]

[grpc]
listen = ["unix:$GRPC_SOCKET"]

[metrics]
listen = "127.0.0.1:0"
TOML
}

# log_says REGEX (extended), and the same waited for.
log_says() { grep -Eq -- "$1" "$DAEMON_LOG"; }
wait_for_log() { wait_until 30 log_says "$1" || fail "the log never said /$1/"; }

daemon_says_ready() { grep -Eq '(^|[^[:alnum:]_])ready([^[:alnum:]_]|$)' "$DAEMON_LOG"; }
daemon_is_ready_or_gone() { daemon_says_ready || process_is_gone "$DAEMON_PID"; }

# start_daemon [--set KEY=VALUE ...]: starts blobcached on $STORE and waits until it is ready. Set the array
# DAEMON_PREFIX to start it through a command that execs it (prlimit, nice).
start_daemon() {
  [[ -z $DAEMON_PID ]] || fail "start_daemon: a daemon runs already ($DAEMON_PID)"
  mkdir -p "$STORE"
  write_config
  DAEMON_RUNS=$((DAEMON_RUNS + 1))
  DAEMON_LOG=$TEST_DIR/daemon.$DAEMON_RUNS.log
  : >"$DAEMON_LOG"
  local prefix=("${DAEMON_PREFIX[@]:-env}")
  "${prefix[@]}" "$BIN/blobcached" --config "$CONFIG" "$@" >"$DAEMON_LOG" 2>&1 </dev/null &
  DAEMON_PID=$!
  if ! wait_until 60 daemon_is_ready_or_gone; then
    fail "blobcached was not ready within 60 seconds"
  elif ! daemon_says_ready; then
    local status=0
    wait "$DAEMON_PID" || status=$?
    DAEMON_PID=
    fail "blobcached ended with $status before it was ready"
  fi
}

# daemon_once [ARG...]: runs blobcached in the foreground with this test's configuration, for starts that
# must fail (under expect_fail) and for --check; ended after 30 seconds.
daemon_once() {
  mkdir -p "$STORE"
  write_config
  timeout -k 5 30 "$BIN/blobcached" --config "$CONFIG" "$@" </dev/null
}

# stop_daemon: SIGTERM; it must end with status 0 within 30 seconds.
stop_daemon() {
  [[ -n $DAEMON_PID ]] || fail "stop_daemon: no daemon runs"
  local pid=$DAEMON_PID status=0
  end_process "$pid" TERM 30 || fail "blobcached did not end within 30 seconds of SIGTERM"
  DAEMON_PID=
  wait "$pid" || status=$?
  ((status == 0)) || fail "blobcached ended with status $status after SIGTERM"
}

# kill_daemon: SIGKILL; as if the power of the process were cut.
kill_daemon() {
  [[ -n $DAEMON_PID ]] || fail "kill_daemon: no daemon runs"
  local pid=$DAEMON_PID gone=1
  # The shell would say "Killed" on stderr.
  {
    end_process "$pid" KILL 30 || gone=
    [[ ! $gone ]] || wait "$pid" || true
  } 2>/dev/null
  [[ $gone ]] || fail "blobcached did not end within 30 seconds of SIGKILL"
  DAEMON_PID=
}

# in_background CMD...: starts CMD; cleanup ends it. Its pid is in BACKGROUND_PID.
in_background() {
  # The shell gives a background command no input, unless it is told to.
  "$@" <&0 &
  BACKGROUND_PID=$!
  BACKGROUND_PIDS+=("$BACKGROUND_PID")
}

# ------------------------------------------------------------------------------------------- the clients

ctl() { "$BIN/blobcachectl" "$@"; }

# status_of JQ_PATH: one number of `blobcachectl --json status`, e.g. status_of .memory.used
status_of() {
  local value
  value=$(ctl --json status | jq -er "$1") || fail "status has no $1"
  echo "$value"
}

# nbd_uri PATH: the NBD URI of an export of this daemon.
nbd_uri() {
  local path=$1 out='' c i
  for ((i = 0; i < ${#path}; i++)); do
    c=${path:i:1}
    if [[ $c == [A-Za-z0-9._~/-] ]]; then out+=$c; else out+=$(printf '%%%02X' "'$c"); fi
  done
  echo "nbd+unix:///$out?socket=$NBD_SOCKET"
}

# mount_at DIR / unmount_at DIR: the daemon mounts the tree there, and unmounts it.
mount_at() {
  # A mount that a killed daemon left cannot be looked at; the daemon takes it away.
  mkdir -p "$1" 2>/dev/null || true
  ctl mount "$1"
  mountpoint -q "$1" || fail "mount $1 succeeded, but nothing is mounted there"
}

unmount_at() {
  ctl umount "$1"
  if mountpoint -q "$1"; then fail "umount $1 succeeded, but it is still mounted"; fi
}

# mount_files_at DIR / unmount_files_at DIR: the same of what is beneath files/, at DIR/files; with WRITEBACK set it is
# a mount of files/ alone, whose kernel holds back what is written.
mount_files_at() {
  if [[ -z ${WRITEBACK-} ]]; then
    mount_at "$1"
    return
  fi
  mkdir -p "$1" 2>/dev/null || true
  mkdir -p "$1/files" 2>/dev/null || true
  ctl mount --subtree files --writeback-cache "$1/files"
  mountpoint -q "$1/files" || fail "mount $1/files succeeded, but nothing is mounted there"
}

unmount_files_at() { unmount_at "$1${WRITEBACK:+/files}"; }

# ------------------------------------------------------------------------------------------------ checks

# expect_fail CODE REGEX CMD...: CMD must end with CODE ("any": anything but 0) and say REGEX (extended) on
# stderr, which is left in $TEST_DIR/expect.err.
expect_fail() {
  local code=$1 regex=$2 status=0
  shift 2
  "$@" >"$TEST_DIR/expect.out" 2>"$TEST_DIR/expect.err" || status=$?
  if [[ $code == any ]]; then
    ((status != 0)) || fail "succeeded, should have failed: $*"
  elif ((status != code)); then
    sed 's/^/    /' "$TEST_DIR/expect.err" >&2
    fail "ended with status $status, not $code: $*"
  fi
  if ! grep -Eq -- "$regex" "$TEST_DIR/expect.err"; then
    sed 's/^/    /' "$TEST_DIR/expect.err" >&2
    fail "stderr does not match /$regex/: $*"
  fi
}

# expect_equal EXPECTED ACTUAL WHAT
expect_equal() { [[ $1 == "$2" ]] || fail "$3: expected $1, got $2"; }

# expect_same FILE FILE WHAT
expect_same() { cmp "$1" "$2" || fail "$3: bytes differ"; }

# sha256_of FILE (- is standard input): the hex digits alone.
sha256_of() { sha256sum "$1" | cut -d' ' -f1; }

# make_random FILE SIZE [SEED]: bytes that do not compress, the same for the same seed (default: the file's
# name). SIZE as `head -c` takes it: 4096, 512K, 64M.
make_random() {
  need openssl
  local seed
  seed=${3:-$(basename "$1")}
  head -c "$2" /dev/zero | openssl enc -aes-128-ctr -nosalt -pbkdf2 -iter 1 -pass "pass:$seed" >"$1"
}
