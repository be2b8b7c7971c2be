#!/bin/bash
# blobcached's NBD server beside nbdkit, qemu-nbd and nbd-server on the same image, in one run: see nbd_peers.py --help.
# $BIN is where the programs are (default: build/bin of this checkout).
here=$(cd "$(dirname "$0")" && pwd)
exec python3 "$here/nbd_peers.py" "${BIN:-$here/../build/bin}/blobcached" "$@"
