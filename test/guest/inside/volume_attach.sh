# shellcheck shell=dash source-path=SCRIPTDIR
# The guest's side of ../volume_attach.sh.
. /lib.sh

start_daemon
blobcachectl put /data/image --name image >/dev/null
for name in crc32c_generic libcrc32c ext4 nbd ublk_drv; do load $name; done

# What is copied: the tree of the image, without what mkfs puts beside it.
mkdir /tmp/source
device=$(blobcachectl attach files/image)
mount_tree "$device"
cp -a /mnt/. /tmp/source/
umount /mnt
blobcachectl detach "$device"

# life_of NAME ATTACH_OPTION...: a volume's life as a device of one driver.
life_of() {
  local name=$1 device big
  shift
  blobcachectl volume create "$name" --size 96MiB >/dev/null
  device=$(blobcachectl attach "volumes/$name" "$@")
  expect_equal 0 "$(cat "/sys/block/${device#/dev/}/ro")" "$name: writable"
  expect_fail 1 'in use' blobcachectl volume rm "$name"
  mkfs.ext4 -q -b 4096 "$device"
  mount -t ext4 "$device" /mnt
  cp -a /tmp/source/. /mnt/
  sync
  check_tree /mnt
  umount /mnt
  blobcachectl detach "$device"

  say "$name: attached again"
  device=$(blobcachectl attach "volumes/$name" "$@")
  e2fsck -fn "$device"
  mount_tree "$device" rw
  rm -r /mnt/deep
  cp -a /tmp/source/deep /mnt/
  [ ! -x /bin/fstrim ] || fstrim /mnt || true
  drop_caches
  check_tree /mnt

  say "$name: the daemon dies under writes and comes back"
  big=/mnt/written
  (dd if=/tmp/source/big of=$big bs=64k conv=fsync && sync) >/tmp/write 2>&1 &
  writer=$!
  kill_daemon
  start_daemon
  blobcachectl attach "volumes/$name" "$@" --device "$device" >/dev/null
  wait $writer || fail "the writer failed: $(cat /tmp/write)"
  drop_caches
  expect_same /tmp/source/big $big "what was written meanwhile"
  rm $big
  check_tree /mnt

  say "$name: it grows under the mount"
  blobcachectl volume resize "$name" --size 128MiB >/tmp/resized
  case $device in
    /dev/nbd*)
      expect_equal "$device has the new size" "$(cat /tmp/resized)" "what resize prints"
      expect_equal $((128 << 20)) "$(blockdev --getsize64 "$device")" "the size"
      head -c 8192 /tmp/source/big | dd of="$device" bs=4096 seek=$((32768 - 2)) conv=fsync,notrunc
      drop_caches
      dd if="$device" of=/tmp/end bs=4096 skip=$((32768 - 2))
      head -c 8192 /tmp/source/big | cmp - /tmp/end
      ;;
    *)
      grep -q 'when it is attached anew: .*6\.16' /tmp/resized || fail "resize says $(cat /tmp/resized)"
      expect_equal $((96 << 20)) "$(blockdev --getsize64 "$device")" "the size"
      kill_daemon
      start_daemon
      blobcachectl attach "volumes/$name" "$@" --device "$device" >/dev/null
      ;;
  esac
  drop_caches
  check_tree /mnt
  umount /mnt
  e2fsck -fn "$device"
  blobcachectl detach "$device"
  blobcachectl volume commit "$name" --name "$name.img" >/dev/null
  blobcachectl volume rm "$name"
}

say "by nbd"
life_of one
say "by nbd, over four connections"
life_of many --connections 4
say "by ublk"
if [ -e /modules/ublk_drv.ko ]; then life_of two --ublk; fi
stop_daemon
