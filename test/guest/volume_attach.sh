#!/bin/bash
# A volume is a block device that a file system lives on, by the nbd driver and by ublk: made, filled, synced, checked
# after it was attached anew, and whole after the daemon was killed under it.
# limit: 600 seconds
. "$(dirname "$0")/lib.sh"
need_guest
guest_image
guest_root
need mkfs.ext4
guest_program e2fsck mkfs.ext4
guest_module nbd ublk_drv crc32c_generic libcrc32c ext4
guest_run "$GUEST_DIR/inside/volume_attach.sh"
