#!/bin/bash
# What attach and detach refuse, each in one line that says why, without a kernel driver (test/guest has one).
. "$(dirname "$0")/lib.sh"
need jq openssl

# refused CODE REGEX ARG...: as expect_fail, nothing on stdout and one line on stderr.
refused() {
  local code=$1 regex=$2
  shift 2
  expect_fail "$code" "^blobcachectl: $regex" "$BIN/blobcachectl" "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr of: $*"
  expect_equal 0 "$(stat -c %s "$TEST_DIR/expect.out")" "bytes on stdout of: $*"
}

# --- what can never be right
refused 2 'attach --device /dev/sda: a device is named as in /dev/nbd0' attach files/a --device /dev/sda
refused 2 'attach --device /dev/nbd0p1: ' attach files/a --device /dev/nbd0p1
refused 2 'attach --device /dev/nbd40000: ' attach files/a --device /dev/nbd40000
refused 2 'attach files/../a: bad path' attach files/../a
refused 2 'attach: a path is missing' attach --device /dev/nbd0
refused 2 'attach: .*--connections' attach files/a --connections 100
refused 2 'attach: .*--timeout' attach files/a --timeout 0
refused 2 'attach: .*--dead-timeout' attach files/a --dead-timeout never
refused 2 'detach /dev/null: a device is named as in /dev/nbd0' detach /dev/null
refused 2 'detach: DEVICE is required' detach

# --- nobody to ask
refused 3 "cannot reach unix:$GRPC_SOCKET: is blobcached running\\?" attach files/a

# --- what the daemon has to say
make_random "$TEST_DIR/disk" 300000
start_daemon --set 'nbd.exports=["files/open/**"]'
ctl put "$TEST_DIR/disk" --name open/disk >/dev/null
ctl put "$TEST_DIR/disk" --name hidden >/dev/null
head -c 511 "$TEST_DIR/disk" | ctl put - --name open/crumb >/dev/null
refused 1 'attach files/nope: no such file' attach files/nope
refused 1 'attach nope: .*names are under files/, as in files/nope' attach nope
refused 1 'attach files/open: a directory cannot be attached' attach files/open
refused 1 'attach files/hidden: the daemon does not export it \(nbd.exports\)' attach files/hidden
refused 1 'attach files/open/crumb: it is smaller than a sector' attach files/open/crumb
stop_daemon

openssl rand -hex 32 | sed 's/^/alice:/' >"$TEST_DIR/keys.psk"
chmod 600 "$TEST_DIR/keys.psk"
start_daemon --set nbd.tls=require --set "nbd.tls_psk=$TEST_DIR/keys.psk"
refused 1 'attach files/open/disk: the NBD server requires TLS, which the kernel.s NBD driver' attach files/open/disk
stop_daemon

start_daemon --set 'nbd.listen=[]'
refused 1 'attach files/open/disk: the block device door is closed \(nbd.listen is empty\)' attach files/open/disk
stop_daemon

# --- and the kernel
start_daemon
if [[ -d /sys/module/nbd ]]; then
  echo "this machine has the driver; what is said without it is not seen here"
elif [[ $(id -u) != 0 ]]; then
  refused 1 'attach files/open/disk: block devices are for root' attach files/open/disk
  refused 1 'detach /dev/nbd0: block devices are for root' detach /dev/nbd0
else
  refused 1 'attach files/open/disk: the kernel has no nbd driver: modprobe nbd' attach files/open/disk
  refused 1 'detach nbd7: the kernel has no nbd driver: modprobe nbd' detach nbd7
  if command -v setpriv >/dev/null; then
    cp "$BIN/blobcachectl" "$TEST_DIR/ctl"
    chmod 711 "$TEST_DIR"
    expect_fail 1 'block devices are for root' \
      setpriv --reuid=65534 --regid=65534 --clear-groups "$TEST_DIR/ctl" detach /dev/nbd0
  fi
  expect_equal "no device is attached" "$(ctl attach)" "the list"
  expect_equal '[]' "$(ctl --json attach | jq -c .devices)" "the list"
fi
stop_daemon
