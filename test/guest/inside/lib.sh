# shellcheck shell=dash
# What the guests' scripts share. busybox' shell, as root; a script ends with the first command that fails.
#   DAEMON_PID    of the daemon that runs now

export BLOBCACHE_ENDPOINT=unix:/tmp/grpc.sock
DAEMON_PID=

fail() {
  echo "FAIL: $*"
  exit 1
}

say() { echo "guest: $*"; }

# load MODULE: with what it depends on.
load() {
  local line name
  while read -r line; do
    name=${line%% *}
    if [ "$name" = "$1" ]; then
      for needed in ${line#"$name"}; do load "$needed"; done
    fi
  done </modules/depends
  [ ! -e "/modules/$1.ko" ] || grep -q "^$1 " /proc/modules || insmod "/modules/$1.ko"
}

# wait_until SECONDS CMD...: runs CMD over and over until it succeeds.
wait_until() {
  local end=$(($(date +%s) + $1))
  shift
  until "$@"; do
    [ "$(date +%s)" -lt "$end" ] || return 1
    sleep 0.1
  done
}

# --------------------------------------------------------------------------------------------- the daemon

start_daemon() {
  mkdir -p /tmp/store
  : >/tmp/daemon.log
  blobcached --set store.path=/tmp/store --set store.memory=64MiB --set store.disk=256MiB \
    --set store.disk_reserve=0 --set nbd.listen='["unix:/tmp/nbd.sock"]' \
    --set grpc.listen='["unix:/tmp/grpc.sock"]' --set metrics.listen='"127.0.0.1:0"' "$@" \
    >/tmp/daemon.log 2>&1 </dev/null &
  DAEMON_PID=$!
  wait_until 60 grep -qw ready /tmp/daemon.log || fail "the daemon is not ready"
}

kill_daemon() {
  kill -9 "$DAEMON_PID"
  wait "$DAEMON_PID" 2>/dev/null || true
}

stop_daemon() {
  kill "$DAEMON_PID"
  wait "$DAEMON_PID" || fail "the daemon ended with $?"
}

# ------------------------------------------------------------------------------------------------ checks

# expect_fail CODE REGEX CMD...: CMD ends with CODE and says REGEX (extended).
expect_fail() {
  local code=$1 regex=$2 status=0
  shift 2
  "$@" >/tmp/expect 2>&1 || status=$?
  [ "$status" -eq "$code" ] || fail "ended with $status, not $code: $* ($(cat /tmp/expect))"
  grep -Eq -- "$regex" /tmp/expect || fail "said '$(cat /tmp/expect)', not /$regex/: $*"
}

expect_equal() { [ "$1" = "$2" ] || fail "$3: expected $1, got $2"; }

expect_same() { cmp "$1" "$2" || fail "$3: bytes differ"; }

# tree_of FOLDER: each file's digest and path, sorted, to compare two trees by.
tree_of() { (cd "$1" && find . -type f -exec sha256sum {} + | sort -k 2); }

# drop_caches: the next read has to ask the device.
drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }

alive() { kill -0 "$1" 2>/dev/null; }

# ------------------------------------------------------------------------------ what guest_image has made

# check_tree FOLDER: the files of /data/image are there, and no others.
check_tree() {
  tree_of "$1" >/tmp/tree
  expect_same /data/tree /tmp/tree "the tree on $1"
}

# digest_in_tree ./FILE: what its SHA-256 is.
digest_in_tree() { sed -n "s|  $1\$||p" /data/tree; }

# mount_tree DEVICE [OPTIONS]: on /mnt, read-only unless OPTIONS say otherwise.
mount_tree() {
  mount -t ext4 -o "${2:-ro}" "$1" /mnt
  check_tree /mnt
}
