#!/bin/bash
# While no name server answers: what is open is read on, servers that were known are reached, no timeout is exceeded,
# and the daemon ends.
if [[ -z ${OWN_NETWORK-} ]]; then
  OWN_NETWORK=no
  # With files and a network of its own, where the test decides what names mean.
  if [[ $(id -u) == 0 ]] && unshare -m -n true 2>/dev/null; then OWN_NETWORK=yes exec unshare -m -n bash "$0"; fi
fi
. "$(dirname "$0")/lib.sh"
[[ $OWN_NETWORK == yes ]] || skip "needs root and namespaces"
need ip jq nbdkit nbdcopy nbdinfo python3
need_fuse
ip link set lo up

# names NAME...: those that the machine itself knows, all of this address; for all others it asks a server.
names() { echo "127.0.0.1 localhost $*" >"$TEST_DIR/hosts"; }
names slow.test
echo "nameserver 127.0.0.77" >"$TEST_DIR/resolv.conf"
echo "hosts: files dns" >"$TEST_DIR/nsswitch.conf"
for file in hosts resolv.conf nsswitch.conf; do
  [[ -e /etc/$file ]] || skip "needs /etc/$file"
  mount --bind "$TEST_DIR/$file" "/etc/$file"
done
# Takes every question, and answers none.
in_background python3 -c '
import signal, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.77", 53))
    signal.pause()'

# seconds_of CMD...: how long it takes, in whole seconds; its failure is no failure here.
seconds_of() {
  local begun=$SECONDS
  "$@" >"$TEST_DIR/said" 2>&1 || true
  echo $((SECONDS - begun))
}
is_up() { nbdinfo --size nbd://127.0.0.1:20999/ >/dev/null 2>&1; }

make_random "$TEST_DIR/raw" 16M
in_background nbdkit -f -i 127.0.0.1 -p 20999 file "$TEST_DIR/raw"
wait_until 60 is_up || fail "the server does not answer"
write_config
for name in slow gone; do
  cat >>"$CONFIG" <<TOML
[[origin]]
name = "$name"
type = "nbd"
url = "nbd://$name.test:20999/x"
connect_timeout = "2s"
request_timeout = "20s"
TOML
done
start_daemon
mount_at "$MNT"

# While one has it open, and has read a part of it, the name servers go away.
exec 9<"$MNT/origins/slow/x"
head -c 4096 <&9 >"$TEST_DIR/read"
names
ctl get origins/gone/x -o "$TEST_DIR/none" 2>/dev/null &
begun=$SECONDS
cat <&9 >>"$TEST_DIR/read"
((SECONDS - begun < 8)) || fail "what is open waited for a name: $((SECONDS - begun)) seconds"
exec 9<&-
expect_same "$TEST_DIR/raw" "$TEST_DIR/read" "what was open"

# Another comes, with the address that was known.
nbdcopy "$(nbd_uri origins/slow/x)" "$TEST_DIR/again"
expect_same "$TEST_DIR/raw" "$TEST_DIR/again" "a server that was known"

# Of one that was never known the error comes in time, and says why.
took=$(seconds_of ctl get origins/gone/x -o "$TEST_DIR/none")
((took < 8)) || fail "connect_timeout was 2 s, and it took $took s"
grep -q 'name is still being looked up' "$TEST_DIR/said" || fail "the error does not tell of the name"

# The end does not wait for those that still hang.
unmount_at "$MNT"
ctl get origins/gone/x -o "$TEST_DIR/none" 2>/dev/null &
sleep 0.3
begun=$SECONDS
stop_daemon
((SECONDS - begun < 8)) || fail "the end took $((SECONDS - begun)) seconds"
