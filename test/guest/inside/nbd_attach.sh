# shellcheck shell=dash source-path=SCRIPTDIR
# The guest's side of ../nbd_attach.sh.
. /lib.sh

connections_of() { cat "/proc/$DAEMON_PID/task/"*/comm | grep -c '^nbd-conn$' || true; }
connections_are() { [ "$(connections_of)" -eq "$1" ]; }

start_daemon
blobcachectl put /data/image --name image >/tmp/digest
blobcachectl put /data/odd --name odd >/dev/null
for name in crc32c_generic libcrc32c ext4; do load $name; done

say "without the driver"
expect_fail 1 'no nbd driver: modprobe nbd' blobcachectl attach files/image
expect_fail 1 'no nbd driver: modprobe nbd' blobcachectl detach /dev/nbd0
load nbd

say "attach, mount, unmount, detach"
device=$(blobcachectl attach files/image)
expect_equal /dev/nbd0 "$device" "the first device"
expect_equal 1 "$(cat /sys/block/nbd0/ro)" "read-only"
expect_same /data/image "$device" "the device"
mount_tree "$device"
expect_fail 1 'mounted on /mnt' blobcachectl detach "$device"
check_tree /mnt
umount /mnt
blobcachectl detach "$device"
expect_fail 1 'not attached' blobcachectl detach "$device"
wait_until 30 connections_are 0 || fail "$(connections_of) connections are left"

say "attach again, by name, with three connections"
expect_equal /dev/nbd3 "$(blobcachectl attach files/image --device /dev/nbd3 --connections 3 --timeout 5)" "the device"
connections_are 3 || fail "$(connections_of) connections"
e2fsck -fn /dev/nbd3
expect_same /data/image /dev/nbd3 "the device"
blobcachectl attach | grep -q '/dev/nbd3 .*files/image' || fail "it is not listed"
expect_equal /dev/nbd0 "$(blobcachectl attach files/odd)" "a second device"
expect_equal 69632 "$(($(cat /sys/block/nbd0/size) * 512))" "whole sectors"
head -c 69632 /data/odd | cmp - /dev/nbd0

say "what is in use"
expect_fail 1 'other content' blobcachectl attach files/odd --device /dev/nbd3
blobcachectl attach files/image --device /dev/nbd3 >/dev/null
# shellcheck disable=SC2217  # it has the device open, no more
sleep 1000 </dev/nbd0 &
holder=$!
expect_fail 1 'have it open' blobcachectl detach nbd0
kill $holder
wait $holder || true
wait_until 30 test ! -e /sys/block/nbd0/pid || fail "nbd0 is still there"

say "the daemon dies under a mount and comes back"
mount_tree /dev/nbd3
drop_caches
kill_daemon
sha256sum /mnt/big >/tmp/read 2>&1 &
reader=$!
sleep 2
alive $reader || fail "the reader did not wait: $(cat /tmp/read)"
expect_fail 3 'cannot reach' blobcachectl attach files/image --device /dev/nbd3
start_daemon
alive $reader || fail "the reader did not wait for the connections: $(cat /tmp/read)"
blobcachectl --json attach files/image --device /dev/nbd3 >/tmp/attached
grep -q '"reconnected": true' /tmp/attached || fail "not reconnected: $(cat /tmp/attached)"
wait $reader || fail "the reader failed: $(cat /tmp/read)"
expect_equal "$(digest_in_tree ./big)" "$(cut -d' ' -f1 </tmp/read)" "what was read meanwhile"
check_tree /mnt

say "a name that is bound anew is other content"
blobcachectl put /data/odd --name image >/dev/null
expect_fail 1 'other content' blobcachectl attach files/image --device /dev/nbd3
kill_daemon
start_daemon
blobcachectl attach "$(cat /tmp/digest)" --device /dev/nbd3 >/dev/null
drop_caches
check_tree /mnt

say "a device without a daemon can be detached, and who waits for it fails"
umount /mnt
kill_daemon
drop_caches
sha256sum /dev/nbd3 >/tmp/read 2>&1 &
reader=$!
sleep 1
alive $reader || fail "the reader did not wait: $(cat /tmp/read)"
blobcachectl detach /dev/nbd3
if wait $reader; then fail "the reader did not fail: $(cat /tmp/read)"; fi
expect_equal "no device is attached" "$(blobcachectl attach)" "the list"

say "nbd-client attaches it, too, by netlink and by the older calls"
start_daemon
blobcachectl put /data/image --name image >/dev/null
blobcachectl volume create v --size 24MiB >/dev/null
for older in "" -nonetlink; do
  # shellcheck disable=SC2086  # one option, or none
  nbd-client -unix /tmp/nbd.sock /dev/nbd7 -N files/image -b 4096 $older
  # By the older calls it returns a moment before the device is there.
  wait_until 30 cmp -s /data/image /dev/nbd7 || fail "nbd-client's device: bytes differ"
  mount_tree /dev/nbd7
  umount /mnt
  nbd-client -d /dev/nbd7
  wait_until 30 test ! -e /sys/block/nbd7/pid || fail "nbd-client's device is still there"
  wait_until 30 connections_are 0 || fail "$(connections_of) connections are left"
done
# Another one: the older calls leave a device read-only.
nbd-client -unix /tmp/nbd.sock /dev/nbd9 -N volumes/v -b 4096
write_image() { dd if=/data/image of=/dev/nbd9 bs=1M conv=notrunc,fsync 2>/tmp/dd; }
wait_until 30 write_image || fail "writing to nbd-client's device: $(cat /tmp/dd)"
nbd-client -d /dev/nbd9
wait_until 30 connections_are 0 || fail "$(connections_of) connections are left"
stop_daemon
start_daemon
blobcachectl attach volumes/v --device /dev/nbd8 >/dev/null
expect_same /data/image /dev/nbd8 "what nbd-client wrote"
blobcachectl detach /dev/nbd8
