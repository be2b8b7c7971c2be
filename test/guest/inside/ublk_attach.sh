# shellcheck shell=dash source-path=SCRIPTDIR
# The guest's side of ../ublk_attach.sh.
. /lib.sh

start_daemon
blobcachectl put /data/image --name image >/tmp/digest
blobcachectl put /data/odd --name odd >/dev/null
for name in crc32c_generic ext4; do load $name; done

say "without the driver"
expect_fail 1 'no ublk driver: modprobe ublk_drv' blobcachectl attach files/image --ublk
expect_fail 1 'no ublk driver: modprobe ublk_drv' blobcachectl detach /dev/ublkb0
load ublk_drv

say "attach, mount, unmount, detach"
device=$(blobcachectl attach files/image --ublk)
expect_equal /dev/ublkb0 "$device" "the first device"
expect_equal 1 "$(cat /sys/block/ublkb0/ro)" "read-only"
expect_same /data/image "$device" "the device"
mount_tree "$device"
expect_fail 1 'mounted on /mnt' blobcachectl detach "$device"
check_tree /mnt
umount /mnt
blobcachectl detach "$device"
expect_fail 1 'not attached' blobcachectl detach "$device"
[ ! -e /dev/ublkc0 ] || fail "the device is still there"

say "attach again, by name"
expect_equal /dev/ublkb3 "$(blobcachectl attach files/image --ublk --device /dev/ublkb3)" "the device"
e2fsck -fn /dev/ublkb3
expect_same /data/image /dev/ublkb3 "the device"
expect_equal /dev/ublkb0 "$(blobcachectl attach files/odd --ublk)" "a second device"
expect_equal 69632 "$(($(cat /sys/block/ublkb0/size) * 512))" "whole sectors"
head -c 69632 /data/odd | cmp - /dev/ublkb0
blobcachectl attach >/tmp/list
grep -q '/dev/ublkb3 .*read-only .*files/image' /tmp/list || fail "ublkb3 is not listed: $(cat /tmp/list)"
grep -q '/dev/ublkb0 .*files/odd' /tmp/list || fail "ublkb0 is not listed: $(cat /tmp/list)"
blobcachectl --json status | grep -q '"ublk_devices": 2' || fail "status does not count them"
expect_fail 1 'other content' blobcachectl attach files/odd --ublk --device /dev/ublkb3
expect_fail 1 'in use' blobcachectl attach files/image --ublk --device /dev/ublkb3
blobcachectl evict files/odd --tier ram >/dev/null
drop_caches
head -c 69632 /data/odd | cmp - /dev/ublkb0
blobcachectl detach /dev/ublkb0

say "the daemon dies under a mount and comes back"
mount_tree /dev/ublkb3
drop_caches
kill_daemon
sha256sum /mnt/big >/tmp/read 2>&1 &
reader=$!
sleep 2
alive $reader || fail "the reader did not wait: $(cat /tmp/read)"
start_daemon
alive $reader || fail "the reader did not wait for the recovery: $(cat /tmp/read)"
blobcachectl --json attach files/image --ublk --device /dev/ublkb3 >/tmp/attached
grep -q '"reconnected": true' /tmp/attached || fail "not recovered: $(cat /tmp/attached)"
wait $reader || fail "the reader failed: $(cat /tmp/read)"
expect_equal "$(digest_in_tree ./big)" "$(cut -d' ' -f1 </tmp/read)" "what was read meanwhile"
check_tree /mnt

say "a restart in order"
stop_daemon
start_daemon
blobcachectl attach "$(cat /tmp/digest)" --ublk --device /dev/ublkb3 >/dev/null
drop_caches
check_tree /mnt

say "a device without a daemon can be detached by the next one"
umount /mnt
kill_daemon
start_daemon
blobcachectl detach /dev/ublkb3
[ ! -e /dev/ublkb3 ] || fail "the device is still there"
stop_daemon
