#!/bin/bash
# A file of the tree is a block device of the kernel's ublk driver: it can be attached, mounted, checked, detached, and
# outlives the daemon.
# limit: 600 seconds
. "$(dirname "$0")/lib.sh"
need_guest
guest_image
guest_root
guest_program e2fsck
guest_module ublk_drv crc32c_generic ext4
[[ -e $GUEST_ROOT/modules/ublk_drv.ko ]] || skip "needs a kernel that has ublk"
guest_run "$GUEST_DIR/inside/ublk_attach.sh"
