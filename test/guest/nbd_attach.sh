#!/bin/bash
# A file of the tree is a block device of the kernel's nbd driver: it can be attached, mounted, checked, detached, and
# outlives the daemon.
# limit: 600 seconds
. "$(dirname "$0")/lib.sh"
need_guest
guest_image
guest_root
need nbd-client
guest_program e2fsck nbd-client
guest_module nbd crc32c_generic libcrc32c ext4
guest_run "$GUEST_DIR/inside/nbd_attach.sh"
